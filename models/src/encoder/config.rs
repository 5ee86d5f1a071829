//! The shape of the network, from `config.json`.

use std::path::Path;

use serde::Deserialize;

use crate::ModelError;
use crate::json::read_json;

/// The fields of `config.json` that decide what the network computes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BertConfig {
    model_type: Option<String>,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub max_position_embeddings: usize,
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    #[serde(default = "bert_epsilon")]
    pub layer_norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_act: String,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn two() -> usize {
    2
}
fn bert_epsilon() -> f32 {
    1e-12
}
fn gelu() -> String {
    "gelu".to_owned()
}

impl BertConfig {
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let config: Self = read_json(path, "the shape of the network")?;
        let unsupported = |field: &str, value: &str, supported| {
            Err(ModelError::unsupported(
                path,
                field,
                format!("\"{value}\""),
                supported,
            ))
        };
        let model_type = config.model_type.as_deref().unwrap_or("(none)");
        if model_type != "bert" {
            return unsupported("model_type", model_type, "\"bert\"");
        }
        if config.hidden_act != "gelu" {
            return unsupported("hidden_act", &config.hidden_act, "\"gelu\"");
        }
        let position = config
            .position_embedding_type
            .as_deref()
            .unwrap_or("absolute");
        if position != "absolute" {
            return unsupported("position_embedding_type", position, "\"absolute\"");
        }
        if config.is_decoder {
            return unsupported("is_decoder", "true", "false");
        }
        config.check_sizes(path)?;
        Ok(config)
    }

    fn check_sizes(&self, path: &Path) -> Result<(), ModelError> {
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            if value == 0 {
                return Err(ModelError::config(path, format!("{field} is 0")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            let reason =
                format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}");
            return Err(ModelError::config(path, reason));
        }
        Ok(())
    }

    /// Everything but the weights that decides what the network computes.
    pub fn architecture(&self) -> String {
        format!(
            "bert layers={} hidden={} heads={} intermediate={} gelu eps={:e}",
            self.num_hidden_layers,
            self.hidden_size,
            self.num_attention_heads,
            self.intermediate_size,
            self.layer_norm_eps
        )
    }
}
