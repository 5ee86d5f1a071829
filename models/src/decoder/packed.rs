//! A model in one .gguf file.

use std::collections::BTreeMap;
use std::path::Path;

use super::chat::ChatTemplate;
use super::config::LlamaConfig;
use super::rope::Scaling;
use super::source::Source;
use super::tensors::Tensors;
use super::tokenizer::DecoderTokenizer;
use crate::ModelError;
use crate::gguf::{self, Gguf};

pub(super) fn open(path: &Path) -> Result<Source, ModelError> {
    let mut file = Gguf::open(path)?;
    let config = read_config(&mut file)?;
    let json = gguf::tokenizer_json(&file)?;
    let tokenizer = DecoderTokenizer::parse(&json, path, config.vocabulary)?;
    let mut ends = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        ends.extend(file.integer(key)?.map(|id| id as u32));
    }
    ends.dedup();
    let template = file.text("tokenizer.chat_template")?.map(str::to_owned);
    let chat = match template {
        Some(template) => Some(ChatTemplate::new(template, marks(&file)?, path)?),
        None => None,
    };
    Ok(Source {
        weights: file.digest()?,
        tensors: Box::new(Packed {
            file,
            size: config.size,
        }),
        config,
        tokenizer,
        chat,
        ends,
    })
}

/// The shape of the network alone.
pub(super) fn config(path: &Path) -> Result<LlamaConfig, ModelError> {
    read_config(&mut Gguf::open(path)?)
}

/// The special tokens that templates may name.
fn marks(file: &Gguf) -> Result<BTreeMap<String, String>, ModelError> {
    let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let mut marks = BTreeMap::new();
    for (name, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ] {
        let token = file.integer(key)?.and_then(|id| tokens.get(id));
        marks.extend(token.map(|token| (name.to_owned(), (*token).to_owned())));
    }
    Ok(marks)
}

fn read_config(file: &mut Gguf) -> Result<LlamaConfig, ModelError> {
    refuse_what_is_not_supported(file)?;
    let needed = |key: &str| file.needed_integer(&format!("llama.{key}"));
    let (hidden, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let kept_heads = file.integer("llama.attention.head_count_kv")?;
    let vocabulary = match file.integer("llama.vocab_size")? {
        Some(size) => size,
        None => file.needed_texts("tokenizer.ggml.tokens")?.len(),
    };
    let own = file.integer("llama.attention.key_length")?;
    let config = LlamaConfig {
        vocabulary,
        hidden,
        layers: needed("block_count")?,
        heads,
        kept_heads: kept_heads.unwrap_or(heads),
        size: own.unwrap_or(hidden / heads.max(1)),
        intermediate: needed("feed_forward_length")?,
        context: needed("context_length")?,
        epsilon: file.needed_number("llama.attention.layer_norm_rms_epsilon")? as f32,
        theta: file.number("llama.rope.freq_base")?.unwrap_or(10_000.0),
        scaling: Scaling::None,
        tied: !file.contains("output.weight"),
    };
    config.check(file.path())?;
    refuse_other_heads(file, &config)?;
    let divisors = "rope_freqs.weight";
    if !file.contains(divisors) {
        return Ok(config);
    }
    let divisors = file.read(divisors, &[config.size / 2])?;
    Ok(LlamaConfig {
        scaling: Scaling::Divisors(divisors),
        ..config
    })
}

fn refuse_what_is_not_supported(file: &Gguf) -> Result<(), ModelError> {
    let architecture = file.text("general.architecture")?.unwrap_or("(none)");
    if architecture != "llama" {
        return refuse(file, "general.architecture", architecture, "llama");
    }
    let scaling = file.text("llama.rope.scaling.type")?.unwrap_or("none");
    if scaling != "none" {
        return refuse(file, "llama.rope.scaling.type", scaling, "none");
    }
    for key in ["llama.expert_count", "llama.attention.sliding_window"] {
        if let Some(count) = file.integer(key)?.filter(|count| *count > 0) {
            return refuse(file, key, count, "0");
        }
    }
    Ok(())
}

fn refuse_other_heads(file: &Gguf, config: &LlamaConfig) -> Result<(), ModelError> {
    for key in [
        "llama.rope.dimension_count",
        "llama.attention.key_length",
        "llama.attention.value_length",
    ] {
        let other = file.integer(key)?.filter(|size| *size != config.size);
        if let Some(other) = other {
            return refuse(file, key, other, "the size of a head");
        }
    }
    Ok(())
}

fn refuse(
    file: &Gguf,
    key: &str,
    value: impl ToString,
    supported: &'static str,
) -> Result<(), ModelError> {
    Err(ModelError::unsupported(file.path(), key, value, supported))
}

/// The tensors of a .gguf file under the names, and in the order of rows, that transformers gives them.
struct Packed {
    file: Gguf,
    /// Rows of a head.
    size: usize,
}

impl Tensors for Packed {
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let values = self.file.read(&own_name(name), shape)?;
        let turned = [".q_proj.weight", ".k_proj.weight"];
        if turned.iter().any(|end| name.ends_with(end)) {
            return Ok(halves(&values, self.size, shape[1]));
        }
        Ok(values)
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn surplus(&self) -> Option<String> {
        self.file.unread()
    }
}

fn own_name(name: &str) -> String {
    const PARTS: [(&str, &str); 9] = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let own = name.replace("model.layers.", "blk.");
    let part = PARTS.iter().find(|(part, _)| {
        let end = own.strip_suffix(".weight");
        end.is_some_and(|end| end.ends_with(&format!(".{part}")))
    });
    part.map_or(own.clone(), |(part, short)| own.replace(part, short))
}

/// GGUF stores the rows of queries and keys so that the two that turn together are neighbours; transformers has them
/// half a head apart.
fn halves(values: &[f32], size: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(size * columns) {
        for half in 0..2 {
            let rows = head.chunks_exact(columns).skip(half).step_by(2);
            rows.for_each(|row| out.extend_from_slice(row));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llama_cpp() {
        for (name, own) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            (
                "model.layers.0.self_attn.q_proj.weight",
                "blk.0.attn_q.weight",
            ),
            (
                "model.layers.12.mlp.down_proj.weight",
                "blk.12.ffn_down.weight",
            ),
            (
                "model.layers.7.input_layernorm.weight",
                "blk.7.attn_norm.weight",
            ),
            (
                "model.layers.7.post_attention_layernorm.weight",
                "blk.7.ffn_norm.weight",
            ),
            ("model.norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
        ] {
            assert_eq!(own_name(name), own);
        }
    }

    #[test]
    fn rows_that_turn_together_move_half_a_head_apart() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        // Heads of six rows of one column: 0 and 1 turn together, then 2 and 3, then 4 and 5.
        let want = [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0];
        assert_eq!(halves(&values, 6, 1), want);
    }
}
