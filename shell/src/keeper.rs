//! Where a pipeline's resources are kept.

use std::collections::BTreeMap;

use anyhow::Result;
use async_trait::async_trait;
use jiff::Timestamp;
use loci_crds::{
    MemoryPipelineStatus, MemoryRelease, MemoryReleaseStatus, MemoryRun, MemoryRunSpec,
    MemoryRunStatus,
};
use loci_plan::{Intents, Look, StepOutcome, World};
use serde::{Deserialize, Serialize};

/// What a controller needs again after a restart, beside runs and releases. Losing the looks and the outcomes
/// costs time, never work: sources are looked at again, and a step's output is looked up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    /// The release last promoted.
    pub desired: Option<String>,
    /// The newest look at each source.
    pub looks: BTreeMap<String, Look>,
    /// Outcomes of steps of runs that have not ended.
    pub outcomes: Vec<StepOutcome>,
    /// When garbage was last collected.
    pub collected: Option<Timestamp>,
}

/// Something that people may want to hear of.
pub enum Told<'a> {
    /// A run was created, or its phase changed.
    Run(&'a MemoryRun),
    /// A release was made, or its phase changed.
    Release(&'a MemoryRelease),
    /// A step ended.
    Step(&'a StepOutcome),
    /// A release answers queries.
    Serving {
        /// Its name.
        release: &'a str,
        /// Whether nothing answered before.
        first: bool,
    },
    /// Something failed that is tried again.
    Trouble(String),
}

/// The resources of one pipeline. Each write is durable when it returns, and is one write: a crash leaves it done
/// or not done. What exists already is not created again but returned.
#[async_trait]
pub trait Keeper: Send + Sync + 'static {
    /// What people asked for, as it stands now.
    async fn intents(&self) -> Result<Intents>;

    /// Makes sure that the pipeline is still there, under the same uid, and is not being deleted.
    async fn confirm(&self) -> Result<()>;

    /// Creates a run.
    async fn create_run(&self, name: &str, spec: MemoryRunSpec) -> Result<MemoryRun>;

    /// Writes a run's status; gives the run as it is then.
    async fn update_run(&self, run: &MemoryRun, status: MemoryRunStatus) -> Result<MemoryRun>;

    /// Deletes a run; it is no error when it is gone.
    async fn delete_run(&self, name: &str) -> Result<()>;

    /// Creates a release with its status.
    async fn create_release(&self, release: MemoryRelease) -> Result<MemoryRelease>;

    /// Writes a release's status; gives the release as it is then.
    async fn update_release(
        &self,
        release: &MemoryRelease,
        status: MemoryReleaseStatus,
    ) -> Result<MemoryRelease>;

    /// Deletes a release; it is no error when it is gone.
    async fn delete_release(&self, name: &str) -> Result<()>;

    /// Writes the pipeline's status.
    async fn write_status(&self, status: &MemoryPipelineStatus) -> Result<()>;

    /// Writes what is kept beside. The desired release must be durable when this returns.
    async fn keep(&self, kept: &Kept) -> Result<()>;

    /// There is nothing to do until something happens or a time comes.
    fn idle(&self) {}

    /// Nothing is under way, and nothing has happened for a moment. True when what is kept says all that the loop
    /// knows: then the loop ends, to be begun again when something happens.
    async fn rests(&self, _: &World) -> Result<bool> {
        Ok(false)
    }

    /// Tells people.
    fn tell(&self, told: Told<'_>);
}
