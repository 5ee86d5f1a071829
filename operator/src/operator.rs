//! The operator's process: its services, and a task for each pipeline.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::{Client, ResourceExt};
use loci_bus::{Dispatcher, LocalBus, WorkQueue};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_models::{DeviceRequest, HubOptions};
use loci_nats::{NatsBus, NatsOptions};
use loci_recall::{Auth, Recall, RecallOptions};
use loci_shell::{CLASS, Dispatch, FETCH, Garbage, News, Shared, Sources};
use loci_store::Store;
use loci_worker::service;
use loci_worker::step::{Encoders, Revisions, StepContext};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::artifacts::Artifacts;
use crate::bind;
use crate::dereference::references;
use crate::fleet::{Template, Yard};
use crate::pipeline::{Change, Site, Supervisor};
use crate::watch::{Any, Key, Seen, key, replicas, watch};

/// How the operator runs.
pub struct Options {
    /// Namespaces to watch; all, when empty.
    pub namespaces: Vec<String>,
    /// Where caches are.
    pub state: PathBuf,
    /// Where artefacts are.
    pub store: PathBuf,
    /// Who answers queries.
    pub serving: Serving,
    /// The hub that hf:// models come from.
    pub hub: Option<Url>,
    /// Where encoders run.
    pub device: DeviceRequest,
    /// Where workers take steps from. Without, they run in this process.
    pub nats: Option<NatsOptions>,
}

/// Who answers queries.
pub enum Serving {
    /// This process.
    Here {
        /// Where.
        listen: SocketAddr,
        /// Who may ask.
        auth: Auth,
    },
    /// Pods of each pipeline's own.
    Replicas {
        /// How they are made.
        template: Box<Template>,
        /// Where they get revisions from.
        artifacts: SocketAddr,
        /// How they reach that.
        artifacts_url: Url,
    },
}

/// Runs until `shutdown`.
///
/// # Errors
/// When the state directory or the address cannot be had, or a service of the process ends.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> Result<()> {
    let mut tasks = JoinSet::new();
    let site = services(client.clone(), &options, &mut tasks, &shutdown).await?;
    let mut operator = Operator {
        site,
        pipelines: HashMap::new(),
        tasks: JoinSet::new(),
        shutdown: shutdown.clone(),
        waiting: Some(HashMap::new()),
        owners: HashMap::new(),
    };
    let mut seen = watch(&client, &options.namespaces);
    let ended = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            Some(ended) = tasks.join_next() => {
                break ended.context("a service ended unexpectedly").and_then(|r| r);
            }
            any = seen.next() => match any {
                Some(any) => operator.hear(any),
                None => break Ok(()),
            }
        }
    };
    shutdown.cancel();
    operator.pipelines.clear();
    while operator.tasks.join_next().await.is_some() {}
    while tasks.join_next().await.is_some() {}
    ended
}

type Bus = (
    Arc<dyn Dispatcher>,
    Arc<dyn WorkQueue>,
    &'static [&'static str],
);

/// The bus, and the classes that this process works for: it alone knows sources.
async fn bus(options: &Options) -> Result<Bus> {
    let Some(nats) = &options.nats else {
        let bus = Arc::new(LocalBus::new());
        return Ok((bus.clone(), bus, &[FETCH, CLASS]));
    };
    let bus = Arc::new(NatsBus::connect(nats.clone()).await?);
    Ok((bus.clone(), bus, &[FETCH]))
}

async fn services(
    client: Client,
    options: &Options,
    tasks: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) -> Result<Site> {
    let directory = |name: &str| -> Result<PathBuf> {
        let path = options.state.join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    };
    let store = Store::open_local(&options.store).await?;
    let recall = Recall::new(RecallOptions::default())?;
    let (bus, queue, classes) = bus(options).await?;
    let revisions = Revisions::new(directory("revisions")?, store.clone());
    let hub = HubOptions {
        cache: directory("models")?,
        endpoint: options.hub.clone(),
        token: None,
    };
    let sources = Sources::default();
    let gate = recall.bulk_gate();
    let context = StepContext {
        store: store.clone(),
        encoders: Encoders::new(hub, options.device),
        revisions: revisions.clone(),
        sources: Arc::new(sources.clone()),
        pace: Arc::new(move || gate.yield_to_queries()),
    };
    let shared = Shared {
        dispatch: Dispatch::new(bus, store.clone()),
        store,
        revisions,
        encoders: context.encoders.clone(),
        recall: recall.clone(),
        sources,
        garbage: Garbage::new([]),
        collecting: Arc::default(),
    };
    let events = shared.dispatch.events().await?;
    let yard = serve(&client, options, &shared, tasks, shutdown).await?;
    let (dispatch, stop) = (shared.dispatch.clone(), shutdown.clone());
    tasks.spawn(async move {
        tokio::select! {
            // Progress is in the runs' status.
            ended = dispatch.listen(events, None) => ended,
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
    Ok(Site {
        client,
        shared,
        yard,
        git_cache: directory("git")?,
    })
}

/// Begins to serve; what replicas are made with, if they are to serve.
async fn serve(
    client: &Client,
    options: &Options,
    shared: &Shared,
    tasks: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) -> Result<Option<Yard>> {
    let stop = shutdown.clone();
    match &options.serving {
        Serving::Here { listen, auth } => {
            let (listener, recall, auth) =
                (bind(*listen).await?, shared.recall.clone(), auth.clone());
            tasks.spawn(async move { Ok(loci_recall::serve(listener, recall, auth, stop).await?) });
            Ok(None)
        }
        Serving::Replicas {
            template,
            artifacts,
            artifacts_url,
        } => {
            let listener = bind(*artifacts).await?;
            let artifacts =
                Artifacts::new(shared.store.clone(), &options.store, artifacts_url.clone())?;
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
            }))
        }
    }
}

struct Entry {
    uid: Option<String>,
    changes: mpsc::UnboundedSender<Change>,
    references: BTreeSet<String>,
    task: tokio::task::AbortHandle,
}

struct Operator {
    site: Site,
    pipelines: HashMap<Key, Entry>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    /// Pipelines of the first list. They start when all are known, so that garbage collection knows of all.
    waiting: Option<HashMap<Key, MemoryPipeline>>,
    /// The pipeline of each run and release, by kind: a deletion does not tell.
    owners: HashMap<(&'static str, Key), Key>,
}

impl Operator {
    fn hear(&mut self, any: Any) {
        match any {
            Any::Pipeline(Seen::There(pipeline)) => match &mut self.waiting {
                Some(waiting) => _ = waiting.insert(key(&*pipeline), *pipeline),
                None => self.pipeline(*pipeline),
            },
            Any::Pipeline(Seen::Gone(key)) => self.gone(&key),
            Any::Pipeline(Seen::All) => {
                let waiting = self.waiting.take().unwrap_or_default();
                for key in waiting.keys() {
                    self.site.shared.garbage.expect(full(key));
                }
                waiting.into_values().for_each(|p| self.pipeline(p));
            }
            Any::Run(Seen::There(run)) => {
                let owner = owner(&run, |r: &MemoryRun| &r.spec.pipeline_ref.name);
                self.owners.insert(("run", key(&run)), owner.clone());
                self.tell(&owner, Change::Child(News::Run(Box::new(run))));
            }
            Any::Run(Seen::Gone(key)) => {
                if let Some(owner) = self.owners.remove(&("run", key.clone())) {
                    self.tell(&owner, Change::Child(News::RunGone(key.1)));
                }
            }
            Any::Release(Seen::There(release)) => {
                let owner = owner(&release, |r: &MemoryRelease| &r.spec.pipeline_ref.name);
                self.owners
                    .insert(("release", key(&release)), owner.clone());
                self.tell(&owner, Change::Child(News::Release(Box::new(release))));
            }
            Any::Release(Seen::Gone(key)) => {
                if let Some(owner) = self.owners.remove(&("release", key.clone())) {
                    self.tell(&owner, Change::Child(News::ReleaseGone(key.1)));
                }
            }
            Any::ConfigMap(Seen::There(map)) => self.reference(&key(&map)),
            Any::ConfigMap(Seen::Gone(key)) => self.reference(&key),
            Any::Run(Seen::All) | Any::Release(Seen::All) | Any::ConfigMap(Seen::All) => {}
        }
    }

    fn pipeline(&mut self, pipeline: MemoryPipeline) {
        let key = key(&pipeline);
        let references = references(&pipeline);
        // Deleted and made anew while nobody watched: another pipeline.
        let other = |e: &Entry| e.uid != pipeline.uid() || e.task.is_finished();
        if self.pipelines.get(&key).is_some_and(other) {
            self.gone(&key);
        }
        if let Some(entry) = self.pipelines.get_mut(&key) {
            entry.references = references;
            let _ = entry.changes.send(Change::Written(Box::new(pipeline)));
            return;
        }
        self.site.shared.garbage.expect(full(&key));
        let (changes, inbox) = mpsc::unbounded_channel();
        let uid = pipeline.uid();
        let stop = self.shutdown.child_token();
        let supervisor = Supervisor::new(self.site.clone(), pipeline, inbox, stop);
        let task = self.tasks.spawn(supervisor.run());
        let entry = Entry {
            uid,
            changes,
            references,
            task,
        };
        self.pipelines.insert(key, entry);
    }

    /// Its task ends by the closed channel.
    fn gone(&mut self, key: &Key) {
        if let Some(waiting) = &mut self.waiting {
            waiting.remove(key);
        }
        if self.pipelines.remove(key).is_some() {
            let name = full(key);
            self.site.shared.recall.withdraw(&name);
            self.site.shared.sources.forget(&name);
            self.site.shared.garbage.forget(&name);
        }
    }

    fn tell(&self, owner: &Key, change: Change) {
        if let Some(entry) = self.pipelines.get(owner) {
            let _ = entry.changes.send(change);
        }
    }

    fn reference(&self, map: &Key) {
        let of =
            |(key, entry): &(&Key, &Entry)| key.0 == map.0 && entry.references.contains(&map.1);
        for (_, entry) in self.pipelines.iter().filter(of) {
            let _ = entry.changes.send(Change::Reference);
        }
    }
}

fn owner<K>(object: &K, name: impl Fn(&K) -> &String) -> Key
where
    K: kube::Resource<DynamicType = ()>,
{
    (key(object).0, name(object).clone())
}

fn full((namespace, name): &Key) -> String {
    format!("{namespace}/{name}")
}
