//! What tests run against: a bare Kubernetes control plane, its programs the real ones; and what they judge statuses by.
//!
//! [`ControlPlane`] is etcd and kube-apiserver (and kube-controller-manager on demand) on loopback ports, without a node
//! and without root: RBAC, admission, CEL, server-side apply and watches are Kubernetes' own. `make tools` builds the
//! programs, and `make test` says where they are.

mod commands;
mod control;
pub mod documents;
pub mod git;
mod guard;
mod history;
pub mod hub;
mod keys;
pub mod kstatus;
mod kubectl;
mod log;
mod meaning;
mod nats;
mod programs;
pub mod s3;
mod server;

use std::path::PathBuf;
use std::process::ExitStatus;

pub use control::{ControlPlane, service_account};
pub use history::History;
pub use nats::Nats;
pub use s3::S3;

/// Where the repository is whose tests run: known at run time, since a built test may outlive the clone it was built in.
pub fn root() -> PathBuf {
    let start = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| ".".into(), PathBuf::from);
    let found = start.ancestors().find(|d| d.join("Cargo.lock").exists());
    found.map_or(start.clone(), PathBuf::from)
}

/// The test bed's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no control plane to test with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not to be found.
    #[error("no {program} to test with: {looked}; run `make tools`, and the tests by `make test`")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// A program cannot be started.
    #[error("cannot start {0}: {1}")]
    Start(PathBuf, #[source] std::io::Error),
    /// A program ended by itself.
    #[error("{program} ended with {status}; its log ends with\n{log}")]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// Something that was waited for did not come.
    #[error("{what} did not come within {seconds} s; the API server's log ends with\n{log}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The end of the API server's log.
        log: String,
    },
    /// The files of a control plane cannot be written or read.
    #[error(transparent)]
    Files(#[from] std::io::Error),
    /// Keys and certificates cannot be made.
    #[error("cannot make keys: {0}")]
    Keys(#[from] rcgen::Error),
    /// The kubeconfig cannot be read.
    #[error(transparent)]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server refuses or does not answer.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// What is to be installed is no definition, or the audit log has a line that is no event.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}
