//! Encoders against sentence-transformers, decoders against transformers, adapters against peft, models that
//! must be refused, cross-encoders and late interaction against plain arithmetic, and fetching from a hub.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agreement;
mod batch;
mod decoder;
mod decoder_refusals;
mod hub;
mod lora;
mod lora_agreement;
mod lora_refusals;
mod plain;
mod probes;
mod refusals;
mod rerank;
mod smollm2;
mod training;
mod weights;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use loci_models::{DeviceRequest, Embeddings, Encoder, Role};
use serde_json::Value;
use tempfile::TempDir;

fn reference(name: &str) -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/reference")
        .join(name)
}

/// A copy of the tiny model in which `files` replace its own; those given as null are removed.
fn tiny<'a>(files: impl IntoIterator<Item = (&'a str, Value)>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(reference("tiny")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content {
            Value::Null => fs::remove_file(path).unwrap(),
            Value::String(text) => fs::write(path, text).unwrap(),
            json => fs::write(path, json.to_string()).unwrap(),
        }
    }
    dir
}

/// config.json of the tiny model with one field changed.
fn config_with(field: &str, value: Value) -> Value {
    let mut config: Value =
        serde_json::from_slice(&fs::read(reference("tiny/config.json")).unwrap()).unwrap();
    config[field] = value;
    config
}

fn load(dir: &Path) -> Encoder {
    Encoder::load(dir, DeviceRequest::Auto).unwrap()
}

fn embed(encoder: &Encoder, texts: &[&str], role: Role) -> Embeddings {
    encoder
        .embed(texts, role, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
