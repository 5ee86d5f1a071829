//! The command line.

mod adapters;
pub mod advise;
mod devices;
mod election;
mod fetcher;
mod inspect;
mod intend;
mod mcp;
mod nats;
mod operator;
mod parse_document;
mod probe;
mod query;
mod recall;
mod store;
mod validate;
mod values;
mod worker;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub use inspect::ReleasesCommand;
pub use query::Question;

use crate::bench::Bench;
use crate::kubectl;
use crate::output::Output;
use crate::state::{PipelineState, State};
use crate::up;

/// Declarative memory pipelines for AI agents
#[derive(Debug, Parser)]
#[command(name = "loci", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What all commands take.
#[derive(Debug, Args)]
pub struct Shared {
    /// The directory of state: all that `loci up` keeps, and the caches of a cluster's processes
    #[arg(long, global = true, env = "LOCI_STATE", default_value = ".loci")]
    pub state: PathBuf,
    /// How to print answers
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds, judges, serves and refreshes what the files declare, until stopped
    Up(up::Up),
    /// Checks files as `loci up` would, without running anything
    Validate(validate::Validate),
    Query(query::Query),
    Mcp(mcp::Mcp),
    /// Says how a pipeline is: its conditions, sources, adapters, costs, and the release that serves
    Status(inspect::Status),
    /// Lists runs, or shows one with its steps
    Runs(inspect::Runs),
    /// Lists releases, or shows one with its verdict
    Releases(inspect::Releases),
    /// Goes back to an older release and holds on to it until `loci resume`
    Rollback(intend::Rollback),
    /// Lets new releases through again after a rollback
    Resume(intend::Resume),
    /// Lets a held run delete what it would delete
    Approve(intend::Approve),
    /// Looks at all sources now
    Refresh(intend::Refresh),
    /// Trains an adapter now
    Tune(intend::Tune),
    /// Says where this memory belongs and what it costs
    Advise(advise::Advise),
    Devices(devices::Devices),
    #[command(subcommand)]
    Bench(Bench),
    /// Does on a Kubernetes cluster what `loci up` does on one machine, for MemoryPipelines that are applied there
    Operator(Box<operator::Operator>),
    Worker(worker::Worker),
    Fetcher(fetcher::Fetcher),
    Recall(recall::Recall),
    Adapters(adapters::Adapters),
    Probe(probe::Probe),
    #[command(hide = true)]
    ParseDocument(parse_document::ParseDocument),
    /// The same for pipelines of a cluster: `kubectl loci`, without the plugin
    Kubectl(kubectl::Kubectl),
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Cli {
    /// Whether this process is there to answer queries.
    pub fn answers_queries(&self) -> bool {
        matches!(self.command, Command::Recall(_))
    }

    /// Does at once what must not have the threads of a runtime, if that was asked.
    pub fn run_alone(&self) -> Option<Result<()>> {
        match &self.command {
            Command::ParseDocument(parse) => Some(parse.run()),
            _ => None,
        }
    }

    /// Does what was asked.
    pub async fn run(self) -> Result<()> {
        let shared = self.shared;
        match self.command {
            Command::Up(up) => up.run(&shared.state).await,
            Command::Validate(validate) => validate.run(&shared),
            Command::Query(query) => query.run(&shared).await,
            Command::Mcp(mcp) => mcp.run(&shared).await,
            Command::Status(status) => status.run(&shared),
            Command::Runs(runs) => runs.run(&shared),
            Command::Releases(releases) => releases.run(&shared),
            Command::Rollback(rollback) => rollback.run(&shared),
            Command::Resume(resume) => resume.run(&shared),
            Command::Approve(approve) => approve.run(&shared),
            Command::Refresh(refresh) => refresh.run(&shared),
            Command::Tune(tune) => tune.run(&shared),
            Command::Advise(advise) => advise.run(&shared),
            Command::Devices(devices) => devices.run(&shared).await,
            Command::Bench(bench) => bench.run(&shared).await,
            Command::Operator(operator) => operator.run(&shared).await,
            Command::Worker(worker) => worker.run(&shared).await,
            Command::Fetcher(fetcher) => fetcher.run(&shared).await,
            Command::Probe(probe) => probe.run().await,
            Command::ParseDocument(parse) => parse.run(),
            Command::Recall(recall) => recall.run(&shared).await,
            Command::Adapters(adapters) => adapters.run(&shared).await,
            Command::Kubectl(kubectl) => kubectl.run(shared.output).await,
            Command::Completions { shell } => {
                clap_complete::generate(
                    shell,
                    &mut Self::command(),
                    "loci",
                    &mut std::io::stdout(),
                );
                Ok(())
            }
        }
    }
}

/// Logs of a process that runs as a service.
fn service_log() {
    log_from("info");
}

/// Logs on standard error, from `least` on unless RUST_LOG says otherwise.
fn log_from(least: &str) {
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(least));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// By KUBECONFIG, or a pod's service account.
async fn api_config() -> Result<kube::Config> {
    kube::Config::infer()
        .await
        .context("no way to an API server: set KUBECONFIG, or run in a pod with a service account")
}

async fn api_server() -> Result<kube::Client> {
    Ok(kube::Client::try_from(api_config().await?)?)
}

/// Fires at Ctrl-C or SIGTERM.
fn until_terminated() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if up::terminated().await.is_ok() {
            stop.cancel();
        }
    });
    shutdown
}

/// The pipeline that a command means: the only one, or the one that was named.
fn one_pipeline(shared: &Shared, wanted: Option<&str>) -> Result<(String, PipelineState)> {
    let state = State::open(&shared.state)?;
    let all = state.pipelines()?;
    let named = |(namespace, name): &&(String, String)| match wanted {
        Some(wanted) => wanted == name || wanted == format!("{namespace}/{name}"),
        None => true,
    };
    let mut found = all.iter().filter(named);
    let (namespace, name) = found.next().with_context(|| match wanted {
        Some(wanted) => format!(
            "there is no pipeline {wanted} in {}",
            shared.state.display()
        ),
        None => format!(
            "there is no pipeline in {} yet: run `loci up` first",
            shared.state.display()
        ),
    })?;
    if found.next().is_some() {
        let names: Vec<String> = all.iter().map(|(ns, n)| format!("{ns}/{n}")).collect();
        bail!("say which pipeline: {}", names.join(", "));
    }
    Ok((name.clone(), state.pipeline(namespace, name)))
}
