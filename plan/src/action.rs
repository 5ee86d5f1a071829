//! What a plan says is to be done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use loci_crds::run::StepName;
use loci_crds::{
    MemoryPipelineStatus, MemoryReleaseSpec, MemoryReleaseStatus, MemoryRunSpec, MemoryRunStatus,
};
use loci_digest::Digest;

use crate::world::{Probe, StepKey, Subjects};

/// What is to be done now, and when to ask again if nothing happens before.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// In this order. Each is one durable write or one dispatch and can be done again; after a crash
    /// between any two, the next plan goes on from there.
    pub actions: Vec<Action>,
    /// The pipeline's status, to be written before the actions if it differs from the last one.
    pub status: MemoryPipelineStatus,
    /// When time alone changes the decision.
    pub wake_at: Option<Timestamp>,
}

/// One durable write or one dispatch. The next world shows both: what was dispatched is in flight, being
/// probed, being prepared.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Dispatch: probe a source. The answer is a [`Look`](crate::world::Look).
    Probe(Probe),
    /// Write: create a run, if there is none of this name, with the time as its creationTimestamp.
    CreateRun {
        /// Its name.
        name: String,
        /// Its spec.
        spec: MemoryRunSpec,
    },
    /// Write: the status of a run.
    UpdateRun {
        /// Its name.
        name: String,
        /// Its whole status.
        status: Box<MemoryRunStatus>,
    },
    /// Dispatch: an attempt at a step. The answer is a
    /// [`StepOutcome`](crate::world::StepOutcome). An attempt that is in flight is not begun twice.
    Dispatch {
        /// The attempt.
        key: StepKey,
        /// What the step works on.
        input: StepInput,
    },
    /// Dispatch: whatever of this run is in flight should stop: the run has ended, or what is at work is an
    /// attempt that it does not wait for any more. From then on it does not count as in flight, and what it
    /// may still answer is dropped. (A shell that forgets what is in flight when a run ends must stop it by
    /// itself.)
    Stop {
        /// The run's name.
        run: String,
    },
    /// Write: create a release with its status, if there is none of this name, with the time as its
    /// creationTimestamp.
    CreateRelease {
        /// `<pipeline>-<number>`.
        name: String,
        /// Its spec.
        spec: Box<MemoryReleaseSpec>,
        /// Its status.
        status: Box<MemoryReleaseStatus>,
    },
    /// Write: the status of a release.
    UpdateRelease {
        /// Its name.
        name: String,
        /// Its whole status.
        status: Box<MemoryReleaseStatus>,
    },
    /// Dispatch: load and warm a release beside the one that serves.
    Prepare {
        /// Its name.
        release: String,
    },
    /// Write: make a prepared release the one that is served.
    Promote {
        /// Its name.
        release: String,
    },
    /// Write: delete a run and the outcomes of its steps.
    DeleteRun {
        /// Its name.
        name: String,
    },
    /// Write: delete a release.
    DeleteRelease {
        /// Its name.
        name: String,
    },
    /// Dispatch: sweep what no root reaches. [`World::collected`](crate::World) tells of it from now on.
    CollectGarbage {
        /// What must stay, with all that it names.
        roots: Vec<Digest>,
    },
}

/// What a step works on, by digest in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepInput {
    /// Read the sources of an adapter, or those that are indexed.
    Snapshot {
        /// The snapshot before.
        previous: Option<Digest>,
        /// The adapter.
        adapter: Option<String>,
    },
    /// Cut and embed what is new.
    Embed {
        /// The snapshot.
        snapshot: Digest,
        /// The revision to build on.
        previous: Option<Digest>,
    },
    /// Make the revision.
    Assemble {
        /// What Embed made.
        change: Digest,
    },
    /// Make the dataset that an adapter is trained on.
    Collect {
        /// The adapter.
        adapter: String,
        /// The snapshot.
        snapshot: Digest,
        /// The dataset of the last training by the same settings.
        last: Option<Digest>,
        /// The fewest examples that must be new.
        min_new: u64,
        /// The index in which passages for its questions are looked up, if any are.
        revision: Option<Digest>,
    },
    /// Train an adapter.
    Train {
        /// The adapter.
        adapter: String,
        /// The dataset.
        dataset: Digest,
        /// The adapter to begin with, if not with none.
        warm_start: Option<Digest>,
        /// Seconds on a device that the run is known to have used.
        device_seconds: u64,
        /// The most that it may use, in all attempts together.
        max_device_seconds: Option<u64>,
    },
    /// Ask the suites of the candidate and of those that it is compared with.
    Evaluate {
        /// The candidate.
        candidate: Subject,
        /// The adapter that is new in it: suites of behaviour are asked of that.
        adapter: Option<String>,
        /// Who it is compared with, to be handed back in the result.
        subjects: Box<Subjects>,
        /// The baseline.
        baseline: Option<Subject>,
        /// The anchor.
        anchor: Option<Subject>,
    },
}

/// What is asked: a revision, and adapters by their manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The index revision.
    pub revision: Digest,
    /// The adapters, by name.
    pub adapters: BTreeMap<String, Digest>,
}

impl StepInput {
    /// The step that takes this input.
    pub fn step(&self) -> StepName {
        match self {
            Self::Snapshot { .. } => StepName::Snapshot,
            Self::Embed { .. } => StepName::Embed,
            Self::Assemble { .. } => StepName::Assemble,
            Self::Collect { .. } => StepName::Collect,
            Self::Train { .. } => StepName::Train,
            Self::Evaluate { .. } => StepName::Evaluate,
        }
    }
}
