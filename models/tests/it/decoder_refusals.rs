//! Decoders that must be refused, and what they must refuse, with what the message must name.

use std::ops::ControlFlow;

use loci_models::{Decoder, DeviceRequest, Generation, Sampling};
use serde_json::{Value, json};

use crate::decoder::{TINY, config_with, copy, load, options, prompt, stored};

#[test]
fn what_cannot_be_continued_is_refused_by_name() {
    let free = options(3);
    let refusal = |tokens: &[u32], options: &Generation| {
        let prompts = [prompt(tokens, options)];
        let result = TINY.generate(&prompts, &mut |_| ControlFlow::Continue(()));
        result.unwrap_err().to_string()
    };
    let stop = Generation {
        stop: vec![String::new()],
        ..options(3)
    };
    let hot = Generation {
        sampling: Sampling {
            temperature: -1.0,
            ..Sampling::default()
        },
        ..options(3)
    };
    for (message, parts) in [
        (refusal(&[1; 97], &free), ["97 tokens", "96"]),
        (refusal(&[], &free), ["no tokens", "at least one"]),
        (refusal(&[1, 9999], &free), ["9999", "vocabulary"]),
        (refusal(&[1], &stop), ["stop", "one character"]),
        (refusal(&[1], &hot), ["temperature -1", "0 or more"]),
    ] {
        for part in parts {
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }
}

#[test]
fn models_that_are_not_supported_are_refused_by_name() {
    let refusal = |files: &[(&str, Value)]| {
        let dir = copy(files.iter().cloned());
        Decoder::load(dir.path(), DeviceRequest::Cpu)
            .unwrap_err()
            .to_string()
    };
    for (field, value, parts) in [
        ("model_type", json!("qwen2"), ["model_type", "\"qwen2\""]),
        (
            "architectures",
            json!(["LlamaModel"]),
            ["architectures", "LlamaModel"],
        ),
        ("hidden_act", json!("gelu"), ["hidden_act", "\"gelu\""]),
        (
            "attention_bias",
            json!(true),
            ["attention_bias true", "false"],
        ),
        ("mlp_bias", json!(true), ["mlp_bias true", "false"]),
        (
            "rope_parameters",
            json!({"rope_type": "yarn"}),
            ["rope_type \"yarn\"", "llama3"],
        ),
        (
            "rope_parameters",
            json!({"rope_type": "llama3"}),
            ["llama3", "high_freq_factor"],
        ),
        (
            "partial_rotary_factor",
            json!(0.5),
            ["partial_rotary_factor 0.5", "1"],
        ),
        (
            "quantization_config",
            json!({"bits": 4}),
            ["quantization_config", "GGUF"],
        ),
        (
            "num_key_value_heads",
            json!(4),
            ["6 attention heads", "4 key-value heads"],
        ),
        ("head_dim", json!(7), ["head size 7", "odd"]),
        (
            "num_hidden_layers",
            json!(3),
            ["no tensor", "model.layers.2."],
        ),
        (
            "num_hidden_layers",
            json!(1),
            ["model.layers.1.", "no place"],
        ),
        (
            "intermediate_size",
            json!(64),
            ["mlp.gate_proj.weight", "[50, 36]"],
        ),
        ("vocab_size", json!(100), ["token id", "vocabulary of 100"]),
        ("hidden_size", json!(0), ["hidden size", "is 0"]),
    ] {
        let message = refusal(&[("config.json", config_with(field, value))]);
        for part in parts {
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let message = refusal(&[(file, Value::Null)]);
        assert!(
            message.contains(file) && message.contains("no such file"),
            "{message}"
        );
    }
    let binary = ("pytorch_model.bin", "x".into());
    let message = refusal(&[("model.safetensors", Value::Null), binary]);
    assert!(
        message.contains("pytorch_model.bin is not supported"),
        "{message}"
    );
    let mut tokenizer: Value = stored("decoder/tiny/tokenizer.json");
    tokenizer["decoder"] = json!({"type": "Fuse"});
    let message = refusal(&[("tokenizer.json", tokenizer)]);
    assert!(
        message.contains("decoder Fuse is not supported"),
        "{message}"
    );
    let bare = load(
        copy([
            ("chat_template.jinja", Value::Null),
            ("tokenizer_config.json", Value::Null),
        ])
        .path(),
    );
    let message = bare.render(&[], true).unwrap_err().to_string();
    assert!(message.contains("no chat template"), "{message}");
}
