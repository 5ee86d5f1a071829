//! Adapters against what `reference/lora/make.py` stored: by torch and peft, on the same weights.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;

use loci_models::{Adapter, Example, Text, Trainer, TrainingSettings};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::decoder::{error, stored, tables};
use crate::lora::{TINY, stored_in, tensors, trained, written};
use crate::reference;

#[derive(Deserialize)]
struct Stored {
    settings: TrainingSettings,
    texts: Vec<Vec<u32>>,
    examples: Vec<StoredExample>,
    losses: Vec<f64>,
    norms: Vec<f64>,
    rates: Vec<f64>,
}

#[derive(Deserialize)]
struct StoredExample {
    tokens: Vec<u32>,
    targets: Vec<bool>,
}

fn all() -> BTreeMap<String, Stored> {
    let all: BTreeMap<String, Stored> = stored("lora/reference.json");
    assert_eq!(all.len(), 2);
    all
}

fn import(name: &str) -> Adapter {
    Adapter::import(&reference(&format!("lora/{name}")), &TINY).unwrap()
}

#[test]
fn an_adapter_of_peft_gives_the_logits_that_it_gives_there() {
    for (name, stored) in all() {
        let adapter = import(&name);
        let want = tables(&format!("lora/{name}.logits.safetensors"));
        let texts: Vec<Text<'_>> = stored
            .texts
            .iter()
            .map(|tokens| Text {
                tokens,
                adapter: Some(&adapter),
            })
            .collect();
        let got = TINY.logits(&texts).unwrap();
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let error = error(got, want);
            assert!(error < 1e-5, "{name} {i}: {error}");
        }
    }
}

#[test]
fn an_adapter_is_written_as_peft_writes_it() {
    for name in all().into_keys() {
        let adapter = import(&name);
        let theirs = reference(&format!("lora/{name}"));
        let bytes = fs::read(theirs.join("adapter_model.safetensors")).unwrap();
        let files = adapter.files().unwrap();
        assert_eq!(tensors(&files[1].1), tensors(&bytes));
        let own: Value = serde_json::from_slice(&files[0].1).unwrap();
        let config = stored_in(&theirs, "adapter_config.json");
        // Where it comes from, and how it began, which changes nothing any more.
        let other = ["base_model_name_or_path", "init_lora_weights"];
        for (field, value) in own.as_object().unwrap() {
            if other.contains(&field.as_str()) {
                continue;
            }
            let alike = match (field.as_str(), &config[field]) {
                // Theirs may be 8 where this is 8.0.
                ("lora_dropout" | "lora_alpha", theirs) => theirs.as_f64() == value.as_f64(),
                (_, theirs) => theirs == value,
            };
            assert!(alike, "{field}: {value}, and peft writes {}", config[field]);
        }
    }
}

#[test]
fn steps_are_those_of_torch() {
    for (name, stored) in all() {
        let adapter = import(&name);
        let examples = stored.examples.into_iter();
        let examples = examples.map(|e| Example::new(e.tokens, e.targets).unwrap());
        let (settings, examples) = (stored.settings, examples.collect());
        let mut trainer = Trainer::warm(TINY.clone(), &adapter, settings, examples).unwrap();
        let rows = stored.losses.iter().zip(&stored.norms).zip(&stored.rates);
        for (i, ((loss, norm), rate)) in rows.enumerate() {
            let step = trainer.step().unwrap().unwrap();
            let near = |got: f64, want: f64, tolerance: f64| {
                assert!(
                    (got / want - 1.0).abs() < tolerance,
                    "{name} {i}: {got}, not {want}"
                );
            };
            assert!((step.learning_rate - rate).abs() < 1e-12, "{name} {i}");
            near(step.loss, *loss, 1e-4);
            near(step.gradient_norm, *norm, 1e-3);
            if i == 0 {
                near(step.loss, *loss, 2e-6);
                near(step.gradient_norm, *norm, 2e-5);
            }
        }
        assert!(trainer.step().unwrap().is_none());
        let want = fs::read(reference(&format!("lora/{name}.trained.safetensors"))).unwrap();
        let got = &trainer.adapter().unwrap().files().unwrap()[1].1;
        for (got, want) in tensors(got).iter().zip(&tensors(&want)) {
            assert_eq!((&got.0, &got.1), (&want.0, &want.1));
            let error = error(&got.2, &want.2);
            assert!(error < 1e-3, "{name} {}: {error}", got.0);
        }
    }
}

/// Run by `make test-peft`.
#[test]
#[ignore = "needs torch and peft"]
fn peft_loads_what_is_written_here() {
    let python = env::var("LOCI_TEST_PEFT")
        .expect("LOCI_TEST_PEFT must name a Python that has torch, transformers and peft");
    let adapter = trained(&["q_proj", "v_proj", "o_proj", "down_proj"], 4);
    let dir = written(&adapter);
    let texts = all().remove("all").unwrap().texts;
    let rows = texts.iter().map(|tokens| {
        let text = Text {
            tokens,
            adapter: Some(&adapter),
        };
        json!({"ids": tokens, "logits": TINY.logits(&[text]).unwrap()[0]})
    });
    let logits = dir.path().join("logits.json");
    fs::write(&logits, Value::Array(rows.collect()).to_string()).unwrap();
    let done = Command::new(python)
        .arg(reference("lora/check.py"))
        .arg(reference("decoder/tiny"))
        .arg(dir.path())
        .arg(&logits)
        .status()
        .unwrap();
    assert!(done.success());
}
