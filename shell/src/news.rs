//! What a pipeline's loop hears of.

use anyhow::Result;
use loci_crds::{MemoryRelease, MemoryRun};
use loci_plan::{Look, Reported, StepOutcome};

/// What happened outside of the loop.
pub enum News {
    /// A step ended.
    Outcome(Box<StepOutcome>),
    /// A step has come so far.
    Progress(Reported),
    /// A probe ended.
    Look(Box<Look>),
    /// A watched source changed.
    Hint(String),
    /// A release was loaded, or not.
    Loaded(String, Result<()>),
    /// What serves may have changed.
    Serving,
    /// Garbage was collected.
    Collected,
    /// Somebody else changed or deleted what says which release is to be served.
    Pointer,
    /// Something that people should know.
    Trouble(String),
    /// What people ask for may have changed.
    Asked,
    /// Somebody else wrote a run.
    Run(Box<MemoryRun>),
    /// Somebody else deleted a run.
    RunGone(String),
    /// Somebody else wrote a release.
    Release(Box<MemoryRelease>),
    /// Somebody else deleted a release.
    ReleaseGone(String),
}
