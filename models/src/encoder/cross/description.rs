//! What a cross-encoder's directory says about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::config::BertConfig;
use super::super::description::{Limits, weights_file};
use crate::ModelError;
use crate::json::read_json;

/// The only architecture with this head.
const ARCHITECTURE: &str = "BertForSequenceClassification";

/// All that a cross-encoder's directory says, checked.
pub(super) struct Description {
    pub config: BertConfig,
    pub labels: Labels,
    pub weights: PathBuf,
    pub tokenizer: PathBuf,
    pub limits: Limits,
}

/// What the classifier tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    /// One number: relevance.
    One,
    /// Not relevant, and relevant.
    Two,
}

/// The fields of `config.json` about the head.
#[derive(Deserialize)]
struct HeadConfig {
    #[serde(default)]
    architectures: Vec<String>,
    num_labels: Option<usize>,
    id2label: Option<BTreeMap<String, String>>,
}

impl Description {
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let config = BertConfig::read(&path)?;
        let head: HeadConfig = read_json(&path, "the shape of the network")?;
        if !head.architectures.iter().any(|name| name == ARCHITECTURE) {
            let named = match head.architectures.as_slice() {
                [] => "(none)".to_owned(),
                names => format!("\"{}\"", names.join("\", \"")),
            };
            let supported = "\"BertForSequenceClassification\"";
            return Err(ModelError::unsupported(
                &path,
                "architectures",
                named,
                supported,
            ));
        }
        if config.type_vocab_size < 2 {
            return Err(ModelError::unsupported(
                &path,
                "type_vocab_size",
                config.type_vocab_size,
                "2 and more: query and passage are told apart by it",
            ));
        }
        Ok(Self {
            labels: head.labels(&path)?,
            limits: Limits::read(dir, &config)?,
            weights: weights_file(dir)?,
            tokenizer: dir.join("tokenizer.json"),
            config,
        })
    }
}

impl Labels {
    pub fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

impl HeadConfig {
    /// As transformers reads them: two labels where nothing says how many. Of two, nothing but their names tells which
    /// one means relevant.
    fn labels(&self, path: &Path) -> Result<Labels, ModelError> {
        let named = self.id2label.as_ref();
        let count = named.map(BTreeMap::len).or(self.num_labels).unwrap_or(2);
        match count {
            1 => return Ok(Labels::One),
            2 => {}
            _ => {
                return Err(ModelError::unsupported(
                    path,
                    "id2label: labels",
                    count,
                    "1 label, or 2 of which the second means relevant",
                ));
            }
        }
        let second = named.and_then(|labels| labels.get("1"));
        match second.map(|name| name.to_ascii_lowercase()) {
            None => Ok(Labels::Two),
            Some(name) if ["label_1", "relevant", "true", "yes", "1"].contains(&&*name) => {
                Ok(Labels::Two)
            }
            Some(name) => Err(ModelError::unsupported(
                path,
                "id2label: label 1",
                format!("\"{name}\""),
                "LABEL_1, relevant, true, yes, 1: the label that means relevant comes second",
            )),
        }
    }
}
