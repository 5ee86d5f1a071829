//! `loci worker`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use loci_models::{DeviceRequest, HubOptions};
use loci_nats::NatsBus;
use loci_operator::{Scope, serve_metrics, stays};
use loci_shell::{CLASS, FETCH};
use loci_store::Store;
use loci_worker::document::Parsers;
use loci_worker::service;
use loci_worker::step::{Decoders, Encoders, Revisions, StepContext};

use super::nats::Nats;
use super::store::Place;
use super::{Shared, service_log, until_terminated};
use crate::up::{device, duration};

/// Takes steps from NATS and does them
#[derive(Debug, Args)]
pub struct Worker {
    /// The class of steps to take
    #[arg(long, default_value = CLASS)]
    class: String,
    #[command(flatten)]
    nats: Nats,
    #[command(flatten)]
    store: Place,
    /// Where Prometheus reads how much work waits for this class
    #[arg(long, env = "LOCI_METRICS", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Where encoders run: auto or cpu; cuda is refused until a build has it
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
    /// How often a training writes down where it is: what a worker that dies costs at most
    #[arg(long, default_value = "60s", value_parser = duration)]
    checkpoints: Duration,
}

impl Worker {
    /// Runs until Ctrl-C or SIGTERM; what is under way then goes back into the queue.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        ensure!(
            self.class != FETCH && !self.class.starts_with("fetch-"),
            "classes named {FETCH} are those of fetchers, which see sources and their credentials: run `loci fetcher`"
        );
        let options = self.nats.needed(&format!("loci-worker-{}", self.class))?;
        let directory = |name: &str| -> Result<PathBuf> {
            let path = shared.state.join(name);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
            Ok(path)
        };
        let place = self.store.url(&shared.state);
        let store = Store::open(&place, self.store.remote(&shared.state)).await?;
        let hub = HubOptions {
            cache: directory("models")?,
            endpoint: self.hub,
            token: None,
        };
        let context = StepContext {
            revisions: Revisions::new(directory("revisions")?, store.clone()),
            store,
            encoders: Encoders::new(hub.clone(), self.device),
            decoders: Decoders::new(hub, self.device),
            parsers: Parsers::own()?,
            pace: Arc::new(|| {}),
            checkpoints: self.checkpoints,
        };
        let bus = NatsBus::connect(options).await?;
        let shutdown = until_terminated();
        let worker = loci_operator::worker(&self.class, 1);
        tracing::info!(class = self.class, id = worker.id, devices = ?worker.devices, "taking steps");
        let metrics = async {
            match self.metrics {
                Some(address) => {
                    let scope = Scope::Class(self.class.clone());
                    serve_metrics(address, bus.clone(), scope, shutdown.clone()).await
                }
                None => Ok(()),
            }
        };
        let work = async {
            service::serve(&bus, &self.class, &context, 1, shutdown.clone()).await;
            Ok(())
        };
        let advertised = async { Ok(bus.advertise(&worker, &shutdown).await?) };
        tokio::try_join!(metrics, work, advertised, stays(&bus, &shutdown))?;
        bus.close().await;
        Ok(())
    }
}
