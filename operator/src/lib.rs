//! The Kubernetes shell around the plan: MemoryPipelines, MemoryRuns and MemoryReleases on an API server.
//!
//! One task watches; each pipeline has a task of its own that dereferences what its spec names, validates, and runs
//! the [`Controller`](loci_shell::Controller) that `loci up` runs too, with a [`Keeper`](loci_shell::Keeper) whose
//! resources are on the API server. A pipeline in trouble is tried again with backoff and disturbs no other.
//!
//! Steps and serving run in the operator's own process.

mod annotations;
mod cluster;
mod dereference;
mod events;
mod operator;
mod pipeline;
mod watch;

pub use annotations::{APPROVE, CANCEL, REFRESH, ROLLBACK};
pub use operator::{Options, run};

/// Who writes, in `metadata.managedFields` and in events.
pub const MANAGER: &str = "loci-operator";
