//! `loci operator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use loci_models::DeviceRequest;
use loci_operator::Options;
use loci_recall::{Auth, Tokens};

use super::nats::Nats;
use super::{Shared, service_log, until_terminated};
use crate::up::device;

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
    /// The directory of artefacts, shared with workers. By default `store` in the state directory
    #[arg(long, env = "LOCI_STORE")]
    store: Option<PathBuf>,
    #[command(flatten)]
    nats: Nats,
}

impl Operator {
    /// Runs until Ctrl-C or SIGTERM.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
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
            nats: self.nats.options("loci-operator"),
            store: self.store.unwrap_or(shared.state.join("store")),
        };
        loci_operator::run(client, options, until_terminated()).await
    }
}
