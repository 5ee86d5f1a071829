//! `MemoryPipeline`: what is asked for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter::{AdapterSpec, AdapterStatus};
use crate::budget::{BudgetSpec, MonthCost};
use crate::retrieval::RetrievalSpec;
use crate::runtime::RuntimeSpec;
use crate::source::SourceSpec;
use crate::suite::{GateSpec, SuiteSpec};
use crate::values::{Fraction, GoDuration, Percent};

/// A memory pipeline: where an agent's memory comes from, how fresh it is kept, how it is judged and rolled out.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "loci.dev",
    version = "v1alpha1",
    kind = "MemoryPipeline",
    plural = "memorypipelines",
    shortname = "mp",
    category = "loci",
    namespaced,
    cel,
    derive = "PartialEq",
    doc = "A memory pipeline: where an agent's memory comes from, how fresh it is kept, how it is judged and rolled out.",
    status = "MemoryPipelineStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.servingRelease"),
    printcolumn(name = "Fresh", type_ = "string", json_path = r#".status.conditions[?(@.type=="IndexFresh")].status"#),
    printcolumn(name = "Refreshed", type_ = "date", json_path = ".status.lastRefreshTime"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRefreshTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("a pipeline's name has at most 40 characters: run and release names start with it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.adapters) || self.adapters.all(a, a.base == self.adapters[0].base)").message("all adapters of a pipeline have the same base: a release answers chats with one model").field_path(".adapters"),
    validation = Rule::new("!has(self.adapters) || self.sources.all(s, s.memory == 'procedural' || !self.adapters.exists(a, s.name in a.sources))").message("an adapter is trained on procedural sources only: what changes or must be cited is looked up, so leave it to the index").field_path(".adapters"),
    validation = Rule::new("!has(self.adapters) || self.adapters.all(a, self.sources.filter(s, s.name in a.sources).size() == a.sources.size())").message("an adapter names a source that is not in sources, or one twice").field_path(".adapters"),
    validation = Rule::new("self.sources.all(s, s.memory != 'procedural' || has(self.adapters) && self.adapters.exists(a, s.name in a.sources))").message("a procedural source is what adapters are trained on, and none names it: name it in one's sources, or remove it").field_path(".sources"),
    validation = Rule::new("self.sources.exists(s, s.memory != 'procedural')").message("a release has an index: declare a source that is looked up, of class factual, episodic or profile").field_path(".sources"),
    validation = Rule::new("!has(self.adapters) || !has(self.serving) || !has(self.serving.runtime) || self.adapters.all(a, (has(a.lora) && has(a.lora.rank) ? a.lora.rank : 8) <= (has(self.serving.runtime.vllm.maxLoraRank) ? self.serving.runtime.vllm.maxLoraRank : 16))").message("an adapter's rank is larger than the vLLM of serving.runtime loads (maxLoraRank, 16 when absent): lower lora.rank, or start vLLM with a larger --max-lora-rank and say so here").field_path(".adapters"),
    validation = Rule::new("!has(self.serving) || !has(self.serving.runtime) || has(self.adapters) && self.adapters.size() > 0").message("chats are answered by releases with adapters, and the pipeline has none: declare one in adapters, or remove serving.runtime").field_path(".serving"),
    validation = Rule::new("!has(self.budget) || has(self.adapters) && self.adapters.size() > 0").message("a budget is for training adapters, and the pipeline has none: declare one in adapters, or remove budget").field_path(".budget"),
    validation = Rule::new("!has(self.budget) || self.budget.prices.exists(p, p.class == (has(self.workers) && has(self.workers.class) ? self.workers.class : 'cpu'))").message("a budget needs the price of the workers that train: add one to prices for the class in workers.class, or for cpu when that is absent").field_path(".budget"),
    validation = Rule::new("!has(self.gates) || self.gates.all(g, has(self.suites) && self.suites.exists(s, s.name == g.suite))").message("a gate names a suite that is not in suites").field_path(".gates"),
    validation = Rule::new("!has(self.gates) || !has(self.suites) || self.gates.all(g, self.suites.all(s, s.name != g.suite || has(s.behavior) == (g.metric in ['exactMatch', 'regexMatch', 'schemaValid', 'accuracy', 'likelihood', 'perplexity'])))").message("exactMatch, regexMatch, schemaValid, accuracy, likelihood and perplexity judge behavior suites, all other metrics retrieval suites").field_path(".gates"),
    validation = Rule::new("!has(self.suites) || self.suites.all(s, !has(s.behavior) || has(self.adapters) && self.adapters.size() > 0)").message("behavior suites judge adapters, and the pipeline has none: declare one in adapters, or use retrieval").field_path(".suites"),
    validation = Rule::new("!has(self.suites) || !has(self.adapters) || self.suites.all(s, !has(s.behavior) || !has(s.behavior.adapters) || self.adapters.filter(a, a.name in s.behavior.adapters).size() == s.behavior.adapters.size())").message("a suite names an adapter that is not in adapters, or one twice").field_path(".suites"),
    validation = Rule::new("!has(self.gates) || !has(self.suites) || self.gates.all(g, !has(g.minGain) || self.suites.all(s, s.name != g.suite || has(s.behavior)))").message("minGain compares an adapter with its base model: give it to gates on behavior suites").field_path(".gates"),
)]
pub struct MemoryPipelineSpec {
    /// Stop starting runs; what is served goes on being served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// The model that turns text into vectors.
    pub embedder: EmbedderSpec,
    /// Where the memory comes from.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<SourceSpec>,
    /// How the index is built and kept fresh.
    #[serde(default)]
    pub index: IndexSpec,
    /// How queries are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalSpec>,
    /// Suites that judge a candidate before it is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub suites: Vec<SuiteSpec>,
    /// What a candidate must hold on the suites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["suite".into(), "metric".into()]))]
    pub gates: Vec<GateSpec>,
    /// How a candidate that passed comes to be served.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// How many releases are kept, and how long: what rollback can reach.
    #[serde(default)]
    pub releases: ReleasesSpec,
    /// How many finished runs are kept.
    #[serde(default)]
    pub runs: RunsSpec,
    /// What serving promises.
    #[serde(default)]
    pub serving: ServingSpec,
    /// What becomes of its releases and artefacts when the pipeline is deleted; Retain when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Adapters to fine-tune, all of the same base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub adapters: Vec<AdapterSpec>,
    /// What training them may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// Which workers do the steps.
    #[serde(default)]
    pub workers: WorkersSpec,
}

/// What becomes of a deleted pipeline's releases and artefacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay in the store: applied again, the pipeline serves the same release without building anything.
    #[default]
    Retain,
    /// They are deleted once the pipeline has been gone for the operator's grace period, an hour by default.
    Delete,
}

/// The model that turns text into vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedderSpec {
    /// `hf://org/name@revision`, or `file://` and a directory for `loci up` (a relative path starts at the manifest's own directory).
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(hf://[^/@]+/[^/@]+@[^@]+|file://.+)$"), extend("example" = "hf://sentence-transformers/all-MiniLM-L6-v2@main"))]
    pub model: String,
}

/// How the index is built and kept fresh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexSpec {
    /// When sources are looked at. A watched directory is looked at within a second of a change, too.
    #[serde(default)]
    pub refresh: RefreshSpec,
    /// The promise that IndexFresh is judged by: how old the last successful look at all sources may be. Three intervals when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness: Option<GoDuration>,
    /// A listing that would delete more than this share of a source's documents holds the run until it is approved; 20% when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deletion: Option<Percent>,
    /// How documents are cut into passages.
    #[serde(default)]
    pub chunking: ChunkingSpec,
    /// How searches make one score of those by vector and by words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<FusionSpec>,
}

/// When sources are looked at: by interval (10m when nothing is given) or by cron, not both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.interval) && has(self.cron))").message("give interval or cron, not both"),
    validation = Rule::new("has(self.cron) || !(has(self.timeZone) || has(self.startingDeadline))").message("timeZone and startingDeadline belong to cron"),
)]
pub struct RefreshSpec {
    /// The time from one look to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Five cron fields (minute, hour, day, month, weekday).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 256))]
    pub cron: Option<String>,
    /// The IANA time zone of `cron`; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Each look is put off by up to this much, always by the same share for one pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<GoDuration>,
    /// How late a look may still start after its cron time; missed ones are skipped. Without it, the latest missed one is made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<GoDuration>,
}

/// How documents are cut into passages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.overlapTokens) || self.overlapTokens * 2 <= (has(self.maxTokens) ? self.maxTokens : 256)").message("overlapTokens is at most half of maxTokens"))]
pub struct ChunkingSpec {
    /// The most tokens of a passage, counted by the embedder's own tokenizer; 256 when absent, and never more than the model takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 32, max = 8192))]
    pub max_tokens: Option<i32>,
    /// The tokens that neighbouring passages of a section share; 32 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4096))]
    pub overlap_tokens: Option<i32>,
}

/// How searches make one score of those by vector and by words (BM25). What changes here is judged by the suites before it is served; nothing is embedded anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FusionSpec {
    /// How the scores of the two sides are brought to one scale: minMax (the default), theoreticalMinMax, zScore or reciprocalRank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Normalization>,
    /// What the score by vector weighs, from 0 to 1; that by words has the rest of 1. 0.5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense_weight: Option<Fraction>,
}

/// How the scores of the two sides are brought to one scale. `loci bench fusion` chooses by labelled questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Normalization {
    /// From that of a side's hundredth passage, 0, to that of its best, 1.
    #[default]
    MinMax,
    /// From the least score that is possible, 0, to that of a side's best passage, 1.
    TheoreticalMinMax,
    /// Standard deviations above the mean of a side's best hundred.
    ZScore,
    /// One over 60 plus the rank.
    ReciprocalRank,
}

/// How a candidate that passed comes to be served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.adapters)").message("canaries are not built yet: remove rollout.adapters; an adapter that passes its gates is switched to at once"))]
pub struct RolloutSpec {
    /// Rollout of index changes: gate, then switch.
    #[serde(default)]
    pub index: IndexRollout,
    /// Serve this release, by number, and promote nothing else. For GitOps; `loci rollback` does the same by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pin: Option<i64>,
    /// Rollout of adapters. Not built yet, and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub adapters: Option<BTreeMap<String, serde_json::Value>>,
}

/// Rollout of index changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.canary)").message("canaries are not built yet: remove rollout.index.canary; a candidate that passes its gates is switched to at once"))]
pub struct IndexRollout {
    /// A canary. Not built yet, and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub canary: Option<BTreeMap<String, serde_json::Value>>,
}

/// How many releases are kept, and how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleasesSpec {
    /// Releases kept besides the serving one; 5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: Option<i32>,
    /// A release that served is kept at least this long after it was replaced; 168h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_age: Option<GoDuration>,
}

/// How many finished runs are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunsSpec {
    /// Finished runs kept: of the index, of each adapter, and of rebases; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: Option<i32>,
}

/// What serving promises.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServingSpec {
    /// How long a query may take. Queries over it are counted by /metrics, and `loci advise` weighs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_budget: Option<GoDuration>,
    /// How many pods answer queries. When absent, the operator's default at first, and from then on what an autoscaler or a person scales the Deployment `<pipeline>-recall` to; when set, the operator keeps it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,
    /// What answers chats. When absent, the pods that answer queries, with the base of the adapters loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeSpec>,
}

/// Which workers do the steps that compute: all but Snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkersSpec {
    /// The class of workers, as `loci worker --class` gives it; `cpu` when absent. Under `loci up` this machine does the steps of all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("example" = "gpu-l4"))]
    #[x_kube(validation = Rule::new("self != 'fetch' && !self.startsWith('fetch-')").message("classes named fetch are those of fetchers: use another name"))]
    pub class: Option<String>,
}

/// What is so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPipelineStatus {
    /// The generation that this status speaks of; -1 before the first look.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// Ready, Reconciling, Stalled, SourcesSynced, IndexFresh, GatePassed, Serving, BudgetAvailable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The release that is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving_release: Option<String>,
    /// The release that small losses are measured against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor_release: Option<String>,
    /// The release that a rollback holds the pipeline on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_on: Option<String>,
    /// The last successful look at all sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refresh_time: Option<Time>,
    /// The next look that is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_refresh_time: Option<Time>,
    /// The sources, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<SourceStatus>,
    /// The adapters, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub adapters: Vec<AdapterStatus>,
    /// What trainings have cost that began in this month; absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<MonthCost>,
}

impl Default for MemoryPipelineStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            conditions: Vec::new(),
            serving_release: None,
            anchor_release: None,
            held_on: None,
            last_refresh_time: None,
            next_refresh_time: None,
            sources: Vec::new(),
            adapters: Vec::new(),
            cost: None,
        }
    }
}

/// One source as last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The source's name.
    pub name: String,
    /// Documents at the last successful look.
    pub documents: i64,
    /// Documents left out at the last look (too large, not text, not readable).
    pub skipped: i64,
    /// When the source was last read without an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// Why the last look failed; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn never_observed() -> i64 {
    -1
}
