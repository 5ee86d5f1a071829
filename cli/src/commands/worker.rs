//! `loci worker`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use loci_models::{DeviceRequest, HubOptions};
use loci_nats::NatsBus;
use loci_operator::{Own, Scope, serve_metrics, serve_readiness, stays};
use loci_shell::{CLASS, FETCH};
use loci_store::Store;
use loci_worker::devices::{Card, Fit, Inventory, Requires, Version, fit};
use loci_worker::document::Parsers;
use loci_worker::service;
use loci_worker::step::{Decoders, Encoders, Revisions, StepContext};
use tokio::sync::watch;

use super::nats::Nats;
use super::store::Place;
use super::values::bytes;
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
    /// Where Prometheus reads how much work waits for this class, and how this worker is
    #[arg(long, env = "LOCI_METRICS", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Where it says by /readyz whether it takes steps
    #[arg(long, env = "LOCI_STATUS", value_name = "ADDR")]
    status: Option<SocketAddr>,
    /// Where models run: auto, on a GPU where that can be, and else on the CPU; cpu; or cuda: on a GPU, and else no steps
    /// are taken
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// Takes steps on GPUs alone that have so much memory, as the driver counts it: 20Gi
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    require_memory: Option<u64>,
    /// Takes steps on GPUs alone of this compute capability or a higher one: 8.0
    #[arg(long, value_name = "VERSION")]
    require_capability: Option<Version>,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
    /// How often a training writes down where it is: what a worker that dies costs at most
    #[arg(long, default_value = "60s", value_parser = duration)]
    checkpoints: Duration,
}

/// What a worker computes on, and what it tells of that.
struct Post {
    device: DeviceRequest,
    card: Option<Card>,
    told: loci_bus::Worker,
}

impl Worker {
    /// Runs until Ctrl-C or SIGTERM; what is under way then goes back into the queue. On a machine that its class does not
    /// want, and once its device has failed twice, it takes nothing, says so, and waits to be ended.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        ensure!(
            self.class != FETCH && !self.class.starts_with("fetch-"),
            "classes named {FETCH} are those of fetchers, which see sources and their credentials: run `loci fetcher`"
        );
        ensure!(
            self.device != DeviceRequest::Cpu || !self.requires().anything(),
            "--require-memory and --require-capability ask for a GPU, and --device cpu for none: leave out one of them"
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
        let Post { device, card, told } = self.post(&shared.state).await?;
        let hub = HubOptions {
            cache: directory("models")?,
            endpoint: self.hub,
            token: None,
        };
        let context = StepContext {
            revisions: Revisions::new(directory("revisions")?, store.clone()),
            store,
            encoders: Encoders::new(hub.clone(), device),
            decoders: Decoders::new(hub, device),
            parsers: Parsers::own()?,
            pace: Arc::new(|| {}),
            checkpoints: self.checkpoints,
            card: card.clone(),
        };
        let bus = NatsBus::connect(options).await?;
        let shutdown = until_terminated();
        let idle = told.idle;
        if !idle {
            tracing::info!(class = self.class, id = told.id, devices = ?told.devices, "taking steps");
        }
        let (changes, told) = watch::channel(told);
        let metrics = async {
            match self.metrics {
                Some(address) => {
                    let scope = Scope::Worker(Own {
                        told: told.clone(),
                        card: card.clone(),
                    });
                    serve_metrics(address, bus.clone(), scope, shutdown.clone()).await
                }
                None => Ok(()),
            }
        };
        let readiness = async {
            match self.status {
                Some(address) => serve_readiness(address, told.clone(), shutdown.clone()).await,
                None => Ok(()),
            }
        };
        let work = async {
            if !idle {
                service::serve(&bus, &self.class, &context, 1, shutdown.clone()).await;
            }
            shutdown.cancelled().await;
            Ok(())
        };
        let health = async {
            let Some(card) = &card else { return Ok(()) };
            let drained = card.drained();
            if let Some(()) = shutdown.run_until_cancelled(drained.cancelled()).await {
                tracing::error!(class = self.class, "taking no more steps");
                changes.send_modify(|worker| {
                    worker.idle = true;
                    worker.trouble = card.failure().as_ref().map(Into::into);
                });
            }
            Ok(())
        };
        let advertised = async { Ok(bus.advertise(told.clone(), &shutdown).await?) };
        let stays = stays(&bus, &shutdown);
        tokio::try_join!(metrics, readiness, work, health, advertised, stays)?;
        bus.close().await;
        Ok(())
    }

    fn requires(&self) -> Requires {
        Requires {
            memory: self.require_memory,
            capability: self.require_capability,
        }
    }

    async fn post(&self, state: &Path) -> Result<Post> {
        let mut post = Post {
            device: self.device,
            card: None,
            told: loci_operator::worker(&self.class, 1),
        };
        if self.device == DeviceRequest::Cpu {
            return Ok(post);
        }
        let inventory = tokio::task::spawn_blocking(Inventory::take).await?;
        let built = DeviceRequest::Cuda.check().map_err(|e| e.to_string());
        let why = match fit(self.device, &self.requires(), &inventory, built) {
            Fit::Devices => {
                post.device = DeviceRequest::Cuda;
                let first = inventory.devices.first().cloned();
                post.card = first.map(|device| Card::new(device, &state.join("devices")));
                None
            }
            Fit::Without(None) => None,
            Fit::Without(Some(why)) => {
                tracing::info!(%why, "computing on the CPU");
                post.device = DeviceRequest::Cpu;
                Some(why)
            }
            Fit::Refused(why) => {
                tracing::error!(class = self.class, %why, "taking no steps");
                post.told.idle = true;
                Some(why)
            }
        };
        post.told.trouble = why.as_ref().map(Into::into);
        post.told.driver = inventory.driver.map(|version| version.to_string());
        post.told.devices = inventory.devices;
        Ok(post)
    }
}
