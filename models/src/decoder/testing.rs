//! A small network for tests.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::config::LlamaConfig;
use super::llama::Llama;
use super::rope::Scaling;
use super::tensors::Tensors;
use crate::ModelError;

/// Weights made up from their names.
struct MadeUp(PathBuf);

impl Tensors for MadeUp {
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let mut state = name
            .bytes()
            .fold(7, |s, b| (s * 31 + u64::from(b)) % 1_000_003)
            + 1;
        let norm = name.ends_with("norm.weight");
        let values = (0..shape.iter().product::<usize>()).map(|_| {
            state = (state * 48_271) % 2_147_483_647;
            let value = state as f32 / 2_147_483_647.0 - 0.5;
            if norm { 1.0 + value } else { value }
        });
        Ok(values.collect())
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn surplus(&self) -> Option<String> {
        None
    }
}

/// Heads are wider than the hidden size divided by their number, and two share keys.
pub(crate) fn config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        vocabulary: 50,
        hidden: 20,
        layers: 3,
        heads: 4,
        kept_heads: 2,
        size: 6,
        intermediate: 34,
        context: 400,
        epsilon: 1e-5,
        theta: 100.0,
        scaling: Scaling::None,
        tied,
    }
}

pub(crate) fn llama(tied: bool, device: &Device) -> Llama {
    Llama::load(&config(tied), &mut MadeUp(PathBuf::new()), device).unwrap()
}
