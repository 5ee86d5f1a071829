//! A training written out between two steps.

use std::collections::BTreeSet;

use loci_digest::Digest;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Trainer, TrainingSettings};
use crate::lora::{tensor_a, tensor_b};
use crate::weights::{to_f32, to_safetensors};
use crate::{AdapterBase, DecoderIdentity, LoraConfig, ModelError};

/// The version of checkpoints that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The entry of the file's metadata.
const STATE: &str = "loci";

/// What the names of the tensors begin with: the adapter's weights, and the means of gradients and of their squares.
const PARTS: [&str; 3] = ["weights.", "first.", "second."];

/// Where a training is. The order of examples and what dropout leaves out follow from it and the seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Position {
    /// Steps that were made.
    pub step: usize,
    /// Epochs that are over.
    pub epoch: usize,
    /// Examples that were seen of the next, in its order.
    pub taken: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    version: u32,
    pub base: AdapterBase,
    pub lora: LoraConfig,
    pub settings: TrainingSettings,
    data: Digest,
    examples: usize,
    start: Option<Digest>,
    position: Position,
}

pub(super) struct Checkpoint<'a> {
    pub state: State,
    tensors: SafeTensors<'a>,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, ModelError> {
    Err(ModelError::Checkpoint(reason.into()))
}

impl<'a> Checkpoint<'a> {
    pub fn write(trainer: &Trainer, identity: &DecoderIdentity) -> Result<Vec<u8>, ModelError> {
        let state = State {
            version: VERSION,
            base: identity.into(),
            lora: trainer.lora.clone(),
            settings: trainer.settings.clone(),
            data: trainer.data,
            examples: trainer.examples.len(),
            start: trainer.start,
            position: trainer.position(),
        };
        let state = serde_json::to_string(&state);
        let state = state.map_err(|e| ModelError::Compute(format!("a checkpoint: {e}")))?;
        let moments = &trainer.moments;
        let tensors = PARTS
            .into_iter()
            .zip([&trainer.values, &moments.first, &moments.second])
            .flat_map(|(part, values)| trainer.layout.named(part, values));
        to_safetensors(tensors.collect(), STATE, state)
    }

    pub fn read(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let damaged = |e: safetensors::SafeTensorError| ModelError::Checkpoint(e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let state = header.metadata().as_ref().and_then(|all| all.get(STATE));
        let Some(state) = state else {
            return refuse("its metadata say nothing of a training");
        };
        let state: State = match serde_json::from_str(state) {
            Ok(state) => state,
            Err(e) => return refuse(format!("its metadata: {e}")),
        };
        if state.version != VERSION {
            let version = state.version;
            return refuse(format!(
                "version {version} is not supported; supported: {VERSION}"
            ));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        Ok(Self { state, tensors })
    }

    /// Puts a new trainer where the checkpoint was written.
    pub fn restore(&self, trainer: &mut Trainer) -> Result<(), ModelError> {
        let state = &self.state;
        if trainer.data != state.data {
            let (count, examples) = (trainer.examples.len(), state.examples);
            return refuse(format!(
                "it is one of {examples} examples with the digest {}, and these are {count} with {}; give it the same in the same order, or start anew",
                state.data, trainer.data
            ));
        }
        trainer.start = state.start;
        trainer.done = state.position.step;
        if trainer.done > trainer.steps() || trainer.position() != state.position {
            return refuse("its position is not one that its settings lead to");
        }
        let mut rest: BTreeSet<String> = self.tensors.iter().map(|(n, _)| n.to_owned()).collect();
        let slots = trainer.layout.slots.clone();
        let moments = &mut trainer.moments;
        let targets = [&mut trainer.values, &mut moments.first, &mut moments.second];
        for (part, target) in PARTS.into_iter().zip(targets) {
            for slot in &slots {
                let name = &slot.projection.name;
                for (name, range) in [(tensor_a(name), slot.a()), (tensor_b(name), slot.b())] {
                    let name = format!("{part}{name}");
                    rest.remove(&name);
                    self.read_into(&name, &mut target[range])?;
                }
            }
        }
        match rest.first() {
            Some(name) => refuse(format!(
                "it holds a tensor \"{name}\" that is no part of it"
            )),
            None => Ok(()),
        }
    }

    fn read_into(&self, name: &str, target: &mut [f32]) -> Result<(), ModelError> {
        let Ok(view) = self.tensors.tensor(name) else {
            return refuse(format!("it has no tensor \"{name}\""));
        };
        let values = match view.dtype() {
            Dtype::F32 => to_f32(view.data(), Dtype::F32).unwrap_or_default(),
            other => return refuse(format!("tensor \"{name}\" is {other}, and must be F32")),
        };
        if values.len() != target.len() {
            let (got, expected) = (values.len(), target.len());
            return refuse(format!(
                "tensor \"{name}\" has {got} numbers, and must have {expected}"
            ));
        }
        target.copy_from_slice(&values);
        Ok(())
    }
}
