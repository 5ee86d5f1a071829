//! The shape of the network, from `config.json`.

use std::path::Path;

use serde::Deserialize;

use super::rope::Scaling;
use crate::ModelError;
use crate::json::read_json;

/// What decides what the network computes, besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LlamaConfig {
    pub vocabulary: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    /// Heads of keys and values; each serves as many heads of queries.
    pub kept_heads: usize,
    /// Columns of a head.
    pub size: usize,
    pub intermediate: usize,
    /// Tokens that a text may have.
    pub context: usize,
    pub epsilon: f32,
    pub theta: f64,
    pub scaling: Scaling,
    /// Whether the embeddings of tokens also give the logits.
    pub tied: bool,
}

/// One id, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    pub fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// `config.json` as it is written.
#[derive(Deserialize)]
struct Written {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_scaling: Option<WrittenRope>,
    rope_parameters: Option<WrittenRope>,
    partial_rotary_factor: Option<f64>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    quantization_config: Option<serde_json::Value>,
    eos_token_id: Option<Ids>,
}

/// `rope_scaling`, or since transformers 5 `rope_parameters`, which has the base too.
#[derive(Deserialize)]
struct WrittenRope {
    rope_type: Option<String>,
    /// What `rope_type` was called before transformers 4.43.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

// Where config.json is silent, as transformers' LlamaConfig has it.
fn positions() -> usize {
    2048
}
fn silu() -> String {
    "silu".to_owned()
}
fn epsilon() -> f32 {
    1e-6
}
const THETA: f64 = 10_000.0;

impl LlamaConfig {
    /// The configuration in `path`, and the ids that end a text.
    pub fn read(path: &Path) -> Result<(Self, Option<Ids>), ModelError> {
        let written: Written = read_json(path, "the shape of the network")?;
        written.refuse_what_is_not_supported(path)?;
        let heads = written.num_attention_heads;
        let rope = written.rope_parameters.or(written.rope_scaling);
        let base = rope.as_ref().and_then(|rope| rope.rope_theta);
        let config = Self {
            vocabulary: written.vocab_size,
            hidden: written.hidden_size,
            layers: written.num_hidden_layers,
            heads,
            kept_heads: written.num_key_value_heads.unwrap_or(heads),
            size: match written.head_dim {
                Some(size) => size,
                None => whole_heads(path, written.hidden_size, heads)?,
            },
            intermediate: written.intermediate_size,
            context: written.max_position_embeddings,
            epsilon: written.rms_norm_eps,
            theta: base.or(written.rope_theta).unwrap_or(THETA),
            scaling: rope.map_or(Ok(Scaling::None), |rope| rope.scaling(path))?,
            tied: written.tie_word_embeddings,
        };
        config.check(path)?;
        Ok((config, written.eos_token_id))
    }

    /// Refuses sizes that no network has.
    pub fn check(&self, path: &Path) -> Result<(), ModelError> {
        for (what, value) in [
            ("vocabulary size", self.vocabulary),
            ("hidden size", self.hidden),
            ("number of layers", self.layers),
            ("number of attention heads", self.heads),
            ("number of key-value heads", self.kept_heads),
            ("head size", self.size),
            ("intermediate size", self.intermediate),
            ("context length", self.context),
        ] {
            if value == 0 {
                return Err(ModelError::config(path, format!("the {what} is 0")));
            }
        }
        let Self {
            heads,
            kept_heads,
            size,
            theta,
            ..
        } = self;
        let reason = if !heads.is_multiple_of(*kept_heads) {
            format!("{heads} attention heads are not a multiple of {kept_heads} key-value heads")
        } else if !size.is_multiple_of(2) {
            format!("head size {size} is odd, and rotary positions turn pairs")
        } else if !theta.is_finite() || *theta <= 1.0 {
            format!("the base of rotary positions is {theta}, and must be above 1")
        } else {
            return Ok(());
        };
        Err(ModelError::config(path, reason))
    }

    /// Columns of the queries.
    pub fn width(&self) -> usize {
        self.heads * self.size
    }

    /// Columns of the keys, and of the values.
    pub fn kept(&self) -> usize {
        self.kept_heads * self.size
    }

    /// Bytes that keys and values of a text take, as f32, when it has so many tokens, or all that there is room for.
    pub fn text_memory(&self, tokens: usize) -> u64 {
        let values = (2 * self.layers as u64).saturating_mul(self.kept() as u64);
        let tokens = tokens.min(self.context) as u64;
        values.saturating_mul(4).saturating_mul(tokens)
    }

    /// Everything but the weights that decides what the network computes.
    pub fn architecture(&self) -> String {
        format!(
            "llama layers={} hidden={} heads={}/{} size={} intermediate={} vocabulary={} silu eps={:e} theta={} rope={} tied={}",
            self.layers,
            self.hidden,
            self.heads,
            self.kept_heads,
            self.size,
            self.intermediate,
            self.vocabulary,
            self.epsilon,
            self.theta,
            self.scaling,
            self.tied
        )
    }
}

fn whole_heads(path: &Path, hidden: usize, heads: usize) -> Result<usize, ModelError> {
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let reason =
            format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}");
        return Err(ModelError::config(path, reason));
    }
    Ok(hidden / heads)
}

impl Written {
    fn refuse_what_is_not_supported(&self, path: &Path) -> Result<(), ModelError> {
        let unsupported = |field: &str, value: String, supported| {
            Err(ModelError::unsupported(path, field, value, supported))
        };
        let model_type = self.model_type.as_deref().unwrap_or("(none)");
        if model_type != "llama" {
            return unsupported("model_type", format!("\"{model_type}\""), "\"llama\"");
        }
        let architectures = self.architectures.as_deref().unwrap_or_default();
        if let Some(other) = architectures
            .iter()
            .find(|name| *name != "LlamaForCausalLM")
        {
            let supported = "[\"LlamaForCausalLM\"]";
            return unsupported("architectures", format!("[\"{other}\"]"), supported);
        }
        if self.hidden_act != "silu" {
            return unsupported("hidden_act", format!("\"{}\"", self.hidden_act), "\"silu\"");
        }
        if self.attention_bias {
            return unsupported("attention_bias", "true".to_owned(), "false");
        }
        if self.mlp_bias {
            return unsupported("mlp_bias", "true".to_owned(), "false");
        }
        if let Some(factor) = self.partial_rotary_factor.filter(|factor| *factor != 1.0) {
            return unsupported("partial_rotary_factor", factor.to_string(), "1");
        }
        if let Some(quantization) = &self.quantization_config {
            let supported = "weights in F32, F16 or BF16, or a GGUF file";
            return unsupported("quantization_config", quantization.to_string(), supported);
        }
        Ok(())
    }
}

impl WrittenRope {
    fn scaling(&self, path: &Path) -> Result<Scaling, ModelError> {
        if let Some(factor) = self.partial_rotary_factor.filter(|factor| *factor != 1.0) {
            let field = "rope_parameters.partial_rotary_factor";
            return Err(ModelError::unsupported(path, field, factor, "1"));
        }
        match self.rope_type.as_deref().or(self.r#type.as_deref()) {
            None | Some("default") => Ok(Scaling::None),
            Some("llama3") => self.llama3().ok_or_else(|| {
                let reason = "rope_type \"llama3\" needs factor, low_freq_factor, high_freq_factor (above the low one) and original_max_position_embeddings";
                ModelError::config(path, reason)
            }),
            Some(other) => Err(ModelError::unsupported(
                path,
                "rope_type",
                format!("\"{other}\""),
                "\"default\", \"llama3\"",
            )),
        }
    }

    fn llama3(&self) -> Option<Scaling> {
        let (low, high) = (self.low_freq_factor?, self.high_freq_factor?);
        (low > 0.0 && high > low).then_some(())?;
        Some(Scaling::Llama3 {
            factor: self.factor.filter(|factor| *factor > 0.0)?,
            low,
            high,
            original: self.original_max_position_embeddings?,
        })
    }
}
