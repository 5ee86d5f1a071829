//! What an operator has before it leads, and what it begins when it does.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use kube::Client;
use loci_bus::{Dispatcher, LocalBus, WorkQueue};
use loci_models::HubOptions;
use loci_nats::NatsBus;
use loci_recall::{Recall, RecallOptions};
use loci_shell::{CLASS, Dispatch, FETCH, Garbage, Shared, Sources};
use loci_store::Store;
use loci_worker::service;
use loci_worker::step::{Encoders, Revisions, StepContext};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::artifacts::Artifacts;
use crate::bind;
use crate::fleet::Yard;
use crate::operator::{Options, Serving};
use crate::pipeline::Site;
use crate::watch::replicas;

/// The services of a process that leads or stands by: the store, the artefacts' endpoint, the way to NATS, who the
/// replicas are.
pub struct Warm {
    client: Client,
    bus: Bus,
    recall: Recall,
    sources: Sources,
    context: StepContext,
    yard: Option<Yard>,
    git_cache: PathBuf,
}

type Classes = &'static [&'static str];

/// How steps reach workers.
enum Bus {
    /// In this process.
    Local(LocalBus),
    /// By a server.
    Nats(NatsBus),
}

impl Bus {
    /// The bus of a leader of this term, and the classes that its process works for: it alone knows sources.
    fn leading(&self, term: u64) -> (Arc<dyn Dispatcher>, Arc<dyn WorkQueue>, Classes) {
        match self {
            Self::Local(bus) => {
                let bus = Arc::new(bus.clone());
                (bus.clone(), bus, &[FETCH, CLASS])
            }
            Self::Nats(bus) => {
                let bus = Arc::new(bus.of_term(term));
                (bus.clone(), bus, &[FETCH])
            }
        }
    }
}

impl Warm {
    /// Begins what needs no leader.
    pub async fn up(
        client: Client,
        options: &Options,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &CancellationToken,
    ) -> Result<Self> {
        let directory = |name: &str| -> Result<PathBuf> {
            let path = options.state.join(name);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
            Ok(path)
        };
        let store = Store::open_local(&options.store).await?;
        let recall = Recall::new(RecallOptions::default())?;
        let bus = match &options.nats {
            None => Bus::Local(LocalBus::new()),
            Some(nats) => Bus::Nats(NatsBus::connect(nats.clone()).await?),
        };
        let hub = HubOptions {
            cache: directory("models")?,
            endpoint: options.hub.clone(),
            token: None,
        };
        let sources = Sources::default();
        let gate = recall.bulk_gate();
        let context = StepContext {
            encoders: Encoders::new(hub, options.device),
            revisions: Revisions::new(directory("revisions")?, store.clone()),
            store,
            sources: Arc::new(sources.clone()),
            pace: Arc::new(move || gate.yield_to_queries()),
        };
        let yard = serve(&client, options, &context.store, &recall, tasks, shutdown).await?;
        Ok(Self {
            client,
            bus,
            recall,
            sources,
            context,
            yard,
            git_cache: directory("git")?,
        })
    }

    /// Begins what a leader of this term does; what pipelines are run with.
    pub async fn lead(
        &self,
        term: u64,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &CancellationToken,
    ) -> Result<Site> {
        let (bus, queue, classes) = self.bus.leading(term);
        let context = &self.context;
        let dispatch = Dispatch::new(bus, context.store.clone());
        let events = dispatch.events().await?;
        let (listening, stop) = (dispatch.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                // Progress is in the runs' status.
                ended = listening.listen(events, None) => ended,
                () = stop.cancelled() => Ok(()),
            }
        });
        for class in classes {
            let (queue, context, stop) = (queue.clone(), context.clone(), shutdown.clone());
            tasks.spawn(async move {
                service::serve(&*queue, class, &context, stop).await;
                Ok(())
            });
        }
        let shared = Shared {
            store: context.store.clone(),
            revisions: context.revisions.clone(),
            encoders: context.encoders.clone(),
            recall: self.recall.clone(),
            dispatch,
            sources: self.sources.clone(),
            garbage: Garbage::new([]),
            collecting: Arc::default(),
        };
        Ok(Site {
            client: self.client.clone(),
            shared,
            yard: self.yard.as_ref().map(|yard| yard.of_term(term)),
            git_cache: self.git_cache.clone(),
            term,
        })
    }
}

/// Begins to serve; what replicas are made with, if they are to serve.
async fn serve(
    client: &Client,
    options: &Options,
    store: &Store,
    recall: &Recall,
    tasks: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) -> Result<Option<Yard>> {
    let stop = shutdown.clone();
    match &options.serving {
        Serving::Here { listen, auth } => {
            let (listener, recall, auth) = (bind(*listen).await?, recall.clone(), auth.clone());
            tasks.spawn(async move { Ok(loci_recall::serve(listener, recall, auth, stop).await?) });
            Ok(None)
        }
        Serving::Replicas {
            template,
            artifacts,
            artifacts_url,
        } => {
            let listener = bind(*artifacts).await?;
            let artifacts = Artifacts::new(store.clone(), &options.store, artifacts_url.clone())?;
            tasks.spawn(artifacts.clone().serve(listener, stop.clone()));
            let (pods, watching) = replicas(client, &options.namespaces);
            tasks.spawn(async move {
                tokio::select! {
                    () = watching => {}
                    () = stop.cancelled() => {}
                }
                Ok(())
            });
            Ok(Some(Yard {
                client: client.clone(),
                pods,
                template: Arc::new((**template).clone()),
                artifacts,
                http: reqwest::Client::builder().build()?,
                term: 0,
            }))
        }
    }
}
