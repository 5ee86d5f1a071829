//! `loci recall`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use loci_models::DeviceRequest;
use loci_operator::{Limits, ReplicaOptions};
use loci_recall::{Auth, Tokens};

use super::values::bytes;
use super::{Shared, api_server, service_log, until_terminated};
use crate::up::device;

/// Serves one pipeline of a cluster: the operator makes pods that run this
#[derive(Debug, Args)]
pub struct Recall {
    /// The pipeline
    #[arg(long)]
    pipeline: String,
    /// Its namespace
    #[arg(long, env = "LOCI_NAMESPACE")]
    namespace: String,
    /// Where queries are answered
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Where it says which releases it has
    #[arg(long, default_value = "127.0.0.1:7701")]
    status: SocketAddr,
    /// A file with bearer tokens, one a line, or what may be seen by each (docs/access.md); needed to listen beyond
    /// loopback, or else --anyone
    #[arg(long, env = "LOCI_TOKEN_FILE", conflicts_with = "anyone")]
    token_file: Option<PathBuf>,
    /// Answers everybody whom the network lets through
    #[arg(long)]
    anyone: bool,
    /// Where encoders run: auto or cpu; cuda is refused until a build has it
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
    /// Uses no more memory than this, where the control group allows more: 512Mi, 2Gi. A release that does not fit beside
    /// the one that answers is not loaded, and said to be so
    #[arg(long, env = "LOCI_MEMORY_LIMIT", value_name = "SIZE", value_parser = bytes)]
    memory_limit: Option<u64>,
    /// Keeps no more than this in the state directory, where its file system holds more
    #[arg(long, env = "LOCI_DISK_LIMIT", value_name = "SIZE", value_parser = bytes)]
    disk_limit: Option<u64>,
}

impl Recall {
    /// Runs until Ctrl-C or SIGTERM; requests in flight are answered first.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        let client = api_server().await?;
        let auth = match &self.token_file {
            Some(path) => Auth::Bearer(Tokens::from_file(path)?),
            None if self.anyone => Auth::Anyone,
            None => Auth::Off,
        };
        let options = ReplicaOptions {
            namespace: self.namespace,
            pipeline: self.pipeline,
            state: shared.state.clone(),
            listen: self.listen,
            status: self.status,
            auth,
            hub: self.hub,
            device: self.device,
            limits: Limits {
                memory: self.memory_limit,
                disk: self.disk_limit,
            },
        };
        loci_operator::replicate(client, options, until_terminated()).await
    }
}
