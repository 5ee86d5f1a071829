//! Models that must be refused, with what the message must name.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use loci_models::{DeviceRequest, Encoder, ModelError, Role};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::weights::{tensors, write};
use crate::{config_with, load, reference, tiny};

/// The message with which the model in `dir` is refused.
fn refusal(dir: &Path) -> String {
    Encoder::load(dir, DeviceRequest::Cpu)
        .unwrap_err()
        .to_string()
}

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let dir = tiny([(file, Value::Null)]);
        assert_names(&refusal(dir.path()), &[file, "no such file"]);
    }
    let chain =
        json!([{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]);
    let dir = tiny([("modules.json", chain)]);
    assert_names(
        &refusal(dir.path()),
        &["1_Pooling/config.json", "no such file"],
    );
    let dir = tiny([
        ("model.safetensors", Value::Null),
        ("pytorch_model.bin", "x".into()),
    ]);
    assert_names(
        &refusal(dir.path()),
        &["pytorch_model.bin", "supported: one model.safetensors"],
    );
    let dir = tiny([
        ("model.safetensors", Value::Null),
        ("model.safetensors.index.json", "{}".into()),
    ]);
    assert_names(
        &refusal(dir.path()),
        &[
            "model.safetensors.index.json",
            "supported: one model.safetensors",
        ],
    );
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    for (field, value) in [
        ("model_type", json!("roberta")),
        ("model_type", json!("xlm-roberta")),
        ("hidden_act", json!("relu")),
        ("hidden_act", json!("gelu_new")),
        ("position_embedding_type", json!("relative_key")),
        ("is_decoder", json!(true)),
    ] {
        let dir = tiny([("config.json", config_with(field, value.clone()))]);
        assert_names(
            &refusal(dir.path()),
            &["config.json", field, &value.to_string(), "supported:"],
        );
    }
    let dense = json!([{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.Pooling"}, {"path": "2", "type": "x.Dense"}]);
    assert_names(
        &refusal(tiny([("modules.json", dense)]).path()),
        &["modules.json", "Dense", "supported:"],
    );
    let escape =
        json!([{"path": "../x", "type": "x.Transformer"}, {"path": "1", "type": "x.Pooling"}]);
    assert_names(
        &refusal(tiny([("modules.json", escape)]).path()),
        &["modules.json", "../x", "leaves"],
    );
    for (pooling, name) in [
        (json!({"pooling_mode": "lasttoken"}), "lasttoken"),
        (json!({"pooling_mode": ["cls", "mean"]}), "cls + mean"),
        (
            json!({"pooling_mode_weightedmean_tokens": true}),
            "weightedmean",
        ),
        (
            json!({"pooling_mode": "mean", "include_prompt": false}),
            "include_prompt",
        ),
    ] {
        let dir = tiny([
            (
                "modules.json",
                json!([{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.Pooling"}]),
            ),
            ("1/config.json", pooling),
            (
                "config_sentence_transformers.json",
                json!({"prompts": {"query": "q: "}}),
            ),
        ]);
        assert_names(&refusal(dir.path()), &["1/config.json", name, "supported:"]);
    }
    let cuda = Encoder::load(&reference("tiny"), DeviceRequest::Cuda)
        .unwrap_err()
        .to_string();
    assert_names(&cuda, &["cuda", "CPU only"]);
}

#[test]
fn files_that_contradict_one_another_are_named() {
    for (field, value, parts) in [
        (
            "hidden_size",
            json!(48),
            ["position_embeddings", "[40, 48]", "[40, 36]"],
        ),
        (
            "vocab_size",
            json!(300),
            ["word_embeddings", "[300, 36]", "[196, 36]"],
        ),
        (
            "vocab_size",
            json!(100),
            ["tokenizer.json", "token id 195", "vocabulary of 100"],
        ),
        (
            "intermediate_size",
            json!(64),
            ["intermediate.dense.weight", "[64, 36]", "[50, 36]"],
        ),
        (
            "num_hidden_layers",
            json!(3),
            [
                "encoder.layer.2.attention.self.query.weight",
                "no tensor",
                "config.json",
            ],
        ),
        (
            "num_hidden_layers",
            json!(1),
            ["layer 1", "num_hidden_layers 1", "different models"],
        ),
        (
            "num_attention_heads",
            json!(5),
            ["hidden_size 36", "num_attention_heads 5", "multiple"],
        ),
        (
            "max_position_embeddings",
            json!(0),
            ["config.json", "max_position_embeddings", "is 0"],
        ),
        (
            "hidden_size",
            Value::Null,
            ["config.json", "invalid type: null", "usize"],
        ),
    ] {
        let dir = tiny([("config.json", config_with(field, value))]);
        assert_names(&refusal(dir.path()), &parts);
    }
    for (file, content, parts) in [
        (
            "sentence_bert_config.json",
            json!({"max_seq_length": 64}),
            ["max_seq_length 64", "max_position_embeddings 40"],
        ),
        (
            "sentence_bert_config.json",
            json!({"max_seq_length": 2}),
            ["2 special tokens", "2 tokens in all"],
        ),
        (
            "config_sentence_transformers.json",
            json!({"default_prompt_name": "x"}),
            ["default_prompt_name", "\"x\""],
        ),
        (
            "config.json",
            "{\"model_type\":".into(),
            ["config.json", "EOF"],
        ),
        (
            "tokenizer.json",
            "{}".into(),
            ["tokenizer.json", "not a tokenizer"],
        ),
    ] {
        assert_names(&refusal(tiny([(file, content)]).path()), &parts);
    }
    let dir = tiny([
        (
            "modules.json",
            json!([{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.Pooling"}]),
        ),
        (
            "1/config.json",
            json!({"word_embedding_dimension": 768, "pooling_mode_mean_tokens": true}),
        ),
    ]);
    assert_names(
        &refusal(dir.path()),
        &["1/config.json", "768", "hidden_size 36"],
    );
}

#[test]
fn damaged_weights_are_refused() {
    let whole = fs::read(reference("tiny/model.safetensors")).unwrap();
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        let dir = tiny([]);
        fs::write(dir.path().join("model.safetensors"), &whole[..length]).unwrap();
        assert_names(
            &refusal(dir.path()),
            &[
                "model.safetensors",
                "not a whole safetensors file",
                &length.to_string(),
            ],
        );
    }
    let dir = tiny([]);
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(dir.path().join("model.safetensors"), &huge).unwrap();
    assert_names(&refusal(dir.path()), &["not a whole safetensors file"]);
    let mut garbled = whole;
    garbled[8..20].fill(b'x');
    fs::write(dir.path().join("model.safetensors"), &garbled).unwrap();
    assert_names(
        &refusal(dir.path()),
        &["not a whole safetensors file", "header"],
    );
}

#[test]
fn tensors_of_another_kind_are_refused() {
    let dir = tiny([]);
    let mut weights = tensors();
    let name = "encoder.layer.1.output.dense.bias";
    weights.insert(name.into(), (Dtype::I32, vec![36], vec![0; 144]));
    write(&weights, dir.path());
    assert_names(
        &refusal(dir.path()),
        &[name, "I32", "supported: F32, F16, BF16"],
    );
    let not_a_number = f32::NAN.to_le_bytes().repeat(36);
    weights.insert(name.into(), (Dtype::F32, vec![36], not_a_number));
    write(&weights, dir.path());
    let result = load(dir.path()).embed(&["text"], Role::Query, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(ModelError::Compute(reason)) if reason.contains("not finite")));
}
