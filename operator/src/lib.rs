//! The Kubernetes shell around the plan: MemoryPipelines, MemoryRuns and MemoryReleases on an API server.
//!
//! One task watches; each pipeline that something is to be done for has a task of its own that dereferences what its
//! spec names, validates, and runs the [`Controller`](loci_shell::Controller) that `loci up` runs too, with a
//! [`Keeper`](loci_shell::Keeper) whose resources are on the API server. A pipeline in trouble is tried again with
//! backoff and disturbs no other. One that is settled is glanced at when something happens to it, and costs its facts.
//!
//! Steps run in the operator's own process or, over NATS, in workers. A pipeline is served by the operator's process or
//! by replicas of its own, which [`replicate`] is. Beside a vLLM, [`adapt`] keeps a pipeline's adapters loaded.

mod adapters;
mod annotations;
mod apply;
mod artifacts;
mod cache;
mod cluster;
mod dereference;
mod events;
mod facts;
mod fetchers;
mod fleet;
mod glance;
mod goal;
mod leader;
mod maps;
mod metrics;
mod operator;
mod packed;
mod pipeline;
mod pipelines;
mod pointed;
mod pointer;
mod ready;
mod replica;
mod restricted;
mod sweep;
mod wakes;
mod warm;
mod watch;
mod work;

pub use adapters::{AdapterOptions, AdapterTerms, adapt};
pub use annotations::{APPROVE, CANCEL, FINETUNE, REFRESH, ROLLBACK, SUSPEND};
pub use cluster::PIPELINE;
pub use fetchers::{FetcherOptions, FetcherTemplate, fetch};
pub use fleet::{COMPONENT, Network, PORT, STATUS_PORT, Template, objects};
pub use leader::{Election, Timing};
pub use metrics::{Own, Scope, serve_metrics};
pub use operator::{Options, Serving, run};
pub use ready::serve_readiness;
pub use replica::{Limits, ReplicaOptions, replicate};
pub use restricted::Program;
pub use work::{stays, worker};

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::net::TcpListener;

/// Locks what no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// Who writes, in `metadata.managedFields` and in events.
pub const MANAGER: &str = "loci-operator";
