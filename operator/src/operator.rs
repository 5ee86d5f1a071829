//! The operator's process: its services, and a task for each pipeline.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::{Config, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_models::DeviceRequest;
use loci_nats::NatsOptions;
use loci_recall::Auth;
use loci_shell::News;
use loci_store::{RemoteOptions, StoreUrl};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::dereference::references;
use crate::fetchers::FetcherTemplate;
use crate::fleet::Template;
use crate::leader::{self, Election, Standing};
use crate::pipeline::{Change, Site, Supervisor};
use crate::sweep;
use crate::warm::Warm;
use crate::watch::{Any, Key, Seen, key, watch};

/// How the operator runs.
pub struct Options {
    /// Namespaces to watch; all, when empty.
    pub namespaces: Vec<String>,
    /// Where caches are.
    pub state: PathBuf,
    /// Where artefacts are.
    pub store: StoreUrl,
    /// How that is reached when it is not a directory.
    pub remote: RemoteOptions,
    /// Who answers queries.
    pub serving: Serving,
    /// The hub that hf:// models come from.
    pub hub: Option<Url>,
    /// Where encoders run.
    pub device: DeviceRequest,
    /// Where workers take steps from. Without, they run in this process.
    pub nats: Option<NatsOptions>,
    /// Where `/metrics` of the work over NATS are.
    pub metrics: Option<SocketAddr>,
    /// Who leads of several operators. Without, this one is alone.
    pub election: Option<Election>,
    /// How long a pipeline has to be gone before its `deletionPolicy` is carried out.
    pub deletion_grace: Duration,
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
        /// How fetchers are made, which read sources if steps go over NATS.
        fetcher: Box<FetcherTemplate>,
    },
}

/// Runs until `shutdown`. With an election, it leads from when it is elected; until then it is warm: it serves artefacts
/// and knows all pipelines.
///
/// # Errors
/// When the state directory or the address cannot be had, a service of the process ends, or leadership is lost: what
/// the process has under way belongs to a term that is over, and ends with the process.
pub async fn run(config: Config, options: Options, shutdown: CancellationToken) -> Result<()> {
    let mut tasks = JoinSet::new();
    let standing = Standing::new(options.election.is_some());
    let client = leader::client(config.clone(), &standing)?;
    let warm = Warm::up(client.clone(), &options, &mut tasks, &shutdown).await?;
    let released = CancellationToken::new();
    let election = options.election.as_ref();
    let mut election = leader::stand(config, election, &standing, released.clone())?;
    let mut operator = Operator {
        site: None,
        pipelines: HashMap::new(),
        tasks: JoinSet::new(),
        shutdown: shutdown.clone(),
        waiting: Some(HashMap::new()),
        listed: false,
        owners: HashMap::new(),
    };
    let mut seen = watch(&client, &options.namespaces);
    let ended = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            // At once: nothing that is under way may be finished.
            lost = &mut election => {
                shutdown.cancel();
                return lost.context("the election ended unexpectedly")?;
            }
            Some(ended) = tasks.join_next() => {
                break ended.context("a service ended unexpectedly").and_then(|r| r);
            }
            term = standing.leads(), if operator.site.is_none() => {
                match warm.lead(term, &mut tasks, &shutdown).await {
                    Ok(site) => {
                        let (watched, grace) = (options.namespaces.clone(), options.deletion_grace);
                        tasks.spawn(sweep::run(site.clone(), watched, grace, shutdown.clone()));
                        operator.lead(site);
                    }
                    Err(error) => break Err(error),
                }
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
    released.cancel();
    ended.and(election.await.context("the election ended unexpectedly")?)
}

struct Entry {
    uid: Option<String>,
    changes: mpsc::UnboundedSender<Change>,
    references: BTreeSet<String>,
    task: tokio::task::AbortHandle,
}

struct Operator {
    /// What pipelines are run with; none before this process leads.
    site: Option<Site>,
    pipelines: HashMap<Key, Entry>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    /// Pipelines until they start: when this process leads and all are known, so that garbage collection knows of all.
    waiting: Option<HashMap<Key, MemoryPipeline>>,
    /// Whether all are known.
    listed: bool,
    /// The pipeline of each run and release, by kind: a deletion does not tell.
    owners: HashMap<(&'static str, Key), Key>,
}

impl Operator {
    fn lead(&mut self, site: Site) {
        self.site = Some(site);
        self.begin();
    }

    /// Starts all pipelines, once this process leads and knows them.
    fn begin(&mut self) {
        let Some(site) = self.site.as_ref().filter(|_| self.listed) else {
            return;
        };
        let waiting = self.waiting.take().unwrap_or_default();
        for key in waiting.keys() {
            site.shared.garbage.expect(full(key));
        }
        waiting.into_values().for_each(|p| self.pipeline(p));
    }

    fn hear(&mut self, any: Any) {
        match any {
            Any::Pipeline(Seen::There(pipeline)) => match &mut self.waiting {
                Some(waiting) => _ = waiting.insert(key(&*pipeline), *pipeline),
                None => self.pipeline(*pipeline),
            },
            Any::Pipeline(Seen::Gone(key)) => self.gone(&key),
            Any::Pipeline(Seen::All) => {
                self.listed = true;
                self.begin();
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
        let Some(site) = &self.site else { return };
        site.shared.garbage.expect(full(&key));
        let (changes, inbox) = mpsc::unbounded_channel();
        let uid = pipeline.uid();
        let stop = self.shutdown.child_token();
        let supervisor = Supervisor::new(site.clone(), pipeline, inbox, stop);
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
        if let (Some(_), Some(site)) = (self.pipelines.remove(key), &self.site) {
            let name = full(key);
            site.shared.recall.withdraw(&name);
            site.shared.sources.forget(&name);
            site.shared.garbage.forget(&name);
            let abandoned = site.shared.dispatch.abandon(&name);
            self.tasks.spawn(async move {
                if let Err(error) = abandoned.await {
                    tracing::warn!(pipeline = name, "its work is not stopped yet: {error:#}");
                }
            });
            if let Some(fetchers) = &site.fetchers {
                fetchers.forget(key);
            }
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
