//! `kubectl loci`: the pipelines of a cluster, by the current kubeconfig. The same program as `loci`, when it is called
//! `kubectl-loci`; or else `loci kubectl`.

mod advise;
mod cluster;
mod follow;
mod forward;
mod intend;
mod owned;
mod query;
mod releases;
mod runs;
pub mod status;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::output::Output;
use cluster::{Cluster, Scope};

/// What a person types before the name of a command.
const PROGRAM: &str = "kubectl loci";

/// Whether the program was called by this name: kubectl takes `kubectl-loci` in PATH for `kubectl loci`.
pub fn is_plugin(program: Option<&std::ffi::OsStr>) -> bool {
    let stem = program.and_then(|p| Path::new(p).file_stem());
    stem.is_some_and(|s| s == "kubectl-loci")
}

/// Memory pipelines of a Kubernetes cluster: what serves, what runs, and how to have it otherwise
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-loci",
    bin_name = "kubectl loci",
    version,
    propagate_version = true
)]
pub struct Plugin {
    /// How to print answers
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    kubectl: Kubectl,
}

/// Where, and what.
#[derive(Debug, Args)]
pub struct Kubectl {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster and namespace.
#[derive(Debug, Args)]
pub struct Target {
    /// The context of the kubeconfig; by default its current one
    #[arg(long, global = true)]
    context: Option<String>,
    /// The namespace; by default the context's
    #[arg(short, long, global = true)]
    namespace: Option<String>,
}

/// The pipeline that a command is about.
#[derive(Debug, Args)]
struct Which {
    /// The pipeline; may be left out where the namespace has one only
    pipeline: Option<String>,
}

/// Where a list looks.
#[derive(Debug, Args)]
struct Everywhere {
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Everywhere {
    fn scope(&self) -> Scope {
        match self.all_namespaces {
            true => Scope::Everywhere,
            false => Scope::Namespace,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What serves, how fresh it is, what comes next; all about one pipeline when it is named
    Status(status::Status),
    /// Lists runs, shows one with its steps, or follows them
    Runs(runs::Runs),
    /// Starts a run
    #[command(subcommand)]
    Run(runs::Run),
    /// Lists releases, or shows one with its verdict
    Releases(releases::Releases),
    /// Goes back to an older release and holds on to it until `kubectl loci resume`
    Rollback(intend::Rollback),
    /// Lets new releases through again after a rollback
    Resume(intend::Resume),
    /// Lets a held run delete what it would delete
    Approve(intend::Approve),
    /// Starts no more runs; what serves goes on serving
    Suspend(intend::Suspend),
    /// Asks a replica for the passages that answer a question
    Query(query::Query),
    /// Says where this memory belongs and what it costs
    Advise(advise::Advise),
}

impl Plugin {
    /// Does what was asked.
    pub async fn run(self) -> Result<()> {
        self.kubectl.run(self.output).await
    }
}

impl Kubectl {
    /// Does what was asked.
    pub async fn run(self, output: Output) -> Result<()> {
        let target = self.target;
        // Files can be advised on, and an address asked, without a cluster.
        let cluster = || Cluster::connect(&target);
        match self.command {
            Command::Status(status) => status.run(&cluster().await?, output).await,
            Command::Runs(runs) => runs.run(&cluster().await?, output).await,
            Command::Run(run) => run.run(&cluster().await?, output).await,
            Command::Releases(releases) => releases.run(&cluster().await?, output).await,
            Command::Rollback(rollback) => rollback.run(&cluster().await?, output).await,
            Command::Resume(resume) => resume.run(&cluster().await?, output).await,
            Command::Approve(approve) => approve.run(&cluster().await?, output).await,
            Command::Suspend(suspend) => suspend.run(&cluster().await?, output).await,
            Command::Query(query) => query.run(&target, output).await,
            Command::Advise(advise) => advise.run(&target, output).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn the_programs_name_makes_it_a_plugin() {
        let is = |name: &str| is_plugin(Some(OsStr::new(name)));
        assert!(is("kubectl-loci") && is("/usr/local/bin/kubectl-loci"));
        assert!(!is("loci") && !is("/opt/kubectl-loci/loci") && !is_plugin(None));
    }
}
