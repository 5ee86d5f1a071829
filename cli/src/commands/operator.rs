//! `loci operator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use loci_models::DeviceRequest;
use loci_operator::Options;
use loci_recall::{Auth, Tokens};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::Shared;
use crate::up::{device, terminated};

/// `loci operator`.
#[derive(Debug, Args)]
pub struct Operator {
    /// A namespace to watch; may be given several times. All, when none is given
    #[arg(long, value_name = "NAMESPACE")]
    watch: Vec<String>,
    /// Where queries are answered
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// A file with bearer tokens, one a line; needed to listen beyond loopback
    #[arg(long, env = "LOCI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Where encoders run: auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
}

impl Operator {
    /// Runs until Ctrl-C or SIGTERM.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
        let client = kube::Client::try_default().await.context(
            "no way to an API server: set KUBECONFIG, or run in a pod with a service account",
        )?;
        let auth = match &self.token_file {
            Some(path) => Auth::Bearer(Tokens::from_file(path)?),
            None => Auth::Off,
        };
        let options = Options {
            namespaces: self.watch,
            state: shared.state.clone(),
            listen: self.listen,
            auth,
            hub: self.hub,
            device: self.device,
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            if terminated().await.is_ok() {
                stop.cancel();
            }
        });
        loci_operator::run(client, options, shutdown).await
    }
}
