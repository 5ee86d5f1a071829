//! `loci worker`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use clap::Args;
use loci_models::{DeviceRequest, HubOptions};
use loci_nats::NatsBus;
use loci_shell::{CLASS, FETCH};
use loci_store::Store;
use loci_worker::service;
use loci_worker::source::SourceSpec;
use loci_worker::step::{Encoders, Revisions, SourceProvider, StepContext, StepError};

use super::nats::Nats;
use super::{Shared, service_log, until_terminated};
use crate::up::device;

/// Takes steps from NATS and does them
#[derive(Debug, Args)]
pub struct Worker {
    /// The class of steps to take
    #[arg(long, default_value = CLASS)]
    class: String,
    #[command(flatten)]
    nats: Nats,
    /// The directory of artefacts, shared with the operator. By default `store` in the state directory
    #[arg(long, env = "LOCI_STORE")]
    store: Option<PathBuf>,
    /// Where encoders run: auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
}

impl Worker {
    /// Runs until Ctrl-C or SIGTERM; what is under way then goes back into the queue.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        ensure!(
            self.class != FETCH,
            "class {FETCH}: sources and their credentials are known to the operator alone, which does these steps itself"
        );
        let options = self.nats.options(&format!("loci-worker-{}", self.class));
        let options = options.context("say where NATS is: --nats, or LOCI_NATS_URL")?;
        let directory = |name: &str| -> Result<PathBuf> {
            let path = shared.state.join(name);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
            Ok(path)
        };
        let store = self.store.clone().unwrap_or(shared.state.join("store"));
        let store = Store::open_local(&store).await?;
        let hub = HubOptions {
            cache: directory("models")?,
            endpoint: self.hub,
            token: None,
        };
        let context = StepContext {
            revisions: Revisions::new(directory("revisions")?, store.clone()),
            store,
            encoders: Encoders::new(hub, self.device),
            sources: Arc::new(NoSources),
            pace: Arc::new(|| {}),
        };
        let bus = NatsBus::connect(options).await?;
        let shutdown = until_terminated();
        tracing::info!(class = self.class, "taking steps");
        service::serve(&bus, &self.class, &context, shutdown).await;
        bus.close().await;
        Ok(())
    }
}

/// A worker sees artefacts, never a source.
struct NoSources;

#[async_trait]
impl SourceProvider for NoSources {
    async fn sources(&self, pipeline: &str) -> Result<Vec<(SourceSpec, String)>, StepError> {
        Err(StepError::UnknownPipeline(pipeline.to_owned()))
    }
}
