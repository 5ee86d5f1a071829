//! `MemoryRelease`: an immutable, numbered set of components with its verdict.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::LocalRef;

/// An immutable, numbered set of components, each by digest. Exactly one release of a pipeline is served.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "loci.dev",
    version = "v1alpha1",
    kind = "MemoryRelease",
    plural = "memoryreleases",
    shortname = "mrel",
    category = "loci",
    namespaced,
    cel,
    derive = "PartialEq",
    doc = "An immutable, numbered set of components, each by digest, with its verdict.",
    status = "MemoryReleaseStatus",
    printcolumn(
        name = "Pipeline",
        type_ = "string",
        json_path = ".spec.pipelineRef.name"
    ),
    printcolumn(name = "Number", type_ = "integer", json_path = ".spec.number"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Verdict",
        type_ = "string",
        json_path = ".status.verdict.outcome"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a release is immutable"))]
pub struct MemoryReleaseSpec {
    /// The pipeline.
    pub pipeline_ref: LocalRef,
    /// Counts up from 1 within the pipeline.
    #[schemars(range(min = 1))]
    pub number: i64,
    /// The run that built it.
    #[schemars(length(min = 1, max = 253))]
    pub run: String,
    /// The index revision.
    pub index: IndexComponent,
    /// The embedder that made the index and embeds queries.
    pub embedder: EmbedderComponent,
    /// The adapter that is new in it; absent when the index is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub adapter: Option<String>,
    /// The adapters that are served with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub adapters: Vec<AdapterComponent>,
}

/// An index revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexComponent {
    /// The digest of the revision's manifest in the store.
    #[schemars(length(min = 1, max = 256))]
    pub revision: String,
    /// The digest of what is in it: equal for equal documents, chunker, embedder and re-ranking.
    #[schemars(length(min = 1, max = 256))]
    pub content_id: String,
    /// Documents.
    pub documents: i64,
    /// Passages.
    pub passages: i64,
    /// The cross-encoder that puts what is found into another order; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_encoder: Option<CrossEncoderComponent>,
}

/// A model that reads query and passage together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrossEncoderComponent {
    /// The model's reference.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// The digest of its identity: weights, tokenizer, labels, length.
    #[schemars(length(min = 1, max = 256))]
    pub identity: String,
}

/// An embedder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbedderComponent {
    /// The model's reference.
    #[schemars(length(min = 1, max = 2048))]
    pub model: String,
    /// The digest of its identity: weights, tokenizer, pooling, prompts, length.
    #[schemars(length(min = 1, max = 256))]
    pub identity: String,
}

/// An adapter of a base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdapterComponent {
    /// The adapter's name in the pipeline.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The digest of its manifest in the store.
    #[schemars(length(min = 1, max = 256))]
    pub manifest: String,
    /// The digest of the adapter itself: its weights and what they belong to.
    #[schemars(length(min = 1, max = 256))]
    pub adapter: String,
    /// The base model's reference.
    #[schemars(length(min = 1, max = 256))]
    pub base: String,
    /// The digest of the base model's weights: the adapter is loaded on no others.
    #[schemars(length(min = 1, max = 256))]
    pub base_digest: String,
    /// Its rank.
    pub rank: i32,
    /// The digest of the manifest of what it was trained on.
    #[schemars(length(min = 1, max = 256))]
    pub dataset: String,
}

/// Where a release is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReleasePhase {
    /// Built, not yet promoted.
    #[default]
    Candidate,
    /// Served.
    Serving,
    /// Served once; rollback can reach it.
    Retired,
    /// Failed its gates.
    Rejected,
    /// Its gates could not tell; never promoted.
    Inconclusive,
    /// Overtaken by a newer candidate before it was promoted.
    Superseded,
    /// Taken back by a rollback; never promoted again until resumed.
    Withdrawn,
}

/// What became of a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryReleaseStatus {
    /// The generation that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the release is.
    #[serde(default)]
    pub phase: ReleasePhase,
    /// Why it is there, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What its gates said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The digest of all that the verdict depends on: the gates, the suites and their data, the contents of this release, the baseline and the anchor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict_inputs: Option<String>,
    /// The digest of the snapshot of the sources that it was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The release that small losses are measured against since this one was promoted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// When it was last promoted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted_time: Option<Time>,
    /// When it was last replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_time: Option<Time>,
    /// Reconciling while the release waits to be served, and Serving.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What the gates of a release said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Passed when every gate passed or does not apply.
    pub outcome: Outcome,
    /// When it was decided.
    pub time: Time,
    /// The release that it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// The digest of the evaluation (each question's outcome) in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<String>,
    /// The gates, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateResult>,
    /// Results left out because a release is kept small: those that decided stay.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// What a gate, or all of them, said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Holds.
    Passed,
    /// Does not hold.
    Failed,
    /// The suite cannot tell; never promoted.
    Inconclusive,
    /// There is nothing to compare with yet.
    NotApplicable,
}

/// What one gate said. Numbers are decimals as strings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateResult {
    /// The suite.
    pub suite: String,
    /// The metric.
    pub metric: String,
    /// What it said.
    pub outcome: Outcome,
    /// Why, for people.
    pub message: String,
    /// Questions that counted.
    pub questions: i64,
    /// Questions whose labels are stale: the expected document vanished.
    pub stale: i64,
    /// The candidate's mean.
    pub candidate: String,
    /// The serving release's mean on the same questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// The anchor's mean on the same questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// The mean of the base model without adapter on the same questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The one-sided 95 % bound of the loss that decided; below 0 it is a gain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
}
