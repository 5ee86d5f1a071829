//! What Train is asked to do, what that is kept under, and what comes of it.

use loci_digest::Digest;
use loci_models::{Decoder, DecoderIdentity, LoraConfig, ModelError, Schedule, TrainingSettings};
use serde::{Deserialize, Serialize};

use super::adapter::Trained;
use super::error::TrainError;
use crate::step::{DatasetManifest, StepError};

/// Changes when the same input would be trained otherwise.
const TRAINER: u32 = 1;

/// What Train is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainInput {
    /// The run, by name: the device's time is counted by runs, and what a training has come to is kept for them.
    pub run: String,
    /// The base model's reference.
    pub base: String,
    /// The dataset's manifest.
    pub dataset: Digest,
    /// The adapter's shape.
    pub lora: LoraConfig,
    /// How it is trained.
    pub training: TrainingOptions,
    /// Whether layers are computed again on the way back, for less memory. What is learned is the same to the bit.
    #[serde(default)]
    pub recompute: bool,
    /// The adapter's manifest that the training starts from; the base alone, if absent.
    pub warm_start: Option<Digest>,
    /// The largest rank that what serves it can load, where there is a limit.
    pub max_lora_rank: Option<usize>,
    /// Seconds on the device that the run is known to have used. What a checkpoint says counts instead when that is more.
    #[serde(default)]
    pub device_seconds: u64,
    /// Seconds on the device that the run may use, in all its attempts together.
    pub max_device_seconds: Option<u64>,
}

/// How an adapter is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingOptions {
    /// How often each example is seen.
    pub epochs: usize,
    /// The learning rate at its height.
    pub learning_rate: f64,
    /// What becomes of it then.
    pub schedule: Schedule,
    /// The share of steps in which it rises to its height.
    pub warmup: f64,
    /// What AdamW takes off the weights in each step, as a share of the learning rate.
    pub weight_decay: f64,
    /// Examples of a step.
    pub batch: usize,
    /// The most tokens of an example that is trained on, where that is less than the model's context.
    pub max_tokens: Option<usize>,
    /// Decides the first weights, the order of examples and what dropout leaves out.
    pub seed: u64,
}

/// What Train made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainOutput {
    /// The adapter's manifest.
    pub adapter: Digest,
    /// What the adapter is called by: equal for equal adapters.
    pub content: Digest,
    /// The digest of the base's weights.
    pub base_weights: Digest,
    /// Its rank.
    pub rank: usize,
    /// The training in numbers.
    pub trained: Trained,
    /// Seconds on the device that the run used, in all its attempts together.
    pub device_seconds: f64,
}

impl TrainingOptions {
    pub(super) fn settings(&self) -> TrainingSettings {
        TrainingSettings {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            seed: self.seed,
            ..TrainingSettings::default()
        }
    }
}

impl TrainInput {
    /// The key of the adapter: all that decides what it learns. Whoever computes it, the first one stands.
    pub(super) fn key(
        &self,
        pipeline: &str,
        base: &DecoderIdentity,
        dataset: &DatasetManifest,
    ) -> Result<Digest, StepError> {
        let of = (&self.lora, &self.training, &self.warm_start);
        let of = (pipeline, base.digest(), dataset.content, of);
        Ok(Digest::of_json(&("loci/train/v1", TRAINER, of))?)
    }

    /// Refuses what means nothing, and what could never be loaded.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        if self.training.max_tokens == Some(0) {
            return Err(TrainError::Refused(ModelError::Setting {
                field: "maxTokens",
                value: "0".to_owned(),
                expected: "1 or more",
            }));
        }
        let settings = self.training.settings().check();
        settings.map_err(TrainError::Refused)?;
        self.within(
            self.max_lora_rank,
            "which is the most that what serves it loads",
        )
    }

    /// Refuses what does not fit the base.
    pub(super) fn fits(&self, base: &Decoder) -> Result<(), TrainError> {
        let largest = self.lora.largest_rank(&base.projections());
        let largest = largest.map_err(TrainError::Refused)?;
        let why = "the smaller side of the smallest layer that targetModules name";
        self.within(Some(largest), why)
    }

    fn within(&self, limit: Option<usize>, why: &'static str) -> Result<(), TrainError> {
        let rank = self.lora.rank;
        match limit.filter(|limit| rank > *limit) {
            Some(limit) => Err(TrainError::Rank { rank, limit, why }),
            None => Ok(()),
        }
    }
}
