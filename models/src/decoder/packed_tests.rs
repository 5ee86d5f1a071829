//! The same weights as .gguf and as transformers writes them.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

use super::*;
use crate::gguf::testing::{Item, Writer};

fn tiny() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("tests/reference/decoder/tiny")
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(tiny().join(name)).unwrap()).unwrap()
}

/// As llama.cpp's converter names tensors.
fn own_name(name: &str) -> String {
    let mut own = name.replace("model.layers.", "blk.");
    for (part, short) in [
        ("model.embed_tokens", "token_embd"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("model.norm", "output_norm"),
    ] {
        own = own.replace(part, short);
    }
    own
}

/// Rows in llama.cpp's order: element `i` of a head's first half, then element `i` of its second.
fn interleaved(bytes: &[u8], heads: usize, rows: usize) -> Vec<u8> {
    let (row, size) = (bytes.len() / rows, rows / heads);
    let order = (0..rows).map(|r| r / size * size + r % size / 2 + r % 2 * (size / 2));
    order
        .flat_map(|r| &bytes[r * row..][..row])
        .copied()
        .collect()
}

/// The tiny model as a .gguf file, with `change` to its metadata.
fn packed(change: impl Fn(&mut Writer)) -> tempfile::TempDir {
    let (config, tokenizer) = (json("config.json"), json("tokenizer.json"));
    let number = |field: &str| config[field].as_u64().unwrap() as u32;
    let theta = config["rope_theta"].as_f64();
    let theta = theta.or(config["rope_parameters"]["rope_theta"].as_f64());
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(&str, u64)> = vocabulary
        .iter()
        .map(|(token, id)| (token.as_str(), id.as_u64().unwrap()))
        .collect();
    tokens.sort_by_key(|(_, id)| *id);
    let tokens: Vec<&str> = tokens.into_iter().map(|(token, _)| token).collect();
    let mut kinds = vec![1; tokens.len()];
    for token in tokenizer["added_tokens"].as_array().unwrap() {
        kinds[token["id"].as_u64().unwrap() as usize] = 3;
    }
    let merges = tokenizer["model"]["merges"].as_array().unwrap();
    let merges: Vec<String> = merges
        .iter()
        .map(|pair| {
            format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            )
        })
        .collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let template = fs::read_to_string(tiny().join("chat_template.jinja")).unwrap();
    let mut writer = Writer::new(3);
    writer
        .meta("general.architecture", Item::Text("llama"))
        .meta("llama.block_count", Item::U32(number("num_hidden_layers")))
        .meta(
            "llama.context_length",
            Item::U32(number("max_position_embeddings")),
        )
        .meta("llama.embedding_length", Item::U32(number("hidden_size")))
        .meta(
            "llama.feed_forward_length",
            Item::U32(number("intermediate_size")),
        )
        .meta(
            "llama.attention.head_count",
            Item::U32(number("num_attention_heads")),
        )
        .meta(
            "llama.attention.head_count_kv",
            Item::U32(number("num_key_value_heads")),
        )
        .meta("llama.attention.key_length", Item::U32(number("head_dim")))
        .meta("llama.rope.dimension_count", Item::U32(number("head_dim")))
        .meta("llama.rope.freq_base", Item::F32(theta.unwrap() as f32))
        .meta(
            "llama.attention.layer_norm_rms_epsilon",
            Item::F32(config["rms_norm_eps"].as_f64().unwrap() as f32),
        )
        .meta("tokenizer.ggml.model", Item::Text("gpt2"))
        .meta("tokenizer.ggml.pre", Item::Text("smollm"))
        .meta("tokenizer.ggml.tokens", Item::Texts(&tokens))
        .meta("tokenizer.ggml.token_type", Item::I32s(&kinds))
        .meta("tokenizer.ggml.merges", Item::Texts(&merges))
        .meta("tokenizer.ggml.bos_token_id", Item::U32(1))
        .meta("tokenizer.ggml.eos_token_id", Item::U32(2))
        .meta("tokenizer.ggml.eot_token_id", Item::U32(0))
        .meta("tokenizer.chat_template", Item::Text(&template));
    let bytes = fs::read(tiny().join("model.safetensors")).unwrap();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let rows = view.shape()[0];
        let data = match name.rsplit('.').nth(1) {
            Some("q_proj") => {
                interleaved(view.data(), number("num_attention_heads") as usize, rows)
            }
            Some("k_proj") => {
                interleaved(view.data(), number("num_key_value_heads") as usize, rows)
            }
            _ => view.data().to_vec(),
        };
        let sides: Vec<u64> = view.shape().iter().rev().map(|side| *side as u64).collect();
        writer.tensor(&own_name(&name), &sides, 0, &data);
    }
    change(&mut writer);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tiny.gguf"), writer.bytes()).unwrap();
    dir
}

#[test]
fn a_gguf_file_is_the_model_that_it_was_made_from() {
    let dir = packed(|_| ());
    let whole = Decoder::load(&tiny(), DeviceRequest::Cpu).unwrap();
    let file = dir.path().join("tiny.gguf");
    for path in [dir.path(), file.as_path()] {
        let packed = Decoder::load(path, DeviceRequest::Cpu).unwrap();
        let text = "In 1999, the café had 12 tables; don't ask.\n\n  Why?";
        let ids = whole.tokenizer().encode(text).unwrap();
        assert_eq!(packed.tokenizer().encode(text).unwrap(), ids);
        assert_eq!(packed.tokenizer().decode(&ids), text);
        assert_eq!(
            packed.logits(&[ids.as_slice().into()]).unwrap(),
            whole.logits(&[ids.as_slice().into()]).unwrap()
        );
        let chat = [Message {
            role: "user".to_owned(),
            content: text.to_owned(),
        }];
        let want = whole.chat_tokens(&chat, true).unwrap();
        assert_eq!(packed.chat_tokens(&chat, true).unwrap(), want);
        let (ours, theirs) = (packed.identity(), whole.identity());
        assert_eq!(ours.architecture, theirs.architecture);
        assert_eq!((&ours.ends, ours.context), (&theirs.ends, theirs.context));
        assert_ne!(ours.weights, theirs.weights);
    }
}

#[test]
fn models_of_other_kinds_are_refused_by_name() {
    let cases: [(&str, Item<'_>, [&str; 2]); 9] = [
        (
            "general.architecture",
            Item::Text("qwen2"),
            ["general.architecture qwen2", "llama"],
        ),
        (
            "llama.rope.scaling.type",
            Item::Text("yarn"),
            ["rope.scaling.type yarn", "none"],
        ),
        ("llama.expert_count", Item::U32(8), ["expert_count 8", "0"]),
        (
            "llama.attention.sliding_window",
            Item::U32(9),
            ["sliding_window 9", "0"],
        ),
        (
            "llama.rope.dimension_count",
            Item::U32(4),
            ["dimension_count 4", "size of a head"],
        ),
        (
            "llama.attention.head_count",
            Item::I32s(&[6]),
            ["head_count is a list", "whole number"],
        ),
        ("llama.block_count", Item::U32(9), ["no tensor", "blk.2."]),
        ("llama.block_count", Item::U32(1), ["blk.1.", "no place"]),
        (
            "tokenizer.ggml.eos_token_id",
            Item::U32(1 << 20),
            ["token 1048576 ends", "vocabulary"],
        ),
    ];
    for (key, item, parts) in cases {
        let dir = packed(|writer| {
            writer.meta(key, item);
        });
        let message = Decoder::load(dir.path(), DeviceRequest::Cpu)
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }
}
