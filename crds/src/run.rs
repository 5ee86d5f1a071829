//! `MemoryRun`: one execution.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::RunCost;
use crate::source::LocalRef;

/// One execution of a pipeline: a refresh of its index, a fine-tune of an adapter, or a rebase. Its spec is immutable.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "loci.dev",
    version = "v1alpha1",
    kind = "MemoryRun",
    plural = "memoryruns",
    shortname = "mrun",
    category = "loci",
    namespaced,
    cel,
    derive = "PartialEq",
    doc = "One execution of a pipeline: a refresh of its index, a fine-tune of an adapter, or a rebase.",
    status = "MemoryRunStatus",
    printcolumn(
        name = "Pipeline",
        type_ = "string",
        json_path = ".spec.pipelineRef.name",
        priority = 1
    ),
    printcolumn(name = "Adapter", type_ = "string", json_path = ".spec.adapter"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.steps[-1:].name"),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a run's spec is immutable: create another run"),
    validation = Rule::new("(self.kind == 'FineTune') == has(self.adapter)").message("a fine-tune, and no other run, names an adapter"),
    validation = Rule::new("(self.kind == 'Rebase') == has(self.release)").message("a rebase, and no other run, names a release"),
)]
pub struct MemoryRunSpec {
    /// The pipeline.
    pub pipeline_ref: LocalRef,
    /// What the run does.
    pub kind: RunKind,
    /// The adapter that a fine-tune trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub adapter: Option<String>,
    /// The release whose new component a rebase puts upon what serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub release: Option<String>,
    /// Why it was started.
    pub trigger: RunTrigger,
    /// The pipeline's generation that the run works for; absent for a run that a person made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The due time that the run stands for, when a schedule started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    /// When the newest look at the sources was taken before the run was made: it answers that look and all before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_time: Option<MicroTime>,
    /// The request that the run answers, when a person asked: one request, one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub request: Option<String>,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunKind {
    /// Brings the index up to date.
    Refresh,
    /// Trains an adapter.
    FineTune,
    /// Judges what is new in a release anew, upon what serves by now: the release was overtaken by one with another component.
    Rebase,
}

/// Why a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunTrigger {
    /// The pipeline has no release yet.
    Initial,
    /// A due look found change.
    Schedule,
    /// A watched source changed.
    SourceChanged,
    /// The pipeline's spec changed in a way that the index depends on.
    SpecChanged,
    /// A person asked.
    Requested,
    /// Enough examples may be new.
    NewExamples,
    /// What a release was judged with does not serve any more.
    Rebased,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// Not started.
    #[default]
    Pending,
    /// At work.
    Running,
    /// Waits for approval: a source would lose more documents than maxDeletion allows.
    Held,
    /// Done; the release says what became of the result.
    Succeeded,
    /// Ended by an error.
    Failed,
    /// Ended by a person, or because its pipeline went away.
    Cancelled,
}

impl RunPhase {
    /// Whether the run has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The steps of runs. Those of one run are in this order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum StepName {
    /// Lists the sources and fetches what changed.
    Snapshot,
    /// Cuts changed documents into passages and embeds those that are new.
    Embed,
    /// Makes the new revision: the old one plus the change.
    Assemble,
    /// Makes the dataset of what procedural sources hold.
    Collect,
    /// Trains the adapter.
    Train,
    /// Judges the candidate by the pipeline's suites.
    Evaluate,
}

impl StepName {
    /// The steps of runs of a kind, in their order.
    pub fn of(kind: RunKind) -> &'static [Self] {
        match kind {
            RunKind::Refresh => &[Self::Snapshot, Self::Embed, Self::Assemble, Self::Evaluate],
            RunKind::FineTune => &[Self::Snapshot, Self::Collect, Self::Train, Self::Evaluate],
            RunKind::Rebase => &[Self::Evaluate],
        }
    }

    /// The name as it stands in a run's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "Snapshot",
            Self::Embed => "Embed",
            Self::Assemble => "Assemble",
            Self::Collect => "Collect",
            Self::Train => "Train",
            Self::Evaluate => "Evaluate",
        }
    }
}

/// How a run goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryRunStatus {
    /// The generation that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the run is.
    #[serde(default)]
    pub phase: RunPhase,
    /// Why it is there, in one CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The attempt at the current step, from 1.
    #[serde(default)]
    pub attempt: i32,
    /// When work began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The digest of all in the pipeline's spec that what the run builds depends on, as the run found it: of the index sources, embedder, chunking; of an adapter base, sources, lora, training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    /// The steps that began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<StepStatus>,
    /// How far the step at work has come. Written every 30 seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<RunProgress>,
    /// What a fine-tune collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetStatus>,
    /// What its training takes, estimated before it begins and counted while it is at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<RunCost>,
    /// The release that came of it, or the one that already holds the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Whether a person approved deletions beyond maxDeletion.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// Reconciling while the run is at work or held; then Succeeded, or Failed and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A dataset in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetStatus {
    /// The digest of what is in it: equal for equal examples.
    pub content: String,
    /// Examples to train on.
    pub examples: i64,
    /// Those that the last training by the same settings had not.
    pub new_examples: i64,
}

/// How far the step at work has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunProgress {
    /// The step.
    pub step: StepName,
    /// How much is done, in units.
    pub done: i64,
    /// How much there is to do; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// What is counted: documents, chunks, queries, steps.
    pub unit: String,
    /// When it was so.
    pub time: Time,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step.
    pub name: StepName,
    /// When it began.
    pub start_time: Time,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The digest of what it stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What it did, for people: "2,000 documents, 12 changed".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}
