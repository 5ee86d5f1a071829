//! What outlives a pipeline's resources: the record that the store keeps of it, and what is made of that when the
//! resources are gone.
//!
//! Releases with their verdicts and the pointer are what cannot be looked up again. Runs are not kept: what the newest
//! good one came to is, so that a pipeline that comes back knows what it has.

use std::collections::BTreeSet;

use jiff::Timestamp;
use loci_crds::budget::MonthCost;
use loci_crds::pipeline::{DeletionPolicy, SourceStatus};
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryReleaseSpec, MemoryReleaseStatus, MemoryRun};
use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::view::{Lane, ReleaseView, RunView};
use crate::world::{Built, StepOutcome, StepResult, World};

/// What the store keeps of a pipeline, by its namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRecord {
    /// The pipeline that wrote it.
    pub uid: String,
    /// What becomes of it when that pipeline is gone.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// The release last promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// What the newest good run of the index came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Built>,
    /// The releases, by number.
    #[serde(default)]
    pub releases: Vec<KeptRelease>,
    /// The sources as the newest run counted them.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// What trainings have cost that began in the month of the newest writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<MonthCost>,
    /// What steps of live runs made, by which they go on to their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<StepOutcome>,
    /// When the pipeline was first found to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// Nothing of it is on the bus any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purged: bool,
}

/// A release without what an API server adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRelease {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: MemoryReleaseSpec,
    /// What became of it.
    pub status: MemoryReleaseStatus,
}

/// What is to be made of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// Releases to be created again, with their status.
    pub releases: Vec<MemoryRelease>,
    /// The release to be served.
    pub desired: Option<String>,
    /// What the newest good run came to.
    pub built: Option<Built>,
    /// Releases whose content is not in the store any more.
    pub lost: Vec<String>,
}

impl PipelineRecord {
    /// All that it needs of the store.
    pub fn roots(&self) -> Vec<Digest> {
        let releases = self.releases.iter().flat_map(|kept| kept.release().roots());
        let built = self.built.iter().map(|b| b.snapshot);
        let results = self.results.iter().filter_map(|o| o.result.as_ref().ok());
        let results = results.map(StepResult::output);
        let all: BTreeSet<Digest> = releases.chain(built).chain(results).collect();
        all.into_iter().collect()
    }
}

impl KeptRelease {
    fn of(release: &MemoryRelease) -> Option<Self> {
        Some(Self {
            name: release.name().to_owned(),
            spec: release.spec.clone(),
            status: release
                .status
                .clone()
                .filter(|s| s.observed_generation != Some(-1))?,
        })
    }

    fn release(&self) -> MemoryRelease {
        let mut release = MemoryRelease::new(&self.name, self.spec.clone());
        release.status = Some(self.status.clone());
        release
    }

    /// The release, if what it serves is there. What else of it is gone is not named any more.
    fn restored(&self, usable: &BTreeSet<Digest>) -> Option<MemoryRelease> {
        let has = |text: &String| text.parse().is_ok_and(|d| usable.contains(&d));
        let mut release = self.release();
        let needs = release.needs()?;
        if !needs.iter().all(|d| usable.contains(d)) {
            return None;
        }
        if let Some(status) = &mut release.status {
            status.snapshot.take_if(|s| !has(s));
            if let Some(verdict) = &mut status.verdict {
                verdict.evaluation.take_if(|e| !has(e));
            }
        }
        Some(release)
    }
}

/// What the store should keep of a pipeline as it is now.
pub fn record(world: &World) -> PipelineRecord {
    let mut releases: Vec<_> = world.releases.iter().filter_map(KeptRelease::of).collect();
    releases.sort_by_key(|r| r.spec.number);
    let counted = |source: &SourceStatus| SourceStatus {
        last_success_time: None,
        error: None,
        ..source.clone()
    };
    PipelineRecord {
        uid: world.pipeline.uid.clone().unwrap_or_default(),
        deletion_policy: world.pipeline.deletion_policy,
        desired: world.serving.desired.clone(),
        built: built(world),
        releases,
        sources: world.status.sources.iter().map(counted).collect(),
        cost: world.status.cost.clone(),
        results: results(world),
        missing_since: None,
        purged: false,
    }
}

/// What cannot be had by doing a step again: a listing would be another one; or what a release is made of. The rest is done
/// again, which is looking it up.
fn results(world: &World) -> Vec<StepOutcome> {
    let live = |name: &str| {
        let run = world.runs.iter().find(|r| r.name() == name);
        run.is_some_and(|r| !r.phase().is_terminal())
    };
    let kept = |o: &&StepOutcome| {
        let result = o.result.as_ref();
        let lasting = |r: &StepResult| {
            matches!(
                r,
                StepResult::Snapshot(_) | StepResult::Assemble(_) | StepResult::Train(_)
            )
        };
        live(&o.key.run) && result.is_ok_and(lasting)
    };
    world.outcomes.iter().filter(kept).cloned().collect()
}

/// The newest good run of the index that there is, or was: of runs that are deleted one by one, the oldest does not come to count.
fn built(world: &World) -> Option<Built> {
    let newest = world.runs.iter().filter_map(of_run).max_by_key(|b| b.ended);
    match (newest, &world.built) {
        (Some(run), Some(before)) if run.ended < before.ended => Some(before.clone()),
        (None, before) => before.clone(),
        (run, _) => run,
    }
}

fn of_run(run: &MemoryRun) -> Option<Built> {
    if run.phase() != RunPhase::Succeeded || run.lane() != Some(Lane::Index) {
        return None;
    }
    Some(Built {
        inputs: run.inputs()?.to_owned(),
        snapshot: run.output(StepName::Snapshot)?,
        read: run.snapshot_time()?,
        ended: run.ended()?,
        release: run.status.as_ref()?.release.clone(),
    })
}

/// What a pipeline that starts takes from its record, or from that of a pipeline of its name that is gone: `there` are
/// its releases that exist, `pointer` says what is served if anything does, `usable` is what the store still has of the
/// record's roots. What exists is never replaced.
pub fn restore(
    record: &PipelineRecord,
    pointer: Option<&str>,
    there: &[MemoryRelease],
    usable: &BTreeSet<Digest>,
) -> Restored {
    let (mut releases, mut lost) = (Vec::new(), Vec::new());
    let taken = |kept: &&KeptRelease| {
        let same = |r: &MemoryRelease| r.name() == kept.name || r.spec.number == kept.spec.number;
        there.iter().any(same)
    };
    for kept in record.releases.iter().filter(|kept| !taken(kept)) {
        match kept.restored(usable) {
            Some(release) => releases.push(release),
            None => lost.push(kept.name.clone()),
        }
    }
    let known = |name: &String| there.iter().chain(&releases).any(|r| r.name() == name);
    let desired = pointer.map(str::to_owned);
    let desired = desired.or_else(|| record.desired.clone().filter(known));
    let built = record.built.clone();
    // Without its release nothing tells whether that content serves: it is built again.
    let built =
        built.filter(|b| usable.contains(&b.snapshot) && b.release.as_ref().is_some_and(known));
    Restored {
        releases,
        desired,
        built,
        lost,
    }
}
