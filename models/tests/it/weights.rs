//! The forms in which the same weights are published.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use loci_models::Role;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use crate::{cosine, embed, load, reference, tiny};

const TEXTS: [&str; 3] = ["The thing", "thinker of THE things, at length", ""];

/// By name: element type, shape, bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub fn tensors() -> Tensors {
    let bytes = fs::read(reference("tiny/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |view: TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, own(view)))
        .collect()
}

pub fn write(tensors: &Tensors, dir: &Path) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs::write(
        dir.join("model.safetensors"),
        serialize(views, None).unwrap(),
    )
    .unwrap();
}

/// The vectors of the tiny model after `change` to its tensors.
fn vectors_after(change: impl Fn(Tensors) -> Tensors) -> Vec<f32> {
    let dir = tiny([]);
    write(&change(tensors()), dir.path());
    embed(&load(dir.path()), &TEXTS, Role::Passage).vectors
}

fn renamed(tensors: Tensors, rename: impl Fn(&str) -> String) -> Tensors {
    tensors
        .into_iter()
        .map(|(name, tensor)| (rename(&name), tensor))
        .collect()
}

#[test]
fn names_may_be_prefixed_old_or_surplus() {
    let plain = vectors_after(|tensors| tensors);
    let prefixed = vectors_after(|tensors| renamed(tensors, |name| format!("bert.{name}")));
    let old = vectors_after(|tensors| {
        renamed(tensors, |name| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
        })
    });
    let surplus = vectors_after(|mut tensors| {
        let positions = (0..40i64).flat_map(i64::to_le_bytes).collect();
        tensors.insert(
            "embeddings.position_ids".into(),
            (Dtype::I64, vec![1, 40], positions),
        );
        tensors.insert(
            "pooler.dense.bias".into(),
            (Dtype::F32, vec![36], vec![0; 144]),
        );
        tensors
    });
    assert_eq!(plain, prefixed);
    assert_eq!(plain, old);
    assert_eq!(plain, surplus);
}

#[test]
fn half_precision_weights_are_read_as_they_are() {
    let floats = |data: &[u8]| -> Vec<f32> {
        data.chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    let round = |bits: u32, drop: u32| bits + ((1 << (drop - 1)) - 1) + (bits >> drop & 1);
    let bf16 = |v: f32| (round(v.to_bits(), 16) >> 16) as u16;
    // Weights of this model lie between 2^-14 and 65504 in magnitude, or are flushed to zero.
    let f16 = |v: f32| {
        let bits = round(v.to_bits() & 0x7fff_ffff, 13);
        let half = if bits < 113 << 23 {
            0
        } else {
            (bits - (112 << 23)) >> 13
        };
        (v.to_bits() >> 16 & 0x8000) as u16 | half as u16
    };
    let narrowed = |dtype: Dtype, narrow: &dyn Fn(f32) -> u16| {
        vectors_after(|tensors| {
            let narrow = |data: &[u8]| {
                floats(data)
                    .into_iter()
                    .flat_map(|v| narrow(v).to_le_bytes())
                    .collect()
            };
            tensors
                .into_iter()
                .map(|(name, (_, shape, data))| (name, (dtype, shape, narrow(&data))))
                .collect()
        })
    };
    let exact = vectors_after(|tensors| tensors);
    for (dtype, got, floor) in [
        ("BF16", narrowed(Dtype::BF16, &bf16), 0.999),
        ("F16", narrowed(Dtype::F16, &f16), 0.99999),
    ] {
        assert_ne!(got, exact);
        for (got, exact) in got.chunks(36).zip(exact.chunks(36)) {
            let cosine = cosine(got, exact);
            assert!(cosine > floor, "{dtype}: {cosine}");
        }
    }
}
