//! What is read of a model, whatever it was published in.

use std::fs;
use std::path::{Path, PathBuf};

use loci_digest::Digest;

use super::chat::ChatTemplate;
use super::config::LlamaConfig;
use super::tensors::{Shards, Tensors};
use super::tokenizer::DecoderTokenizer;
use super::{directory, packed};
use crate::ModelError;
use crate::gguf::Gguf;

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
    /// The model in `path`: a .gguf file, a directory whose only weights it is, or a directory with config.json.
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

/// Bytes that the model takes while it is loaded: its weights as f32, and the largest tensor once more.
pub(super) fn memory(path: &Path) -> Result<u64, ModelError> {
    let elements = |shape: &[usize]| {
        let sizes = shape.iter().map(|size| *size as u64);
        sizes.fold(4, u64::saturating_mul)
    };
    let sizes: Vec<u64> = match gguf_file(path)? {
        Some(file) => Gguf::open(&file)?.shapes().map(elements).collect(),
        None => Shards::open(path)?.shapes().map(elements).collect(),
    };
    let largest = sizes.iter().copied().max().unwrap_or(0);
    Ok(sizes.into_iter().fold(largest, u64::saturating_add))
}

/// The shape of the network in `path` alone.
pub(super) fn config(path: &Path) -> Result<LlamaConfig, ModelError> {
    match gguf_file(path)? {
        Some(file) => packed::config(&file),
        None => directory::config(path),
    }
}

fn gguf_file(path: &Path) -> Result<Option<PathBuf>, ModelError> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|end| end == "gguf");
    if is_gguf(path) {
        return Ok(Some(path.to_owned()));
    }
    let has = |name: &str| path.join(name).exists();
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    if !path.is_dir() || has("config.json") && weights.into_iter().any(has) {
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
