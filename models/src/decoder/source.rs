//! What is read of a model, whatever it was published in.

use std::fs;
use std::path::{Path, PathBuf};

use loci_digest::Digest;

use super::chat::ChatTemplate;
use super::config::LlamaConfig;
use super::tensors::Tensors;
use super::tokenizer::DecoderTokenizer;
use super::{directory, packed};
use crate::ModelError;

pub(super) struct Source {
    pub config: LlamaConfig,
    pub tensors: Box<dyn Tensors>,
    /// The digest of the weights.
    pub weights: Digest,
    pub tokenizer: DecoderTokenizer,
    pub chat: Option<ChatTemplate>,
    /// The ids that end a text.
    pub ends: Vec<u32>,
}

impl Source {
    /// The model in `path`: a .gguf file, a directory that has nothing else, or a directory with config.json.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let source = match gguf_file(path)? {
            Some(file) => packed::open(&file),
            None => directory::open(path),
        }?;
        let vocabulary = source.config.vocabulary;
        if let Some(end) = source.ends.iter().find(|end| **end as usize >= vocabulary) {
            let reason =
                format!("token {end} ends a text, and the vocabulary has {vocabulary} tokens");
            return Err(ModelError::config(path, reason));
        }
        Ok(source)
    }
}

fn gguf_file(path: &Path) -> Result<Option<PathBuf>, ModelError> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|end| end == "gguf");
    if is_gguf(path) {
        return Ok(Some(path.to_owned()));
    }
    if path.join("config.json").exists() || !path.is_dir() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| ModelError::io(path, e))? {
        let entry = entry.map_err(|e| ModelError::io(path, e))?;
        found.extend(Some(entry.path()).filter(|path| is_gguf(path)));
    }
    if found.len() > 1 {
        found.sort();
        let names: Vec<String> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let reason = format!("has several models, name one: {}", names.join(", "));
        return Err(ModelError::config(path, reason));
    }
    Ok(found.pop())
}
