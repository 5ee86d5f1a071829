//! One pipeline's loop: gather the world, plan, apply, wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use loci_crds::release::AdapterComponent;
use loci_crds::{MemoryPipelineStatus, MemoryRelease, MemoryRun};
use loci_plan::{PrepareFailure, Serving, StepOutcome, Workers, World, plan};
use loci_recall::Recall;
use loci_store::Store;
use loci_worker::step::{Decoders, Encoders, Revisions};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::dispatch::Dispatch;
use crate::fleet::{Fleet, Load, StoredAdapter};
use crate::garbage::Garbage;
use crate::items::full_name;
use crate::keeper::{Keeper, Kept, Told};
use crate::lasting::{Lasting, Taken, foreign};
use crate::news::News;
use crate::sources::Sources;

/// What the loops of all pipelines share.
#[derive(Clone)]
pub struct Shared {
    /// Artefacts.
    pub store: Store,
    /// Unpacked revisions.
    pub revisions: Revisions,
    /// Models that embed.
    pub encoders: Encoders,
    /// Models that chat.
    pub decoders: Decoders,
    /// Serving.
    pub recall: Recall,
    /// Steps.
    pub dispatch: Dispatch,
    /// The classes of the workers that are there; none when that is not known, or when this process does all steps.
    pub classes: watch::Receiver<Classes>,
    /// Sources.
    pub sources: Sources,
    /// What all pipelines need of the store.
    pub garbage: Garbage,
    /// One collection at a time, and none while a step or a load runs.
    pub collecting: Arc<tokio::sync::RwLock<()>>,
}

/// Classes of workers.
pub type Classes = Option<Arc<loci_plan::Classes>>;

/// The loop of one pipeline.
pub struct Controller {
    pub(crate) shared: Shared,
    pub(crate) declared: Declared,
    pub(crate) keeper: Arc<dyn Keeper>,
    pub(crate) world: World,
    pub(crate) fleet: Box<dyn Fleet>,
    pub(crate) news: mpsc::UnboundedSender<News>,
    pub(crate) inbox: mpsc::UnboundedReceiver<News>,
    lasting: Lasting,
}

impl Controller {
    /// Picks up what was kept. What is missing of it, because the resources were deleted, is made again from the
    /// pipeline's record in the store.
    pub async fn new(
        shared: Shared,
        declared: Declared,
        keeper: Arc<dyn Keeper>,
        mut kept: Kept,
        (mut runs, mut releases): (Vec<MemoryRun>, Vec<MemoryRelease>),
        mut fleet: Box<dyn Fleet>,
    ) -> Result<Self> {
        let uid = declared.resource.uid().unwrap_or_default();
        runs.retain(|r| !foreign(r, &uid));
        releases.retain(|r| !foreign(r, &uid));
        let (store, name) = (shared.store.clone(), full_name(&declared.pipeline));
        let (mut lasting, record) = Lasting::open(store, name.clone()).await?;
        if record.as_ref().is_some_and(|record| record.uid != uid) {
            // Work of who had this name before. Serving does without a bus; if it is away, that work comes to nothing.
            let forgotten = shared.dispatch.forget(&name).await;
            let _ = forgotten.inspect_err(|e| tracing::warn!("{name}: old work stays: {e:#}"));
        }
        let taken = match record {
            Some(record) => {
                let resources = (&mut kept, &*runs, &mut releases);
                lasting.restore(&*keeper, record, &uid, resources).await?
            }
            None => Taken::default(),
        };
        let unknown = |o: &StepOutcome| kept.outcomes.iter().all(|known| known.key != o.key);
        let results: Vec<_> = taken
            .results
            .iter()
            .filter(|o| unknown(o))
            .cloned()
            .collect();
        kept.outcomes.extend(results);
        let now = Timestamp::now();
        let (news, inbox) = mpsc::unbounded_channel();
        fleet.declare(&declared, news.clone());
        let digests: BTreeMap<_, _> = declared
            .suites
            .iter()
            .map(|(k, v)| (k.clone(), *v))
            .collect();
        let world = World {
            pipeline: (*declared.pipeline).clone(),
            generation: declared.resource.metadata.generation.unwrap_or(1),
            intents: keeper.intents().await?,
            suite_data: digests,
            looks: kept.looks,
            probing: Default::default(),
            hints: hints(&declared, &taken, now),
            runs,
            outcomes: kept.outcomes,
            in_flight: Default::default(),
            reported: Default::default(),
            releases,
            serving: Serving {
                desired: kept.desired,
                current: fleet.current(),
                prepared: fleet.prepared(),
                ..Serving::default()
            },
            status: status(&declared, &taken),
            collected: kept.collected,
            built: taken.built,
            workers: None,
        };
        let mut controller = Self {
            shared,
            declared,
            keeper,
            world,
            fleet,
            news,
            inbox,
            lasting,
        };
        if taken.pointed {
            controller.keep().await?;
        }
        // What serves may have changed while nobody heard of it.
        controller.follow();
        controller.count_workers();
        Ok(controller)
    }

    /// Where news of this pipeline goes.
    pub fn news(&self) -> mpsc::UnboundedSender<News> {
        self.news.clone()
    }

    /// Loops until `shutdown`, until a write fails, or until the keeper [rests](Keeper::rests). What serves goes on
    /// serving, in the fleet that is given back.
    pub async fn run(mut self, shutdown: CancellationToken) -> (Box<dyn Fleet>, Result<()>) {
        let ended = self.turn_until(&shutdown).await;
        (self.fleet, ended)
    }

    async fn turn_until(&mut self, shutdown: &CancellationToken) -> Result<()> {
        loop {
            self.remember().await?;
            let decision = plan(Timestamp::now(), &self.world);
            if decision.status != self.world.status {
                self.keeper.write_status(&decision.status).await?;
                self.world.status = decision.status;
            }
            let idle = decision.actions.is_empty();
            for action in decision.actions {
                self.apply(action).await?;
            }
            if idle {
                self.keeper.idle();
            }
            if idle && !self.wait(decision.wake_at, shutdown).await? {
                return Ok(());
            }
            while let Ok(news) = self.inbox.try_recv() {
                self.hear(news).await?;
            }
        }
    }

    pub(crate) fn count_workers(&mut self) {
        let classes = self.shared.classes.borrow_and_update().clone();
        self.world.workers = classes.map(|classes| Workers {
            classes,
            fetch: self.shared.dispatch.fetcher(&self.declared.pipeline),
        });
    }

    pub(crate) async fn hear(&mut self, news: News) -> Result<()> {
        match news {
            News::Outcome(outcome) => {
                self.world.in_flight.remove(&outcome.key);
                self.keeper.tell(Told::Step(&outcome));
                self.world.outcomes.push(*outcome);
                self.keep().await?;
            }
            News::Progress(reported) => {
                let run = reported.key.run.clone();
                self.world.reported.insert(run, reported);
            }
            News::Look(look) => {
                let key = look.probe.key();
                self.world.probing.remove(&key);
                let before = self.world.looks.get(&key).map(|l| &l.result);
                if let Err(reason) = &look.result
                    && before != Some(&look.result)
                {
                    let source = &look.probe.source;
                    let trouble = format!("source {source} cannot be read: {reason}");
                    self.keeper.tell(Told::Trouble(trouble));
                }
                self.world.looks.insert(key, *look);
                self.keep().await?;
            }
            News::Hint(source) => {
                self.world.hints.insert(source, Timestamp::now());
            }
            News::Loaded(release, loaded) => self.loaded(release, loaded),
            News::Serving => self.follow(),
            News::Collected | News::Pointer => self.keep().await?,
            News::Trouble(what) => self.keeper.tell(Told::Trouble(what)),
            News::Asked => self.world.intents = self.keeper.intents().await?,
            News::Run(run) if foreign(&*run, &self.uid()) => {}
            News::Run(run) => put(&mut self.world.runs, *run),
            News::RunGone(name) => {
                self.world.runs.retain(|r| r.name_any() != name);
                self.forget(&name).await?;
            }
            News::Release(release) if foreign(&*release, &self.uid()) => {}
            News::Release(release) => put(&mut self.world.releases, *release),
            News::ReleaseGone(name) => self.release_gone(&name).await?,
        }
        Ok(())
    }

    fn uid(&self) -> String {
        self.declared.resource.uid().unwrap_or_default()
    }

    /// Somebody else deleted a release: it is made again, unless the pipeline goes with it. Of a release that had its name
    /// before, it is there.
    async fn release_gone(&mut self, name: &str) -> Result<()> {
        let mut releases = self.world.releases.iter_mut();
        let Some(release) = releases.find(|r| r.name_any() == name) else {
            return Ok(());
        };
        self.keeper.confirm().await?;
        let again = self.keeper.create_release(release.clone()).await?;
        if again.uid() != release.uid() {
            let trouble = format!(
                "release {name} was deleted and is made again: spec.releases says how many are kept"
            );
            self.keeper.tell(Told::Trouble(trouble));
        }
        *release = again;
        Ok(())
    }

    /// Keeps in the store what outlives the resources.
    async fn remember(&mut self) -> Result<()> {
        let record = loci_plan::record(&self.world);
        self.world.built.clone_from(&record.built);
        self.lasting.write(&record).await
    }

    fn loaded(&mut self, release: String, loaded: Result<()>) {
        let serving = &mut self.world.serving;
        serving.preparing.remove(&release);
        match loaded {
            Ok(()) => {
                serving.failures.remove(&release);
                self.follow();
            }
            Err(error) => {
                let message = format!("{error:#}");
                let before = serving.failures.get(&release);
                if before.is_none_or(|before| before.message != message) {
                    let trouble = format!("release {release} cannot be loaded: {message}");
                    self.keeper.tell(Told::Trouble(trouble));
                }
                let count = before.map_or(0, |f| f.count) + 1;
                let failure = PrepareFailure {
                    count,
                    time: Timestamp::now(),
                    message,
                };
                serving.failures.insert(release, failure);
            }
        }
    }

    /// Serves the desired release as soon as it is loaded.
    pub(crate) fn follow(&mut self) {
        let serving = &mut self.world.serving;
        if let Some(desired) = &serving.desired
            && self.fleet.switch(desired)
        {
            let first = serving.current.is_none();
            let release = desired.as_str();
            self.keeper.tell(Told::Serving { release, first });
        }
        serving.current = self.fleet.current();
        serving.prepared = self.fleet.prepared();
        // Replicas try again by themselves.
        let prepared = &serving.prepared;
        serving.failures.retain(|name, _| !prepared.contains(name));
    }

    /// Loads a release beside the one that serves.
    pub(crate) fn prepare(&mut self, name: &str) -> Result<()> {
        let release = self.world.releases.iter().find(|r| r.name_any() == name);
        let release = release.with_context(|| format!("release {name} is not there"))?;
        let adapter = |a: &AdapterComponent| StoredAdapter::of(a, self.declared.absolute(&a.base));
        let adapters = release.spec.adapters.iter().map(adapter);
        let model = &release.spec.embedder.model;
        let own = *model == self.declared.pipeline.model;
        let cross = release.spec.index.cross_encoder.as_ref();
        let cross = cross.map(|cross| self.declared.absolute_cross_encoder(&cross.model));
        let load = Load {
            pipeline: full_name(&self.declared.pipeline),
            release: name.to_owned(),
            revision: release.spec.index.revision.parse()?,
            model: if own { &self.declared.model } else { model }.clone(),
            cross_encoder: cross.map(str::to_owned),
            adapters: adapters.collect::<Result<_>>()?,
            latency_budget: self.declared.pipeline.latency_budget,
        };
        self.world.serving.preparing.insert(name.to_owned());
        self.fleet.prepare(load);
        Ok(())
    }

    pub(crate) async fn keep(&self) -> Result<()> {
        let kept = Kept {
            desired: self.world.serving.desired.clone(),
            looks: self.world.looks.clone(),
            outcomes: self.world.outcomes.clone(),
            collected: self.world.collected,
        };
        self.keeper.keep(&kept).await
    }
}

/// A watched source may have changed while nobody watched; and what no run
/// tells of is looked at.
fn hints(declared: &Declared, taken: &Taken, now: Timestamp) -> BTreeMap<String, Timestamp> {
    let sources = declared.pipeline.sources.iter().map(|s| &s.name);
    let unread = sources.filter(|_| taken.unread.is_some());
    let names = declared.watched.iter().chain(unread);
    names.map(|name| (name.clone(), now)).collect()
}

fn status(declared: &Declared, taken: &Taken) -> MemoryPipelineStatus {
    let mut status = declared.resource.status.clone().unwrap_or_default();
    if let Some(sources) = taken.unread.as_ref().filter(|_| status.sources.is_empty()) {
        status.sources.clone_from(sources);
    }
    if status.cost.is_none() {
        status.cost.clone_from(&taken.cost);
    }
    status
}

/// Replaces an object of this name, unless what is there is as new. (Resource versions of one kind can be compared
/// as numbers: KEP-5504.)
fn put<K: Resource>(all: &mut Vec<K>, new: K) {
    let version = |k: &K| k.resource_version().and_then(|v| v.parse::<u64>().ok());
    match all.iter_mut().find(|k| k.name_any() == new.name_any()) {
        Some(old) if old.uid() == new.uid() && version(old) >= version(&new) => {}
        Some(old) => *old = new,
        None => all.push(new),
    }
}
