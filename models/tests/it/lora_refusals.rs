//! Adapters, examples and trainings that must be refused, with what the message must name.

use std::fs;
use std::path::Path;

use loci_models::{Adapter, Example, LoraConfig, ModelError, Trainer, TrainingSettings};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::decoder::{copy, load};
use crate::lora::{
    TINY, chat, examples, lora, message, settings, stored_in, trained, trainer, written,
};

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

/// An adapter as another tool leaves it, with one field of its configuration changed.
fn foreign(field: &str, value: Value) -> TempDir {
    let dir = written(
        &trainer(lora(&["q_proj", "v_proj"]), settings())
            .adapter()
            .unwrap(),
    );
    fs::remove_file(dir.path().join("loci.json")).unwrap();
    let mut config = stored_in(dir.path(), "adapter_config.json");
    config[field] = value;
    let path = dir.path().join("adapter_config.json");
    fs::write(path, config.to_string()).unwrap();
    dir
}

fn refusal(dir: &Path) -> String {
    Adapter::import(dir, &TINY).unwrap_err().to_string()
}

#[test]
fn what_peft_has_and_this_does_not_is_refused_by_name() {
    for (field, value, parts) in [
        ("peft_type", json!("IA3"), ["peft_type \"IA3\"", "\"LORA\""]),
        (
            "task_type",
            json!("SEQ_CLS"),
            ["task_type \"SEQ_CLS\"", "CAUSAL_LM"],
        ),
        ("bias", json!("all"), ["bias \"all\"", "\"none\""]),
        ("use_dora", json!(true), ["use_dora true", "false"]),
        ("use_rslora", json!(true), ["use_rslora true", "false"]),
        (
            "rank_pattern",
            json!({"q_proj": 4}),
            ["rank_pattern {\"q_proj\":4}", "empty"],
        ),
        (
            "modules_to_save",
            json!(["lm_head"]),
            ["modules_to_save [\"lm_head\"]", "null"],
        ),
        (
            "init_lora_weights",
            json!("pissa"),
            ["init_lora_weights \"pissa\"", "gaussian"],
        ),
        ("some_new_field", json!(3), ["some_new_field 3", "null"]),
        (
            "target_modules",
            json!("all-linear"),
            ["target_modules", "list of names"],
        ),
        (
            "target_modules",
            json!(["c_attn"]),
            ["\"c_attn\"", "q_proj, k_proj"],
        ),
        (
            "target_modules",
            json!(["q_proj"]),
            ["v_proj.lora_A.weight", "account"],
        ),
        (
            "target_modules",
            json!(["q_proj", "v_proj", "k_proj"]),
            ["k_proj.lora_A.weight", "no tensor"],
        ),
        ("r", json!(5), ["[4, 36]", "[5, 36]"]),
        ("r", json!("8"), ["r must be", "whole number"]),
        ("lora_alpha", json!(0), ["alpha 0", "above 0"]),
    ] {
        assert_names(&refusal(foreign(field, value).path()), &parts);
    }
    for (field, value) in [
        ("peft_version", json!("0.18.0")),
        ("megatron_core", json!("megatron.core")),
        ("loftq_config", json!({})),
        ("lora_bias", json!(false)),
        ("init_lora_weights", json!("gaussian")),
        ("lora_dropout", json!(0.05)),
        ("exclude_modules", Value::Null),
    ] {
        let dir = foreign(field, value);
        let adapter = Adapter::import(dir.path(), &TINY).unwrap();
        assert_eq!(adapter.base().weights, TINY.identity().weights);
        assert!(adapter.training().is_none());
        let bound = written(&adapter);
        let digest = Adapter::read(bound.path(), &TINY).unwrap().digest();
        assert_eq!(digest, adapter.digest());
    }
}

#[test]
fn files_that_are_missing_or_damaged_are_named() {
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let dir = foreign("revision", Value::Null);
        fs::remove_file(dir.path().join(file)).unwrap();
        assert_names(&refusal(dir.path()), &[file, "no such file"]);
        let dir = foreign("revision", Value::Null);
        fs::write(dir.path().join(file), "{").unwrap();
        assert_names(&refusal(dir.path()), &[file]);
    }
}

#[test]
fn settings_that_do_not_fit_are_refused_before_any_work() {
    let refusal = |lora: LoraConfig, settings: TrainingSettings, examples: Vec<Example>| {
        let trainer = Trainer::new(TINY.clone(), lora, settings, examples);
        trainer.unwrap_err().to_string()
    };
    let none = TrainingSettings {
        epochs: 0,
        ..settings()
    };
    let long = Example::new(
        vec![1; 97],
        vec![false; 96].into_iter().chain([true]).collect(),
    );
    let foreign = Example::new(vec![1, 999, 2], vec![false, false, true]);
    let q = || lora(&["q_proj"]);
    let bad = |example: Result<Example, ModelError>| vec![examples(1).remove(0), example.unwrap()];
    for (message, parts) in [
        (
            refusal(lora(&["c_attn"]), settings(), examples(2)),
            [
                "\"c_attn\"",
                "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
            ],
        ),
        (refusal(q(), none, examples(2)), ["epochs 0", "1 or more"]),
        (
            refusal(q(), settings(), Vec::new()),
            ["examples of none", "at least one"],
        ),
        (
            refusal(q(), settings(), bad(long)),
            ["example 1", "97 tokens"],
        ),
        (refusal(q(), settings(), bad(foreign)), ["example 1", "999"]),
    ] {
        assert_names(&message, &parts);
    }
    lora(&["q_proj"]).check(&TINY.projections()).unwrap();
}

#[test]
fn chats_whose_turns_cannot_be_told_apart_are_refused() {
    let refusal = |template: &str, chat: &[loci_models::Message]| {
        let decoder = load(copy([("chat_template.jinja", template.into())]).path());
        Example::chat(&decoder, chat).unwrap_err().to_string()
    };
    let turns = |answer: &str| {
        "{% for m in messages %}<|im_start|>{{ m.role }}:ANSWER<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
            .replace("ANSWER", answer)
    };
    let (long, short) = (chat(1), chat(3));
    let the = [message("user", "Hi"), message("assistant", "the end")];
    // Answers lose what comes before them once others follow, as in models that reason aloud.
    let aloud = "{% if loop.last and m.role == 'assistant' %}Thinking. {% endif %}{{ m.content }}";
    let otherwise = turns("{{ m.content }}").replace("assistant:", "assistant: Sure,");
    // A space, and the word after it.
    let spanned = turns(" {{ m.content }}").replace("assistant:{%", "assistant: {%");
    let endless = turns("{{ m.content }}").replace("<|im_end|>", "\n");
    for (template, chat, part) in [
        (turns(aloud), long.as_slice(), "when others follow"),
        (otherwise, short.as_slice(), "right after the prompt"),
        (spanned, the.as_slice(), "one token spans both"),
        (endless, short.as_slice(), "never learn to stop"),
    ] {
        assert_names(&refusal(&template, chat), &["turn 2", part]);
    }
    let asked = [message("user", "Hi")];
    let error = Example::chat(&TINY, &asked).unwrap_err().to_string();
    assert_names(&error, &["nothing to learn", "turn of the assistant"]);
}

#[test]
fn a_checkpoint_continues_its_own_training_only() {
    let mut started = trainer(lora(&["q_proj"]), settings());
    started.step().unwrap();
    let bytes = started.checkpoint().unwrap();
    let resume = |decoder: &Path, count: usize, bytes: &[u8]| {
        let decoder = std::sync::Arc::new(load(decoder));
        let resumed = Trainer::resume(decoder, examples(count), bytes);
        resumed.unwrap_err().to_string()
    };
    let (tiny, other) = (
        crate::reference("decoder/tiny"),
        crate::reference("decoder/llama3"),
    );
    let cut = &bytes[..bytes.len() - 4];
    let place = br#"\"step\":1"#;
    let at = bytes.windows(place.len()).position(|w| w == place).unwrap();
    let mut moved = bytes.clone();
    moved[at + place.len() - 1] = b'7';
    for (message, parts) in [
        (resume(&tiny, 9, &bytes), ["10 examples", "same order"]),
        (
            resume(&other, 10, &bytes),
            ["the checkpoint belongs", "trained on"],
        ),
        (
            resume(&tiny, 10, cut),
            ["cannot be continued", "not fully covered"],
        ),
        (resume(&tiny, 10, b"{}"), ["cannot be continued", "header"]),
        (
            resume(&tiny, 10, &moved),
            ["cannot be continued", "position"],
        ),
    ] {
        assert_names(&message, &parts);
    }
    let adapter = trained(&["q_proj"], 1).files().unwrap();
    let message = resume(&tiny, 10, &adapter[1].1);
    assert_names(&message, &["cannot be continued", "nothing of a training"]);
}

#[test]
fn a_loss_that_is_not_finite_ends_the_training_with_its_cause() {
    let mut wild = trainer(
        lora(&["q_proj", "down_proj"]),
        TrainingSettings {
            learning_rate: 1e30,
            warmup: 0.0,
            ..settings()
        },
    );
    let refusal = loop {
        match wild.step() {
            Ok(step) => assert!(step.is_some(), "it went on to its end"),
            Err(refusal) => break refusal,
        }
    };
    let ModelError::Training { step, reason } = &refusal else {
        unreachable!("{refusal}");
    };
    assert_eq!(*step, wild.done() + 1);
    assert_names(reason, &["example", "diverged", "learningRate"]);
    // The training is still where it was.
    let bytes = wild.checkpoint().unwrap();
    assert_eq!(wild.step().unwrap_err().to_string(), refusal.to_string());
    assert_eq!(wild.checkpoint().unwrap(), bytes);
}

#[test]
fn a_model_whose_weights_are_damaged_is_the_cause_itself() {
    let dir = copy([]);
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // The last tensor in the file; whichever it is, every text passes it.
    let end = bytes.len();
    bytes[end - 36 * 4..].copy_from_slice(&f32::NAN.to_le_bytes().repeat(36));
    fs::write(&path, bytes).unwrap();
    let decoder = std::sync::Arc::new(load(dir.path()));
    let mut trainer = Trainer::new(decoder, lora(&["q_proj"]), settings(), examples(4)).unwrap();
    let message = trainer.step().unwrap_err().to_string();
    assert_names(&message, &["step 1", "example", "without the adapter too"]);
}
