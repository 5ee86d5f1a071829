//! `loci recall`: one replica of a pipeline's serving. It watches one ConfigMap, loads what that wants beside what
//! answers, and switches. What answers goes on answering whatever becomes of the operator, NATS or the API server.

mod budget;
mod chats;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::OptionFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use loci_models::{DeviceRequest, HubOptions};
use loci_recall::{Auth, LoadRequest, Prepared, Recall, RecallOptions};
use loci_store::{Store, Tree};
use loci_worker::step::{Decoders, Encoders};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cache::Cache;
use crate::fleet::{Report, Wanted, config_map};
use crate::goal::{Goal, follow, until};
use crate::{bind, lock};
pub use budget::Limits;
use budget::{Budget, Need};
use chats::Known;

/// The pauses after a release that could not be loaded.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How long files that nothing needs may lie: to look for them takes longer the more there are.
const UNTIDY: Duration = Duration::from_secs(60);

/// How a replica runs.
pub struct ReplicaOptions {
    /// The pipeline's namespace.
    pub namespace: String,
    /// The pipeline.
    pub pipeline: String,
    /// Where revisions and models are cached.
    pub state: PathBuf,
    /// Where queries are answered.
    pub listen: SocketAddr,
    /// Where it says what it serves.
    pub status: SocketAddr,
    /// Who may ask.
    pub auth: Auth,
    /// The hub that hf:// models come from.
    pub hub: Option<Url>,
    /// Where encoders run.
    pub device: DeviceRequest,
    /// What it may use.
    pub limits: Limits,
}

type Shown = Arc<Mutex<Report>>;

/// Serves until `shutdown`.
///
/// # Errors
/// When an address or the state directory cannot be had, or a listener fails.
pub async fn replicate(
    client: Client,
    options: ReplicaOptions,
    shutdown: CancellationToken,
) -> Result<()> {
    let full = format!("{}/{}", options.namespace, options.pipeline);
    let serving = RecallOptions {
        expect: vec![full.clone()],
        ..RecallOptions::default()
    };
    let most = (serving.chats, serving.chat_context);
    let recall = Recall::new(serving)?;
    let (queries, status) = (bind(options.listen).await?, bind(options.status).await?);
    let store = Store::open_local(&options.state.join("store")).await?;
    let hub = HubOptions {
        cache: options.state.join("models"),
        endpoint: options.hub,
        token: None,
    };
    let shown = Shown::default();
    let (goals, goal) = watch::channel(Goal::default());
    let replica = Replica {
        pipeline: full,
        recall: recall.clone(),
        encoders: Encoders::new(hub.clone(), options.device),
        decoders: Decoders::new(hub, options.device),
        most,
        cache: Cache::new(store, options.state.join("revisions"))?,
        budget: Budget::new(options.limits, options.state),
        shown: shown.clone(),
        serving: None,
        prepared: HashMap::new(),
        failed: BTreeMap::new(),
        goal,
    };
    let mut tasks = JoinSet::new();
    let (auth, stop) = (options.auth, shutdown.clone());
    tasks.spawn(async move { Ok(loci_recall::serve(queries, recall, auth, stop).await?) });
    tasks.spawn(status::serve(status, shown, shutdown.clone()));
    let maps = Api::<ConfigMap>::namespaced(client, &options.namespace);
    tasks.spawn(until(
        shutdown.clone(),
        follow(maps, config_map(&options.pipeline), goals),
    ));
    tasks.spawn(until(shutdown.clone(), replica.run()));
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        shutdown.cancel();
        result = result.and(
            ended
                .context("a part of the replica panicked")
                .and_then(|r| r),
        );
    }
    result
}

/// Whether a release is wanted as it was loaded.
fn still(goal: &Goal, name: &str, had: &Wanted) -> bool {
    let wanted = goal.releases.get(name);
    wanted.is_some_and(|wanted| wanted.is_as(had))
}

struct Failed {
    wanted: Wanted,
    pause: Duration,
    again: Instant,
    why: String,
}

struct Replica {
    pipeline: String,
    recall: Recall,
    encoders: Encoders,
    decoders: Decoders,
    /// How many chats a model answers at once, and how many tokens each may have.
    most: (usize, usize),
    cache: Cache,
    budget: Budget,
    shown: Shown,
    serving: Option<(String, (Prepared, Wanted))>,
    prepared: HashMap<String, (Prepared, Wanted)>,
    failed: BTreeMap<String, Failed>,
    goal: watch::Receiver<Goal>,
}

impl Replica {
    async fn run(mut self) {
        let (mut last, mut tidy_at) = (Goal::default(), None);
        loop {
            let goal = self.goal.borrow_and_update().clone();
            if goal != last {
                tidy_at = tidy_at.or_else(|| Some(Instant::now() + UNTIDY));
                last.clone_from(&goal);
            }
            self.prepared
                .retain(|name, (_, had)| still(&goal, name, had));
            self.failed
                .retain(|name, f| goal.releases.get(name) == Some(&f.wanted));
            self.switch(&goal);
            self.show();
            if let Some((name, wanted)) = self.next(&goal) {
                // A goal that changes meanwhile is looked at first; files fetched so far are kept.
                let mut changed = self.goal.clone();
                let prepared = tokio::select! {
                    prepared = self.prepare(&goal, &name, &wanted) => prepared,
                    ended = changed.changed() => match ended {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                };
                self.prepared(name, wanted, prepared);
                continue;
            }
            if tidy_at.take_if(|at| *at <= Instant::now()).is_some() {
                self.tidy(&goal).await;
            }
            let again = self.failed.values().map(|f| f.again).chain(tidy_at);
            let due = OptionFuture::from(again.min().map(tokio::time::sleep_until));
            tokio::select! {
                changed = self.goal.changed() => if changed.is_err() { return },
                Some(()) = due => {}
            }
        }
    }

    /// What to load now: what is to answer first.
    fn next(&self, goal: &Goal) -> Option<(String, Wanted)> {
        let now = Instant::now();
        let serves = |name: &String| {
            let serving = self.serving.as_ref();
            serving.is_some_and(|(serving, (_, had))| serving == name && still(goal, name, had))
        };
        let missing = |name: &&String| {
            !serves(name)
                && !self.prepared.contains_key(*name)
                && self.failed.get(*name).is_none_or(|f| f.again <= now)
        };
        let mut missing: Vec<&String> = goal.releases.keys().filter(missing).collect();
        missing.sort_by_key(|name| goal.desired.as_ref() != Some(name));
        let name = (*missing.first()?).clone();
        let wanted = goal.releases.get(&name)?.clone();
        Some((name, wanted))
    }

    fn prepared(&mut self, name: String, wanted: Wanted, prepared: Result<Prepared>) {
        match prepared {
            Ok(prepared) => {
                self.failed.remove(&name);
                self.prepared.insert(name, (prepared, wanted));
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(release = name, "cannot be loaded: {why}");
                let before = self.failed.get(&name).map(|f| f.pause);
                let pause = before.map_or(PAUSES.0, |p| (p * 2).min(PAUSES.1));
                let again = Instant::now() + pause;
                let failed = Failed {
                    wanted,
                    pause,
                    again,
                    why,
                };
                self.failed.insert(name, failed);
            }
        }
    }

    async fn prepare(&self, goal: &Goal, name: &str, wanted: &Wanted) -> Result<Prepared> {
        let tree: Tree = self.cache.find(wanted.place()).await?;
        let known = self.adapters(wanted).await?;
        self.afford(goal, name, wanted, (&tree, &known)).await?;
        let directory = self.cache.directory(wanted.place(), &tree).await?;
        let encoder = self.encoders.get(&wanted.model).await?;
        let cross_encoder = match &wanted.cross_encoder {
            Some(model) => Some(self.encoders.cross_encoder(model).await?),
            None => None,
        };
        let chats = self.chats(wanted, &known).await?;
        let request = LoadRequest {
            pipeline: self.pipeline.clone(),
            release: name.to_owned(),
            directory,
            encoder,
            cross_encoder,
            decoder: chats.decoder,
            adapters: chats.adapters,
            service: chats.service,
            latency_budget: wanted.latency_budget_ms.map(Duration::from_millis),
        };
        Ok(self.recall.prepare(request).await?)
    }

    /// Whether a candidate fits beside what answers. What is to answer is loaded in any case: it fitted when it was a
    /// candidate, and without it nothing answers.
    async fn afford(
        &self,
        goal: &Goal,
        name: &str,
        wanted: &Wanted,
        (tree, adapters): (&Tree, &Known<'_>),
    ) -> Result<()> {
        let beside: Option<Tree> = match &self.serving {
            Some((_, (_, had))) => self.cache.here(&had.revision).await?,
            None => None,
        };
        let fetched = self.cache.fetched(tree).await?;
        let mut model = self.encoders.weight(&wanted.model).await?;
        if let Some(cross) = &wanted.cross_encoder {
            model = model.saturating_add(self.encoders.cross_encoder_weight(cross).await?);
        }
        let need = Need::of(tree, beside.as_ref(), fetched, model);
        let need = need + self.for_chats(wanted, adapters).await?;
        match self.budget.check(need) {
            Err(why) if goal.desired.as_deref() == Some(name) => {
                tracing::warn!(release = name, "loaded though {why}");
                Ok(())
            }
            checked => checked,
        }
    }

    fn switch(&mut self, goal: &Goal) {
        let Some(desired) = &goal.desired else { return };
        let Some((prepared, wanted)) = self.prepared.remove(desired) else {
            return;
        };
        let replaced = self.recall.switch(prepared.clone());
        let old = self.serving.replace((desired.clone(), (prepared, wanted)));
        let Some((name, (old, had))) = old else {
            return;
        };
        if let Some(replaced) = replaced {
            let held = self.cache.hold(had.revision);
            tokio::spawn(async move {
                replaced.drained().await;
                drop(held);
            });
        }
        // Until the operator has heard that it is not needed any more.
        if name != *desired && still(goal, &name, &had) {
            self.prepared.insert(name, (old, had));
        }
    }

    /// Deletes the files of releases that are neither wanted nor answer.
    async fn tidy(&self, goal: &Goal) {
        let of = |w: &Wanted| {
            let adapters = w.adapters.values().map(|a| a.manifest);
            adapters.chain([w.revision]).collect::<Vec<_>>()
        };
        let wanted = goal.releases.values().flat_map(of);
        let serving = self.serving.as_ref();
        let keep = wanted.chain(serving.map(|(_, (_, had))| had.revision));
        if let Err(error) = self.cache.sweep(keep.collect()).await {
            tracing::warn!("old revisions could not be deleted: {error:#}");
        }
    }

    fn show(&self) {
        let report = Report {
            serving: self.serving.as_ref().map(|(name, _)| name.clone()),
            prepared: self.prepared.keys().cloned().collect(),
            failures: self
                .failed
                .iter()
                .map(|(name, f)| (name.clone(), f.why.clone()))
                .collect(),
        };
        *lock(&self.shown) = report;
    }
}
