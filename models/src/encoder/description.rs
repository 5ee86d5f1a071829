//! What a model directory says about itself, in the files that sentence-transformers writes.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::BertConfig;
use crate::ModelError;
use crate::json::{read_json, read_json_if_present};

/// How the vectors of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The vector of the first token, `[CLS]`.
    Cls,
    /// Their maximum in each dimension.
    Max,
}

/// All that a model directory says, checked.
#[derive(Debug)]
pub(crate) struct Description {
    pub config: BertConfig,
    pub weights: PathBuf,
    pub tokenizer: PathBuf,
    pub pooling: Pooling,
    pub normalize: bool,
    pub query_prompt: String,
    pub passage_prompt: String,
    pub max_tokens: usize,
    pub lowercase: bool,
}

impl Description {
    /// Reads the model in `dir`. Without a modules.json it is mean-pooled and not normalised, as
    /// sentence-transformers does.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let modules = Modules::read(dir)?;
        let transformer = dir.join(&modules.transformer);
        let config = BertConfig::read(&transformer.join("config.json"))?;
        let (query_prompt, passage_prompt) =
            prompts(&dir.join("config_sentence_transformers.json"))?;
        let prompted = !(query_prompt.is_empty() && passage_prompt.is_empty());
        let pooling = match &modules.pooling {
            Some(path) => read_pooling(&dir.join(path).join("config.json"), &config, prompted)?,
            None => Pooling::Mean,
        };
        let limits = Limits::read(&transformer, &config)?;
        Ok(Self {
            weights: weights_file(&transformer)?,
            tokenizer: transformer.join("tokenizer.json"),
            normalize: modules.normalize,
            max_tokens: limits.max_tokens,
            lowercase: limits.lowercase,
            config,
            pooling,
            query_prompt,
            passage_prompt,
        })
    }
}

/// The module chain of `modules.json`: Transformer, Pooling and perhaps Normalize.
struct Modules {
    transformer: PathBuf,
    pooling: Option<PathBuf>,
    normalize: bool,
}

impl Modules {
    fn read(dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Module {
            path: PathBuf,
            r#type: String,
        }
        let path = dir.join("modules.json");
        let Some(modules) = read_json_if_present::<Vec<Module>>(&path)? else {
            return Ok(Self {
                transformer: PathBuf::new(),
                pooling: None,
                normalize: false,
            });
        };
        if let Some(module) = modules.iter().find(|m| !stays_inside(&m.path)) {
            let reason = format!(
                "module path \"{}\" leaves the model's directory",
                module.path.display()
            );
            return Err(ModelError::config(&path, reason));
        }
        let kinds: Vec<&str> = modules
            .iter()
            .map(|m| m.r#type.rsplit('.').next().unwrap_or(""))
            .collect();
        let normalize = match kinds.as_slice() {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                let chain = format!("[{}]", kinds.join(", "));
                let supported = "[Transformer, Pooling] and [Transformer, Pooling, Normalize]";
                return Err(ModelError::unsupported(
                    &path,
                    "module chain",
                    chain,
                    supported,
                ));
            }
        };
        let mut paths = modules.into_iter().map(|m| m.path);
        let transformer = paths.next().unwrap_or_default();
        Ok(Self {
            transformer,
            pooling: paths.next(),
            normalize,
        })
    }
}

fn stays_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

fn read_pooling(path: &Path, config: &BertConfig, prompted: bool) -> Result<Pooling, ModelError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Mode {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(alias = "word_embedding_dimension")]
        embedding_dimension: Option<usize>,
        include_prompt: Option<bool>,
        pooling_mode: Option<Mode>,
        /// Before sentence-transformers 5.4: one flag for each mode.
        #[serde(flatten)]
        flags: BTreeMap<String, serde_json::Value>,
    }
    let pooling: Config = read_json(path, "how token vectors are pooled")?;
    if let Some(dimension) = pooling
        .embedding_dimension
        .filter(|d| *d != config.hidden_size)
    {
        let reason = format!(
            "pools {dimension} dimensions, config.json has hidden_size {}",
            config.hidden_size
        );
        return Err(ModelError::config(path, reason));
    }
    if prompted && pooling.include_prompt == Some(false) {
        return Err(ModelError::unsupported(
            path,
            "include_prompt",
            "false",
            "true",
        ));
    }
    let modes = match pooling.pooling_mode {
        Some(Mode::One(mode)) => vec![mode],
        Some(Mode::Many(modes)) => modes,
        None => {
            let set = |value: &serde_json::Value| value.as_bool() == Some(true);
            let flags = pooling.flags.into_iter().filter(|(_, value)| set(value));
            flags
                .filter_map(|(flag, _)| flag.strip_prefix("pooling_mode_").map(str::to_owned))
                .collect()
        }
    };
    let modes: Vec<&str> = modes
        .iter()
        .map(|mode| mode.trim_end_matches("_tokens"))
        .collect();
    match modes.as_slice() {
        [] | ["mean"] => Ok(Pooling::Mean),
        ["cls" | "cls_token"] => Ok(Pooling::Cls),
        ["max"] => Ok(Pooling::Max),
        other => Err(ModelError::unsupported(
            path,
            "pooling mode",
            other.join(" + "),
            "mean, cls, max (one of them)",
        )),
    }
}

/// The prompts before queries and passages. A model with one default prompt and none for either role is
/// symmetric: the default goes before both.
fn prompts(path: &Path) -> Result<(String, String), ModelError> {
    #[derive(Default, Deserialize)]
    struct Config {
        #[serde(default)]
        prompts: BTreeMap<String, Option<String>>,
        default_prompt_name: Option<String>,
    }
    let Config {
        prompts,
        default_prompt_name,
    } = read_json_if_present(path)?.unwrap_or_default();
    let first = |names: &[&str]| {
        let mut found = names
            .iter()
            .filter_map(|name| prompts.get(*name).cloned().flatten());
        found.find(|prompt| !prompt.is_empty()).unwrap_or_default()
    };
    let (query, passage) = (first(&["query"]), first(&["document", "passage", "corpus"]));
    match default_prompt_name {
        Some(name) if query.is_empty() && passage.is_empty() => {
            let Some(prompt) = prompts.get(&name) else {
                let reason = format!("default_prompt_name \"{name}\" is not among the prompts");
                return Err(ModelError::config(path, reason));
            };
            let prompt = prompt.clone().unwrap_or_default();
            Ok((prompt.clone(), prompt))
        }
        _ => Ok((query, passage)),
    }
}

/// How much of a text the model reads, and how.
pub(super) struct Limits {
    pub max_tokens: usize,
    pub lowercase: bool,
}

impl Limits {
    pub fn read(transformer: &Path, config: &BertConfig) -> Result<Self, ModelError> {
        #[derive(Default, Deserialize)]
        struct Sentence {
            max_seq_length: Option<usize>,
            #[serde(default)]
            do_lower_case: bool,
        }
        #[derive(Default, Deserialize)]
        struct Tokenizer {
            /// 1e30 where the tokenizer has no limit.
            model_max_length: Option<f64>,
        }
        let path = transformer.join("sentence_bert_config.json");
        let sentence: Sentence = read_json_if_present(&path)?.unwrap_or_default();
        let positions = config.max_position_embeddings;
        let max_tokens = match sentence.max_seq_length {
            Some(length) if length > positions => {
                let reason = format!(
                    "max_seq_length {length} exceeds max_position_embeddings {positions} of config.json"
                );
                return Err(ModelError::config(&path, reason));
            }
            Some(length) => length,
            None => {
                let path = transformer.join("tokenizer_config.json");
                let tokenizer: Tokenizer = read_json_if_present(&path)?.unwrap_or_default();
                tokenizer
                    .model_max_length
                    .map_or(positions, |length| positions.min(length as usize))
            }
        };
        Ok(Self {
            max_tokens,
            lowercase: sentence.do_lower_case,
        })
    }
}

/// model.safetensors, or a refusal that names the format found instead.
pub(super) fn weights_file(transformer: &Path) -> Result<PathBuf, ModelError> {
    let weights = transformer.join("model.safetensors");
    if !weights.exists() {
        for other in [
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "tf_model.h5",
        ] {
            let path = transformer.join(other);
            if path.exists() {
                return Err(ModelError::unsupported(
                    &path,
                    "weights in",
                    other,
                    "one model.safetensors",
                ));
            }
        }
    }
    Ok(weights)
}
