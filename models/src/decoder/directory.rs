//! A model as transformers writes it: a directory with config.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chat::ChatTemplate;
use super::config::{Ids, LlamaConfig};
use super::source::Source;
use super::tensors::Shards;
use super::tokenizer::DecoderTokenizer;
use crate::ModelError;
use crate::json::read_json_if_present;

const CONFIG: &str = "config.json";

/// The shape of the network alone.
pub(super) fn config(dir: &Path) -> Result<LlamaConfig, ModelError> {
    Ok(LlamaConfig::read(&dir.join(CONFIG))?.0)
}

pub(super) fn open(dir: &Path) -> Result<Source, ModelError> {
    let (config, ends) = LlamaConfig::read(&dir.join(CONFIG))?;
    let tokenizer = DecoderTokenizer::open(&dir.join("tokenizer.json"), config.vocabulary)?;
    let words = Words::read(dir)?;
    let ends = match (generation_ends(dir)?, ends) {
        (Some(ends), _) | (None, Some(ends)) => ends.into_vec(),
        (None, None) => {
            let end = words.marks.get("eos_token");
            end.and_then(|end| tokenizer.id(end)).into_iter().collect()
        }
    };
    let mut tensors = Shards::open(dir)?;
    Ok(Source {
        weights: tensors.digest()?,
        chat: words.chat()?,
        tensors: Box::new(tensors),
        config,
        tokenizer,
        ends,
    })
}

fn generation_ends(dir: &Path) -> Result<Option<Ids>, ModelError> {
    #[derive(Deserialize)]
    struct Generation {
        eos_token_id: Option<Ids>,
    }
    let generation: Option<Generation> = read_json_if_present(&dir.join("generation_config.json"))?;
    Ok(generation.and_then(|generation| generation.eos_token_id))
}

/// What tokenizer_config.json says of special tokens and chats.
struct Words {
    marks: BTreeMap<String, String>,
    template: Option<(String, PathBuf)>,
}

/// A special token, by itself or with how it is matched.
#[derive(Deserialize)]
#[serde(untagged)]
enum Mark {
    Text(String),
    Token { content: String },
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Default, Deserialize)]
struct Written {
    bos_token: Option<Mark>,
    eos_token: Option<Mark>,
    unk_token: Option<Mark>,
    pad_token: Option<Mark>,
    chat_template: Option<Templates>,
}

impl Words {
    /// chat_template.jinja, where there is one, stands above the template in tokenizer_config.json.
    fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer_config.json");
        let written: Written = read_json_if_present(&path)?.unwrap_or_default();
        let file = dir.join("chat_template.jinja");
        let template = if file.exists() {
            let text = fs::read_to_string(&file).map_err(|e| ModelError::io(&file, e))?;
            Some((text, file))
        } else {
            written.chat_template.map(|t| t.only(&path)).transpose()?
        };
        let marks = [
            ("bos_token", written.bos_token),
            ("eos_token", written.eos_token),
            ("unk_token", written.unk_token),
            ("pad_token", written.pad_token),
        ];
        let marks = marks.into_iter().filter_map(|(name, mark)| {
            let (Mark::Text(text) | Mark::Token { content: text }) = mark?;
            Some((name.to_owned(), text))
        });
        Ok(Self {
            marks: marks.collect(),
            template,
        })
    }

    fn chat(self) -> Result<Option<ChatTemplate>, ModelError> {
        let Some((template, path)) = self.template else {
            return Ok(None);
        };
        ChatTemplate::new(template, self.marks, &path).map(Some)
    }
}

impl Templates {
    /// The one that transformers takes when none is asked for.
    fn only(self, path: &Path) -> Result<(String, PathBuf), ModelError> {
        let template = match self {
            Self::One(template) => template,
            Self::Named(named) => {
                let names: Vec<String> = named.iter().map(|n| n.name.clone()).collect();
                let default = named.into_iter().find(|n| n.name == "default");
                let Some(default) = default else {
                    return Err(ModelError::unsupported(
                        path,
                        "chat_template",
                        format!("with only {}", names.join(", ")),
                        "one template, or one of several named \"default\"",
                    ));
                };
                default.template
            }
        };
        Ok((template, path.to_owned()))
    }
}
