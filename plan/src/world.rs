//! What a plan is made from: everything that is so, as the shell knows it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use loci_crds::run::StepName;
use loci_crds::{MemoryPipelineStatus, MemoryRelease, MemoryRun};
use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::gate::SuiteScores;
use crate::spec::Pipeline;
use crate::workers::Workers;

/// All that is known of one pipeline.
///
/// The shell must see its own writes: a world that lacks a run which was created already would have
/// it created again.
#[derive(Clone, Debug)]
pub struct World {
    /// The validated spec.
    pub pipeline: Pipeline,
    /// The generation of the spec; the shell counts it up with every change of the spec.
    pub generation: i64,
    /// What people asked for. Each field stands as long as they do not take it back.
    pub intents: Intents,
    /// The digest of each suite's data as it stands now, by suite. A verdict holds for this data
    /// only; a suite that is absent here is told apart by its spec alone.
    pub suite_data: BTreeMap<String, Digest>,
    /// The newest finished probe of each source, by [`Probe::key`]. Durable, or else sources are looked at
    /// again after a restart.
    pub looks: BTreeMap<String, Look>,
    /// What is being probed now, by [`Probe::key`].
    pub probing: BTreeSet<String>,
    /// When a watched source last told of a change, by source. After a restart the shell hints at
    /// every watched source of which changes may have been missed.
    pub hints: BTreeMap<String, Timestamp>,
    /// The pipeline's runs, in any order.
    pub runs: Vec<MemoryRun>,
    /// What ended steps said. Durable; kept until their run has ended.
    pub outcomes: Vec<StepOutcome>,
    /// Steps that are dispatched and have not ended.
    pub in_flight: BTreeSet<StepKey>,
    /// What attempts at work last said of how far they are, by run. It may be lost.
    pub reported: BTreeMap<String, Reported>,
    /// The pipeline's releases, in any order.
    pub releases: Vec<MemoryRelease>,
    /// What is served.
    pub serving: Serving,
    /// The pipeline's status as last written.
    pub status: MemoryPipelineStatus,
    /// When garbage collection was last dispatched.
    pub collected: Option<Timestamp>,
    /// What the newest run that ever succeeded came to. Stands in when runs were deleted, with the pipeline or by a person.
    pub built: Option<Built>,
    /// Who is there to do steps; none when that is not known, or when the planner's own process does them all.
    pub workers: Option<Workers>,
}

/// What a run that succeeded came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// The digest of all in the spec that the index depends on, as the run found it.
    pub inputs: String,
    /// The sources as the run read them.
    pub snapshot: Digest,
    /// When it read them.
    pub read: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The release that holds the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

/// What people asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Intents {
    /// Run now: any new token starts one run. The token of the newest request stays.
    pub refresh: Option<String>,
    /// The same for adapters, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tune: BTreeMap<String, String>,
    /// `loci rollback`: serve this release (by number) and promote nothing, until it is taken back
    /// (`loci resume`). Stronger than `spec.rollout.pin`.
    pub hold: Option<i64>,
    /// Runs whose deletions beyond `maxDeletion` a person approved.
    pub approved: BTreeSet<String>,
    /// Runs that a person cancelled.
    pub cancelled: BTreeSet<String>,
    /// Adapters that start no runs, as if their spec said so.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub suspended: BTreeSet<String>,
}

/// A probe: does a source differ from a snapshot?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The source.
    pub source: String,
    /// The snapshot (a step's output in the store) to compare it with.
    pub basis: Digest,
    /// The due time that the probe stands for; none when a watch asked for it.
    pub due: Option<Timestamp>,
    /// The adapter that is trained on the source; none when it is indexed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
}

impl Probe {
    /// What tells probes of one pipeline apart that are at work at the same time: the source, and for which adapter it is
    /// looked at.
    pub fn key(&self) -> String {
        key(self.adapter.as_deref(), &self.source).into_owned()
    }
}

/// The key of looks at a source, for an adapter or for the index. Names have no slashes.
pub(crate) fn key<'a>(adapter: Option<&str>, source: &'a str) -> Cow<'a, str> {
    match adapter {
        Some(adapter) => format!("{adapter}/{source}").into(),
        None => source.into(),
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// The probe, as it was dispatched.
    pub probe: Probe,
    /// When the probe began.
    pub time: Timestamp,
    /// Whether the source differs, or why that cannot be told.
    pub result: Result<Difference, String>,
}

/// Whether a source differs from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Difference {
    /// A run would find nothing to do.
    Unchanged,
    /// A run is due.
    Changed,
}

/// One attempt at one step of one run. Attempts count up within a step and never repeat.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepKey {
    /// The run's name.
    pub run: String,
    /// The step.
    pub step: StepName,
    /// From 1.
    pub attempt: i32,
}

/// How far an attempt has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Which attempt.
    pub key: StepKey,
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is to do, when that is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: String,
    /// Seconds on a device that its run has used, in all attempts together, where that is counted.
    pub device_seconds: Option<u64>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// Which attempt.
    pub key: StepKey,
    /// When it ended.
    pub time: Timestamp,
    /// What it made, or why it made nothing.
    pub result: Result<StepResult, StepFailure>,
}

/// Why an attempt at a step made nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// One CamelCase word.
    pub reason: String,
    /// For people: what, why, the way out.
    pub message: String,
    /// Whether the same may succeed later.
    pub retryable: bool,
}

/// What a step made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum StepResult {
    /// Of Snapshot.
    Snapshot(Snapshot),
    /// Of Embed.
    Embed(Embedded),
    /// Of Assemble.
    Assemble(Assembled),
    /// Of Collect.
    Collect(Collected),
    /// Of Train.
    Train(Trained),
    /// Of Evaluate.
    Evaluate(Evaluated),
}

impl StepResult {
    /// What the step left in the store.
    pub fn output(&self) -> Digest {
        match self {
            Self::Snapshot(s) => s.output,
            Self::Embed(e) => e.output,
            Self::Assemble(a) => a.revision,
            Self::Collect(c) => c.output,
            Self::Train(t) => t.output,
            Self::Evaluate(e) => e.output,
        }
    }
}

/// The sources at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The snapshot in the store.
    pub output: Digest,
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceSnapshot>,
    /// For people.
    pub summary: String,
}

/// One source in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceSnapshot {
    /// Documents that the index will hold of it.
    pub documents: u64,
    /// Documents that the snapshot before held of it.
    pub before: u64,
    /// Of those, how many are gone.
    pub removed: u64,
    /// Documents left out (too large, not text, not readable).
    pub skipped: u64,
    /// Why it could not be read; its last good content stands in.
    pub error: Option<String>,
}

/// What Embed made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Embedded {
    /// The change, with its vectors, in the store.
    pub output: Digest,
    /// For people.
    pub summary: String,
}

/// What Assemble made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assembled {
    /// The revision in the store.
    pub revision: Digest,
    /// The digest of what is in it.
    pub content_id: Digest,
    /// The identity of the embedder that made it.
    pub embedder: Digest,
    /// The identity of the cross-encoder that puts what is found into another order, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_encoder: Option<Digest>,
    /// Documents.
    pub documents: u64,
    /// Passages.
    pub passages: u64,
    /// For people.
    pub summary: String,
}

/// What Collect made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// The dataset's manifest in the store.
    pub output: Digest,
    /// Equal for equal examples.
    pub content: Digest,
    /// Examples to train on.
    pub total: u64,
    /// Those that the last training had not.
    pub new: u64,
    /// Why that is not worth a training, for people.
    pub not_enough: Option<String>,
    /// For people.
    pub summary: String,
}

/// What Train made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trained {
    /// The adapter's manifest in the store.
    pub output: Digest,
    /// The digest of the adapter itself.
    pub adapter: Digest,
    /// The digest of the base model's weights.
    pub base_digest: Digest,
    /// Its rank.
    pub rank: u32,
    /// Seconds on a device that the run has used, in all attempts together.
    #[serde(default)]
    pub device_seconds: u64,
    /// For people.
    pub summary: String,
}

/// What Evaluate made: the scores of the candidate and of those that it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluated {
    /// Each question's outcome, in the store.
    pub output: Digest,
    /// The subjects, as the dispatch named them.
    pub subjects: Subjects,
    /// The candidate's scores.
    pub candidate: Vec<SuiteScores>,
    /// The baseline's, when there is one.
    pub baseline: Option<Vec<SuiteScores>>,
    /// The anchor's, when there is one.
    pub anchor: Option<Vec<SuiteScores>>,
    /// Those of the base model without adapter, when the candidate brings an adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Vec<SuiteScores>>,
    /// For people.
    pub summary: String,
}

/// What a candidate is judged by: who it is compared with, on which questions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subjects {
    /// The release that serves, by name.
    pub baseline: Option<String>,
    /// The release that small losses are measured against, when that is not the baseline.
    pub anchor: Option<String>,
    /// The suites' data, as [`World::suite_data`] had them.
    pub suite_data: BTreeMap<String, Digest>,
    /// The adapters of the baseline that the candidate is put upon, unless it has one of its own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub adapters: BTreeSet<String>,
}

/// What is served, and what could be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// The release last promoted: the one durable pointer that decides what is served.
    pub desired: Option<String>,
    /// The release that answers queries now.
    pub current: Option<String>,
    /// Releases that are loaded and warm, the current one included.
    pub prepared: BTreeSet<String>,
    /// Releases that are being loaded.
    pub preparing: BTreeSet<String>,
    /// Releases that could not be loaded since they last could; entries go when one loads.
    pub failures: BTreeMap<String, PrepareFailure>,
}

/// A release could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareFailure {
    /// How often in a row.
    pub count: u32,
    /// When it last happened.
    pub time: Timestamp,
    /// Why, for people.
    pub message: String,
}
