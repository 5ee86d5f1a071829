//! A pipeline's spec as typed values, validated once: nothing after this reads the raw resource.

mod adapter;
mod budget;
mod fields;
mod fusion;
mod guard;
mod impact;
mod remote;
mod rerank;
mod runtime;
mod source;
mod suite;

use std::time::Duration;

use loci_crds::MemoryPipeline;
use loci_crds::pipeline::DeletionPolicy;
use loci_digest::Digest;
use serde::Serialize;

use crate::metrics::{Kind, Metric};
use crate::schedule::Schedule;
pub use adapter::{Adapter, Lora, Training};
pub use budget::Budget;
use fields::Fields;
pub use fusion::{Fusion, Normalization};
pub use impact::{Impact, impact};
pub use remote::{Bucket, Provider, Sitemap};
pub use rerank::{Rerank, RerankMethod};
pub use runtime::Vllm;
pub use source::{Declared, Location, Paths, Reference, Source};
pub use suite::{Gate, Suite, SuiteData};

/// The class of workers when a pipeline names none.
pub const DEFAULT_CLASS: &str = "cpu";
const DEFAULT_INTERVAL: Duration = Duration::from_secs(600);
const DEFAULT_MIN_AGE: Duration = Duration::from_secs(168 * 3600);
const FRESH_INTERVALS: u32 = 3;
/// A field of a spec that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// The field: `spec.index.refresh.cron`.
    pub field: String,
    /// What is wrong with it, and the way out.
    pub reason: String,
}

/// A pipeline that can be planned for. Defaults are filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Its name; run and release names start with it.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
    /// No new runs.
    pub suspend: bool,
    /// The embedder's reference: `hf://org/name@revision` or `file://` and a directory.
    pub model: String,
    /// Where the memory comes from.
    pub sources: Vec<Source>,
    /// When sources are looked at.
    pub schedule: Schedule,
    /// How old the last look that found the served content up to date may be.
    pub freshness: Duration,
    /// The share of a source's documents that one run may drop without approval.
    pub max_deletion: f64,
    /// How documents are cut.
    pub chunking: Chunking,
    /// How searches make one score of two.
    pub fusion: Fusion,
    /// How the best of what is found is put into another order; not at all, if absent.
    pub rerank: Option<Rerank>,
    /// Suites.
    pub suites: Vec<Suite>,
    /// Gates.
    pub gates: Vec<Gate>,
    /// Serve this release and promote nothing else.
    pub pin: Option<i64>,
    /// Releases kept beside those that something needs.
    pub release_history: usize,
    /// How long a release that served is kept after it was replaced.
    pub release_min_age: Duration,
    /// Finished runs kept.
    pub run_history: usize,
    /// How long a query may take.
    pub latency_budget: Option<Duration>,
    /// What answers chats in place of replicas.
    pub vllm: Option<Vllm>,
    /// What becomes of releases and artefacts when the pipeline is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The class of workers that do the steps.
    pub class: String,
    /// What is fine-tuned.
    pub adapters: Vec<Adapter>,
    /// What training that may cost.
    pub budget: Option<Budget>,
}

/// How documents are cut into passages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Chunking {
    /// The most tokens of a passage.
    pub max_tokens: usize,
    /// Tokens that neighbours share.
    pub overlap_tokens: usize,
}

impl Pipeline {
    /// Validates the resource and fills in defaults.
    ///
    /// # Errors
    /// Every field that cannot be accepted, each with its reason.
    pub fn from_resource(resource: &MemoryPipeline) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::default();
        let pipeline = Self::read(resource, &mut fields);
        fields.finish(pipeline)
    }

    /// Reads all it can; what it cannot is noted in `fields`, and then the value is not used.
    fn read(resource: &MemoryPipeline, fields: &mut Fields) -> Self {
        let spec = &resource.spec;
        fields.refuse_unbuilt(spec);
        let name = resource.metadata.name.clone().unwrap_or_default();
        if name.is_empty() || name.len() > 40 {
            fields.error(
                "metadata.name",
                "give a name of 1 to 40 characters: run and release names start with it",
            );
        }
        let identity = resource.metadata.uid.clone().unwrap_or_else(|| {
            format!(
                "{}/{name}",
                resource.metadata.namespace.as_deref().unwrap_or_default()
            )
        });
        let schedule = fields.schedule(&spec.index.refresh, &identity);
        let period = schedule.as_ref().map_or(DEFAULT_INTERVAL, Schedule::period);
        let freshness = period.saturating_mul(FRESH_INTERVALS);
        let sources = fields.sources(&spec.sources);
        let suites = fields.suites(&spec.suites);
        let class = fields.class("spec.workers.class", spec.workers.class.as_deref());
        let pipeline = Self {
            namespace: resource.metadata.namespace.clone(),
            uid: resource.metadata.uid.clone(),
            suspend: spec.suspend,
            model: fields.model("spec.embedder.model", &spec.embedder.model),
            sources,
            schedule: schedule.unwrap_or_else(|| Schedule::every(DEFAULT_INTERVAL)),
            freshness: fields.duration(
                "spec.index.freshness",
                spec.index.freshness.as_ref(),
                freshness,
            ),
            max_deletion: fields.share(
                "spec.index.maxDeletion",
                spec.index.max_deletion.as_ref(),
                0.20,
            ),
            chunking: fields.chunking(&spec.index.chunking),
            fusion: fields.fusion(spec.index.fusion.as_ref()),
            rerank: fields.rerank(spec),
            gates: fields.gates(&spec.gates, &suites),
            suites,
            pin: fields.pin(spec.rollout.pin),
            release_history: fields.count(
                "spec.releases.historyLimit",
                spec.releases.history_limit,
                1..=100,
                5,
            ),
            release_min_age: fields.duration(
                "spec.releases.minAge",
                spec.releases.min_age.as_ref(),
                DEFAULT_MIN_AGE,
            ),
            run_history: fields.count(
                "spec.runs.historyLimit",
                spec.runs.history_limit,
                1..=100,
                10,
            ),
            latency_budget: fields.optional_duration(
                "spec.serving.latencyBudget",
                spec.serving.latency_budget.as_ref(),
            ),
            vllm: fields.vllm(spec),
            deletion_policy: spec.deletion_policy.unwrap_or_default(),
            adapters: fields.adapters(spec, &identity),
            budget: fields.budget(spec, &class),
            class,
            name,
        };
        pipeline.guarded()
    }

    /// The metrics that Evaluate scores on a suite: those of its gates, or some to go by when it has none.
    pub fn metrics_of(&self, suite: &str) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = self
            .gates
            .iter()
            .filter(|g| g.suite == suite)
            .map(|g| g.metric)
            .collect();
        if metrics.is_empty() {
            let suite = self.suites.iter().find(|s| s.name == suite);
            metrics = match suite.map(|s| s.kind) {
                Some(Kind::Behavior) => Metric::BEHAVIOR.to_vec(),
                _ => vec![Metric::RecallAt(5), Metric::NdcgAt(10), Metric::Mrr],
            };
        }
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// How many hits Evaluate keeps of each question of a suite.
    pub fn depth_of(&self, suite: &str) -> usize {
        self.metrics_of(suite)
            .into_iter()
            .map(Metric::depth)
            .max()
            .unwrap_or(1)
    }

    /// The digest of all that the index depends on: the embedder, the chunking, the sources that are indexed, the fusion
    /// unless it is the default, the re-ranking if there is any.
    pub fn build_inputs(&self) -> String {
        let sources: Vec<_> = self.read_by(None).collect();
        let inputs = ("loci/build/v1", &self.model, self.chunking, sources);
        match (self.fusion.is_default(), &self.rerank) {
            (true, None) => digest(&inputs),
            (false, None) => digest(&(inputs, self.fusion)),
            (true, Some(rerank)) => digest(&(inputs, "rerank", rerank)),
            (false, Some(rerank)) => digest(&((inputs, self.fusion), "rerank", rerank)),
        }
    }

    /// The digest of all in the spec that a verdict depends on: the suites and the gates.
    pub fn gate_inputs(&self) -> String {
        digest(&("loci/gates/v1", &self.suites, &self.gates))
    }
}

/// The digest of a value's JSON. The values here are plain structs, which always have one.
pub(crate) fn digest(value: &impl Serialize) -> String {
    Digest::of_json(value)
        .map(|d| d.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
