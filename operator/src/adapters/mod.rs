//! `loci adapters`: beside a vLLM, keeps loaded in it the adapters that a pipeline's releases have. It watches the ConfigMap
//! that replicas watch, fetches what that names, and sees that each adapter says what it said when it was trained. What is
//! loaded stays loaded whatever becomes of the operator or the API server.

#[cfg(test)]
mod fake;
mod ledger;
#[cfg(test)]
mod made;
mod probe;
#[cfg(test)]
mod real;
mod status;
#[cfg(test)]
mod tests;
mod vllm;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use loci_digest::Digest;
use loci_store::Store;
use loci_worker::step::AdapterManifest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::bind;
use crate::cache::Cache;
use crate::fleet::{WantedAdapter, config_map};
use crate::goal::{Goal, follow, until};
use ledger::{Ledger, Task};
use probe::Said;
use status::Shown;
use vllm::{Card, Vllm};

/// How often it is looked whether vLLM still has what it had.
const LOOK: Duration = Duration::from_secs(2);

/// How adapters are kept loaded.
pub struct AdapterOptions {
    /// The pipeline's namespace.
    pub namespace: String,
    /// The pipeline.
    pub pipeline: String,
    /// Where adapters are put: a directory that vLLM sees by the same path.
    pub state: PathBuf,
    /// Where vLLM is.
    pub vllm: Url,
    /// Where it is said how releases stand.
    pub status: SocketAddr,
    /// What they have to keep to.
    pub terms: AdapterTerms,
}

/// What adapters have to keep to.
#[derive(Clone, Copy, Debug)]
pub struct AdapterTerms {
    /// The largest rank that vLLM loads, when it is known.
    pub max_rank: Option<usize>,
    /// How far answers to fixed prompts may be from those recorded, in nats a token.
    pub tolerance: f64,
    /// How long chats may go on with an adapter of a release that is not wanted any more.
    pub drain: Duration,
}

/// Keeps adapters loaded until `shutdown`.
///
/// # Errors
/// When the address or the directory cannot be had, or a listener fails.
pub async fn adapt(
    client: Client,
    options: AdapterOptions,
    shutdown: CancellationToken,
) -> Result<()> {
    let status = bind(options.status).await?;
    let vllm = Vllm::new(options.vllm)?;
    let (goals, goal) = watch::channel(Goal::default());
    let shown = Shown::default();
    let agent = Agent::new(vllm, options.state, options.terms, shown.clone(), goal).await?;
    let maps = Api::<ConfigMap>::namespaced(client, &options.namespace);
    let watched = follow(maps, config_map(&options.pipeline), goals);
    let mut tasks = JoinSet::new();
    tasks.spawn(status::serve(status, shown, shutdown.clone()));
    tasks.spawn(until(shutdown.clone(), watched));
    tasks.spawn(until(shutdown.clone(), agent.run()));
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        shutdown.cancel();
        let ended = ended.context("a part of the agent panicked");
        result = result.and(ended.and_then(|r| r));
    }
    result
}

struct Agent {
    vllm: Vllm,
    cache: Cache,
    /// Where adapters are unpacked.
    root: PathBuf,
    terms: AdapterTerms,
    ledger: Ledger,
    shown: Shown,
    goal: watch::Receiver<Goal>,
    look: Duration,
    /// Whether the last look was answered.
    answers: bool,
}

impl Agent {
    async fn new(
        vllm: Vllm,
        state: PathBuf,
        terms: AdapterTerms,
        shown: Shown,
        goal: watch::Receiver<Goal>,
    ) -> Result<Self> {
        // vLLM opens files by the names that it is told.
        let state = std::path::absolute(state)?;
        let store = Store::open_local(&state.join("store")).await?;
        let root = state.join("adapters");
        Ok(Self {
            vllm,
            cache: Cache::new(store, root.clone())?,
            root,
            terms,
            ledger: Ledger::new(terms.drain),
            shown,
            goal,
            look: LOOK,
            answers: true,
        })
    }

    async fn run(mut self) {
        let mut untidy = true;
        loop {
            let goal = self.goal.borrow_and_update().clone();
            self.look().await;
            self.shown
                .show(self.ledger.report(&goal), goal.desired.clone());
            match self.ledger.next(&goal, Instant::now()) {
                Some(Task::Load(name, wanted)) => {
                    // A goal that changes meanwhile is looked at first; files fetched so far are kept.
                    let mut changed = self.goal.clone();
                    let loaded = tokio::select! {
                        loaded = self.load(&name, &wanted) => loaded,
                        ended = changed.changed() => match ended {
                            Ok(()) => continue,
                            Err(_) => return,
                        },
                    };
                    self.loaded(name, &wanted, loaded);
                    continue;
                }
                Some(Task::Unload(name)) => {
                    self.unload(name).await;
                    untidy = true;
                    continue;
                }
                None => {}
            }
            if untidy && goal != Goal::default() {
                self.tidy(&goal).await;
                untidy = false;
            }
            tokio::select! {
                changed = self.goal.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(self.look) => {}
            }
        }
    }

    /// Looks what vLLM has.
    async fn look(&mut self) {
        let cards = self.vllm.cards().await;
        if let Err(error) = &cards
            && std::mem::take(&mut self.answers)
        {
            tracing::warn!("{error:#}; waiting for it");
        }
        self.answers = cards.is_ok();
        let there = cards.ok().map(|cards| self.ours(&cards));
        self.ledger.saw(there);
    }

    /// What was loaded from here, by its name, and its manifest, by which its directory is called.
    fn ours(&self, cards: &[Card]) -> BTreeMap<String, Digest> {
        let own = |card: &Card| {
            let root = Path::new(card.root.as_ref()?).strip_prefix(&self.root);
            let manifest = format!("sha256:{}", root.ok()?.to_str()?);
            Some((card.id.clone(), manifest.parse::<Digest>().ok()?))
        };
        cards.iter().filter_map(own).collect()
    }

    /// Fetches an adapter, has vLLM load it unless it has, and sees that it says what it should.
    async fn load(&self, name: &str, wanted: &WantedAdapter) -> Result<()> {
        let manifest: AdapterManifest = self.cache.find(wanted.place()).await?;
        probe::fits(&manifest, wanted, self.terms.max_rank)?;
        let files = self.cache.directory(wanted.place(), &manifest).await?;
        let cards = self.vllm.cards().await?;
        let there = cards.iter().find(|card| card.id == name);
        let same = |card: &Card| card.root.as_ref().map(PathBuf::from).as_ref() == Some(&files);
        if !there.is_some_and(same) {
            self.vllm.load(name, &files, there.is_some()).await?;
        }
        let base = cards.iter().find(|card| card.parent.is_none());
        let base = base.context("vLLM lists no model of its own")?;
        let verified = self.verify(name, &base.id, &manifest).await;
        if verified.is_err()
            && let Err(error) = self.vllm.unload(name).await
        {
            tracing::warn!(name, "is not unloaded: {error:#}");
        }
        verified
    }

    async fn verify(&self, name: &str, base: &str, manifest: &AdapterManifest) -> Result<()> {
        let (vllm, mut said) = (&self.vllm, Said::default());
        for probe in &manifest.probes {
            let asked = vllm.tokens(base, probe).await?;
            said.adapter
                .push(vllm.log_probabilities(name, &asked).await?);
            said.base.push(vllm.log_probabilities(base, &asked).await?);
        }
        let tolerance = self.terms.tolerance;
        let (own, alone) = probe::check(manifest, &said, tolerance)?;
        tracing::info!(name, distance = own, base = alone, "adapter is loaded");
        if alone <= tolerance {
            tracing::warn!(
                name,
                tolerance,
                "its base answers within the tolerance, too: a smaller --tolerance would tell more"
            );
        }
        Ok(())
    }

    fn loaded(&mut self, name: String, wanted: &WantedAdapter, loaded: Result<()>) {
        if let Err(error) = &loaded {
            tracing::warn!(name, "cannot be loaded: {error:#}");
        }
        let loaded = loaded.map_err(|error| format!("{error:#}"));
        self.ledger
            .loaded(name, wanted.manifest, loaded, Instant::now());
    }

    async fn unload(&mut self, name: String) {
        let mut unloaded = self.vllm.unload(&name).await;
        // vLLM cannot let go of what it has put aside for others: it gets it back first.
        if unloaded.is_err()
            && let Ok(cards) = self.vllm.cards().await
            && let Some(card) = cards.iter().find(|card| card.id == name)
            && let Some(root) = &card.root
            && self.vllm.load(&name, root.as_ref(), true).await.is_ok()
        {
            unloaded = self.vllm.unload(&name).await;
        }
        match unloaded {
            Ok(()) => tracing::info!(name, "adapter is unloaded"),
            Err(error) => {
                tracing::warn!(name, "is not unloaded: {error:#}");
                self.ledger.stays(name, Instant::now());
            }
        }
    }

    /// Deletes the files of adapters that are neither wanted nor in use.
    async fn tidy(&self, goal: &Goal) {
        if let Err(error) = self.cache.sweep(self.ledger.kept(goal)).await {
            tracing::warn!("old adapters could not be deleted: {error:#}");
        }
    }
}
