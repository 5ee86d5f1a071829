//! `loci fetcher`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use loci_nats::NatsOptions;
use loci_operator::FetcherOptions;

use super::nats::Nats;
use super::{Shared, service_log, until_terminated};

/// Reads the sources of one namespace's pipelines: the operator makes pods that run this
#[derive(Debug, Args)]
pub struct Fetcher {
    /// The namespace
    #[arg(long)]
    namespace: String,
    /// The directory of the Secrets that sources name: a directory for each Secret, a file for each of its keys
    #[arg(long, value_name = "DIR", default_value = "/etc/loci/sources")]
    secrets: PathBuf,
    #[command(flatten)]
    nats: Nats,
    /// Where Prometheus reads how much work waits for this fetcher
    #[arg(long, env = "LOCI_METRICS", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

impl Fetcher {
    /// Runs until Ctrl-C or SIGTERM; what is under way then goes back into the queue.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        let name = format!("loci-fetcher-{}", self.namespace);
        let nats = self.nats.needed(&name)?;
        let options = FetcherOptions {
            nats: NatsOptions {
                tenant: Some(self.namespace.clone()),
                ..nats
            },
            namespace: self.namespace,
            state: shared.state.clone(),
            secrets: self.secrets,
            metrics: self.metrics,
        };
        // Needed for ConfigMaps alone, and the token is mounted only where there are any.
        let client = kube::Client::try_default().await.ok();
        loci_operator::fetch(client, options, until_terminated()).await
    }
}
