//! The steps of a refresh: Snapshot -> Embed -> Assemble -> Evaluate; and those of a fine-tune after its own Snapshot:
//! Collect -> Train -> Evaluate. Snapshot is done where credentials are, by a [`FetchContext`]; the others by workers that see no source, by
//! [`run`].
//!
//! A step reads what the store holds and stores its output under its input key, so that doing it
//! again is a lookup. It can be cancelled between batches and reports how far it is.

mod assemble;
mod behavior;
mod collect;
mod context;
mod corpus;
mod cut;
mod delta;
mod embed;
mod evaluate;
mod fetch;
mod indexed;
mod lookup;
mod models;
mod revisions;
mod shelf;
mod snapshot;
pub mod suite;
mod train;
mod upload;

use loci_digest::Digest;
use loci_models::{Fault, ModelError};
use loci_plan::spec::{Fusion, Rerank};
use serde::{Deserialize, Serialize};

pub use assemble::{AssembleOutput, REVISION, RevisionManifest};
pub use behavior::{BEHAVIOR, BehaviorEvaluation, BehaviorInput};
pub use collect::{
    CollectError, CollectInput, CollectOutput, ContextInput, DATASET, DatasetContext,
    DatasetManifest,
};
pub use context::{CHECKPOINTS, Reporter, StepContext, Way};
pub use delta::{DELTA, DeltaManifest, EmbedOutput};
pub use evaluate::{EVALUATION, EvaluateOutput, HitRecord, QuestionRecord, SuiteEvaluation};
pub use fetch::{
    Fetch, FetchContext, FetchItem, Missing, ProbeOutput, SourceInput, SourceProvider,
};
pub use indexed::indexed;
pub use models::{Decoders, Encoders};
pub use revisions::{Directory, Revisions};
pub use shelf::{Shelf, SnapshotKey};
pub use snapshot::{SNAPSHOT, Snapshot, SnapshotOutput, SourceCount, SourceSnapshot};
pub use train::{
    ADAPTER, AdapterManifest, CHECKPOINT, CheckpointManifest, CurvePoint, LeftOut, Stretch,
    TrainError, TrainInput, TrainOutput, Trained, Training, TrainingOptions,
};
pub use upload::{KeepRequest, KeptSnapshot, PutAnswer, SNAPSHOT_KEY, Upload};

use crate::behavior::CasesError;
use crate::chunk::ChunkerConfig;
use crate::document::ParserError;
use crate::source::SourceError;

/// What a step is asked to do: the payload of its work item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum StepInput {
    /// Cuts and embeds what `snapshot` has and `previous` has not.
    Embed {
        /// The snapshot.
        snapshot: Digest,
        /// The revision to build on.
        previous: Option<Digest>,
        /// The embedder's reference.
        model: String,
        /// How documents are cut.
        chunking: ChunkerConfig,
    },
    /// Makes the revision that a delta describes.
    Assemble {
        /// The delta.
        delta: Digest,
        /// How searches of it fuse.
        #[serde(default, skip_serializing_if = "Fusion::is_default")]
        fusion: Fusion,
        /// How what is found in it is put into another order, with an absolute reference; not at all, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rerank: Option<Rerank>,
    },
    /// Asks each revision the questions of each suite, and models what behaviour suites ask.
    Evaluate {
        /// The candidate, then those that it is compared with.
        revisions: Vec<Digest>,
        /// The retrieval suites.
        suites: Vec<SuiteInput>,
        /// The behaviour suites, each with its model.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        behaviors: Vec<BehaviorInput>,
    },
    /// Makes the dataset of what an adapter is trained on.
    Collect(CollectInput),
    /// Trains an adapter on a dataset.
    Train(TrainInput),
}

/// A retrieval suite to ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteInput {
    /// Its name.
    pub name: String,
    /// The blob of its JSONL.
    pub data: Digest,
    /// How many hits of each question are kept: the largest K of its metrics.
    pub depth: usize,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum StepOutput {
    /// Of Snapshot.
    Snapshot(SnapshotOutput),
    /// Of a look.
    Probe(ProbeOutput),
    /// Of Embed.
    Embed(EmbedOutput),
    /// Of Assemble.
    Assemble(AssembleOutput),
    /// Of Evaluate.
    Evaluate(EvaluateOutput),
    /// Of Collect.
    Collect(CollectOutput),
    /// Of Train.
    Train(TrainOutput),
}

impl StepInput {
    /// The key under which the step's output is kept, given the identity of the model it uses.
    fn key(&self, pipeline: &str, model: Option<&Digest>) -> Result<Digest, StepError> {
        Ok(Digest::of_json(&("loci/step/v1", pipeline, self, model))?)
    }
}

/// Why a step ended without output.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Someone asked it to stop.
    #[error("cancelled")]
    Cancelled,
    /// It has written down where it is, and made way: another attempt goes on from there.
    #[error("made way for others")]
    Yielded,
    /// No source could be read, and there is no earlier content.
    #[error("no source could be read: {0}")]
    Sources(String),
    /// A source could not be looked at.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something that a source's declaration names is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It is for another process of the class to do, one that is about to start.
    #[error("not here: {0}")]
    Elsewhere(String),
    /// What a source holds cannot be handed over.
    #[error("what was fetched cannot be handed over: {0}")]
    Upload(String),
    /// The work item does not say what to do.
    #[error("the work item's payload does not read: {0}")]
    Payload(String),
    /// The pipeline is not known to this worker.
    #[error("the pipeline {0} is not known here: was it removed?")]
    UnknownPipeline(String),
    /// A suite does not parse.
    #[error(transparent)]
    Suite(#[from] suite::SuiteError),
    /// A behaviour suite does not parse.
    #[error(transparent)]
    Cases(#[from] CasesError),
    /// A model cannot be asked a case.
    #[error("suite {suite}, case {id}: {reason}")]
    Case {
        /// The suite.
        suite: String,
        /// The case.
        id: String,
        /// Why not, and the way out.
        reason: String,
    },
    /// No dataset can be made.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// No adapter can be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The store.
    #[error(transparent)]
    Store(#[from] loci_store::StoreError),
    /// What a source holds was read and cannot be kept.
    #[error(transparent)]
    Sink(SourceError),
    /// The embedder cannot be loaded.
    #[error("spec.embedder.model: {0}")]
    Embedder(#[source] ModelError),
    /// What is found cannot be put into another order.
    #[error("spec.retrieval.rerank.model: {0}")]
    Rerank(String),
    /// The model, at work.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Documents that are no text cannot be read here.
    #[error(transparent)]
    Parser(#[from] ParserError),
    /// The index.
    #[error(transparent)]
    Index(#[from] loci_index::IndexError),
    /// A local file.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something that was stored does not read back.
    #[error("stored data does not read back: {0}")]
    Format(#[from] serde_json::Error),
    /// A task of this process died.
    #[error("a task of the step ended unexpectedly: {0}")]
    Task(String),
}

impl StepError {
    /// One CamelCase word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cancelled => "Cancelled",
            Self::Yielded => "Yielded",
            Self::Sources(_) | Self::Source(_) => "SourcesUnreachable",
            Self::Missing(missing) => missing.reason,
            Self::Payload(_) => "InvalidPayload",
            Self::Elsewhere(_) => "Elsewhere",
            Self::UnknownPipeline(_) => "UnknownPipeline",
            Self::Suite(_) | Self::Cases(_) | Self::Case { .. } => "InvalidSuite",
            Self::Collect(error) => error.reason(),
            Self::Train(error) => error.reason(),
            Self::Store(_) | Self::Sink(_) | Self::Upload(_) => "StoreError",
            Self::Embedder(error) | Self::Model(error) => match error {
                ModelError::OutOfMemory(_) => "DeviceOutOfMemory",
                ModelError::DeviceFailed(_) => "DeviceFailed",
                _ => "ModelError",
            },
            Self::Rerank(_) => "ModelError",
            Self::Parser(_) => "ParserFailed",
            Self::Index(_) => "IndexError",
            Self::File { .. } => "FileError",
            Self::Format(_) => "FormatError",
            Self::Task(_) => "TaskFailed",
        }
    }

    /// Whether the device that computed has failed, and not the step.
    pub fn device_failed(&self) -> bool {
        match self {
            Self::Embedder(error) | Self::Model(error) => {
                matches!(error, ModelError::DeviceFailed(_))
            }
            // A backend that panics says so in the same words.
            Self::Task(text) => Fault::of(text) == Some(Fault::Failed),
            _ => false,
        }
    }

    /// Whether the same input may succeed later without anyone changing it.
    pub fn retryable(&self) -> bool {
        !matches!(
            self,
            Self::Cancelled
                | Self::Suite(_)
                | Self::Cases(_)
                | Self::Case { .. }
                | Self::Collect(_)
                | Self::Train(_)
                | Self::UnknownPipeline(_)
                | Self::Missing(_)
                | Self::Payload(_)
        )
    }
}

/// Does the step `input` of `pipeline` (`namespace/name`), or looks its output up.
///
/// # Errors
/// [`StepError::reason`] names the kind; nothing is kept of a step that failed but blobs, which the
/// next attempt finds.
pub async fn run(
    context: &StepContext,
    pipeline: &str,
    input: &StepInput,
    reporter: &Reporter,
) -> Result<StepOutput, StepError> {
    match input {
        StepInput::Embed { .. } => embed::run(context, pipeline, input, reporter)
            .await
            .map(StepOutput::Embed),
        StepInput::Assemble {
            delta,
            fusion,
            rerank,
        } => {
            let how = (fusion, rerank.as_ref());
            let assembled = assemble::run(context, pipeline, input, delta, how, reporter).await;
            assembled.map(StepOutput::Assemble)
        }
        StepInput::Evaluate {
            revisions,
            suites,
            behaviors,
        } => evaluate::run(context, revisions, (suites, behaviors), reporter)
            .await
            .map(StepOutput::Evaluate),
        StepInput::Collect(input) => collect::run(context, pipeline, input, reporter)
            .await
            .map(StepOutput::Collect),
        StepInput::Train(input) => train::run(context, pipeline, input, reporter)
            .await
            .map(StepOutput::Train),
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| StepError::Task(e.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_failed_is_told_from_a_step_that_did() {
        let failed = || ModelError::DeviceFailed("CUDA_ERROR_ASSERT".to_owned());
        for error in [
            StepError::Model(failed()),
            StepError::Embedder(failed()),
            StepError::Task("task 7 panicked with message \"The device is poisoned\"".to_owned()),
        ] {
            assert!(error.device_failed(), "{error}");
        }
        let full = StepError::Model(ModelError::OutOfMemory(
            "CUDA_ERROR_OUT_OF_MEMORY".to_owned(),
        ));
        assert_eq!(full.reason(), "DeviceOutOfMemory");
        for error in [
            full,
            StepError::Cancelled,
            StepError::Model(ModelError::Compute("not finite".to_owned())),
            StepError::Task("task 7 panicked".to_owned()),
        ] {
            assert!(!error.device_failed(), "{error}");
        }
    }
}
