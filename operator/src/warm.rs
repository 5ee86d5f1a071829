//! What an operator has before it leads, and what it begins when it does.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use kube::Client;
use loci_bus::{Dispatcher, LocalBus, WorkQueue};
use loci_models::HubOptions;
use loci_nats::NatsBus;
use loci_recall::{Recall, RecallOptions};
use loci_shell::{CLASS, Classes, Crew, Dispatch, FETCH, Garbage, Shared, Sources};
use loci_store::Store;
use loci_worker::document::Parsers;
use loci_worker::service::{self, FETCHES};
use loci_worker::step::{CHECKPOINTS, Decoders, Encoders, FetchContext, Revisions, StepContext};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::artifacts::Artifacts;
use crate::bind;
use crate::fetchers::{FetcherTemplate, Fetchers};
use crate::fleet::Yard;
use crate::glance::Sight;
use crate::leader::Standing;
use crate::maps::Maps;
use crate::metrics::{Scope, serve_metrics};
use crate::operator::{Options, Serving};
use crate::pipeline::Site;
use crate::work::{classes, stays};

/// The services of a process that leads or stands by: the store, the artefacts' endpoint, the way to NATS, who the
/// replicas are.
pub struct Warm {
    client: Client,
    bus: Bus,
    recall: Recall,
    sources: Sources,
    context: StepContext,
    yard: Option<Yard>,
    /// ConfigMaps, as far as they were heard of.
    pub maps: Maps,
    git_cache: PathBuf,
    fetcher: Option<FetcherTemplate>,
    /// Those that are watched; all, when empty.
    namespaces: Vec<String>,
}

/// How steps reach workers.
enum Bus {
    /// In this process.
    Local(LocalBus),
    /// By a server.
    Nats(NatsBus),
}

impl Bus {
    /// The bus of a leader of this term.
    fn leading(&self, term: u64) -> (Arc<dyn Dispatcher>, Arc<dyn WorkQueue>) {
        match self {
            Self::Local(bus) => {
                let bus = Arc::new(bus.clone());
                (bus.clone(), bus)
            }
            Self::Nats(bus) => {
                let bus = Arc::new(bus.of_term(term));
                (bus.clone(), bus)
            }
        }
    }

    /// Who takes steps.
    fn crew(&self, yard: Option<&Yard>) -> Crew {
        match (self, yard) {
            (Self::Local(_), _) => Crew::Here,
            (Self::Nats(_), None) => Crew::Workers,
            (Self::Nats(_), Some(yard)) => Crew::Fetchers(Arc::new(yard.artifacts.clone())),
        }
    }

    fn classes(&self) -> watch::Receiver<Classes> {
        match self {
            Self::Local(_) => watch::channel(None).1,
            Self::Nats(bus) => classes(bus),
        }
    }
}

impl Warm {
    /// Begins what needs no leader.
    pub async fn up(
        client: Client,
        standing: Standing,
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
        let store = Store::open(&options.store, options.remote.clone()).await?;
        let recall = Recall::new(RecallOptions::default())?;
        let bus = match &options.nats {
            None => Bus::Local(LocalBus::new()),
            Some(nats) => Bus::Nats(NatsBus::connect(nats.clone()).await?),
        };
        if let Bus::Nats(bus) = &bus {
            let (bus, stop) = (bus.clone(), shutdown.clone());
            tasks.spawn(async move { stays(&bus, &stop).await });
        }
        let hub = HubOptions {
            cache: directory("models")?,
            endpoint: options.hub.clone(),
            token: None,
        };
        let sources = Sources::default();
        let gate = recall.bulk_gate();
        let context = StepContext {
            encoders: Encoders::new(hub.clone(), options.device),
            decoders: Decoders::new(hub, options.device),
            parsers: Parsers::own()?,
            revisions: Revisions::new(directory("revisions")?, store.clone()),
            store,
            pace: Arc::new(move || gate.yield_to_queries()),
            checkpoints: CHECKPOINTS,
            card: None,
        };
        let yard = serve(&client, options, &context.store, &recall, tasks, shutdown).await?;
        let fetcher = match &options.serving {
            Serving::Replicas { fetcher, .. } => Some((**fetcher).clone()),
            Serving::Here { .. } => None,
        };
        if let (Some(address), Bus::Nats(bus)) = (options.metrics, &bus) {
            let (bus, stop) = (bus.clone(), shutdown.clone());
            tasks.spawn(serve_metrics(address, bus, Scope::All(standing), stop));
        }
        Ok(Self {
            client,
            bus,
            recall,
            sources,
            context,
            yard,
            maps: Maps::default(),
            git_cache: directory("git")?,
            fetcher,
            namespaces: options.namespaces.clone(),
        })
    }

    /// Begins what a leader of this term does; what pipelines are run with.
    pub async fn lead(
        &self,
        term: u64,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &CancellationToken,
    ) -> Result<Site> {
        let (bus, queue) = self.bus.leading(term);
        let crew = self.bus.crew(self.yard.as_ref());
        let fetchers = self.work(&crew, &queue, tasks, shutdown);
        let context = &self.context;
        let dispatch = Dispatch::new(bus, context.store.clone(), crew);
        let events = dispatch.events().await?;
        let (listening, stop) = (dispatch.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                // Progress is in the runs' status.
                ended = listening.listen(events, None) => ended,
                () = stop.cancelled() => Ok(()),
            }
        });
        let shared = Shared {
            store: context.store.clone(),
            revisions: context.revisions.clone(),
            encoders: context.encoders.clone(),
            decoders: context.decoders.clone(),
            recall: self.recall.clone(),
            dispatch,
            classes: self.bus.classes(),
            sources: self.sources.clone(),
            garbage: Garbage::new([]),
            collecting: Arc::default(),
        };
        Ok(Site {
            client: self.client.clone(),
            shared,
            sight: Sight {
                maps: self.maps.clone(),
                yard: self.yard.as_ref().map(|yard| yard.of_term(term)),
            },
            git_cache: self.git_cache.clone(),
            fetchers,
            term,
        })
    }

    /// Begins this process's part of the steps; who reads sources if it does not.
    fn work(
        &self,
        crew: &Crew,
        queue: &Arc<dyn WorkQueue>,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &CancellationToken,
    ) -> Option<Fetchers> {
        if let Crew::Here = crew {
            let (queue, context, stop) = (queue.clone(), self.context.clone(), shutdown.clone());
            tasks.spawn(async move {
                service::serve(&*queue, CLASS, &context, 1, stop).await;
                Ok(())
            });
        }
        if let (Crew::Fetchers(_), Some(template)) = (crew, &self.fetcher) {
            let client = self.client.clone();
            return Some(Fetchers::begin(client, template.clone(), &self.namespaces));
        }
        let (queue, stop) = (queue.clone(), shutdown.clone());
        let fetching = FetchContext {
            sources: Arc::new(self.sources.clone()),
            store: Some(self.context.store.clone()),
            http: reqwest::Client::new(),
        };
        tasks.spawn(async move {
            service::serve(&*queue, FETCH, &fetching, FETCHES, stop).await;
            Ok(())
        });
        None
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
            ..
        } => {
            let listener = bind(*artifacts).await?;
            let artifacts = Artifacts::new(store.clone(), &options.store, artifacts_url.clone());
            let artifacts = artifacts.await?;
            tasks.spawn(artifacts.clone().serve(listener, stop));
            let template = (**template).clone();
            Ok(Some(Yard::new(client.clone(), template, artifacts)?))
        }
    }
}
