//! Between plan and bus: steps go out as work items, and come back as outcomes.

mod again;
mod answers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::StreamExt;
use jiff::Timestamp;
use loci_bus::{Dispatcher, Event, Events, Progress, WorkItem};
use loci_digest::Digest;
use loci_plan::spec::DEFAULT_CLASS;
use loci_plan::{Pipeline, Probe, StepInput, StepKey};
use loci_store::Store;
use loci_worker::step::{Fetch, FetchItem};
use tokio::sync::mpsc;

use crate::asks::asks;
use crate::declared::Declared;
use crate::items::{
    Crew, adapter, blank, full_name, namespace, payload, priority, sources, sources_of, subjects,
};
use crate::live::{Asked, Live};
use crate::news::News;

/// The class of workers that compute in this process, whatever class pipelines name.
pub const CLASS: &str = DEFAULT_CLASS;
/// The class of workers that know sources and their credentials.
pub const FETCH: &str = "fetch";

/// Who watches steps at work.
pub trait Progresses: Send + Sync + 'static {
    /// A step has come so far, of a run that is about this adapter, or about the index.
    fn progress(&self, step: &str, adapter: Option<&str>, progress: &Progress);
    /// A work item has ended.
    fn finished(&self, id: &str);
}

/// Sends steps out and hands outcomes back.
#[derive(Clone)]
pub struct Dispatch {
    bus: Arc<dyn Dispatcher>,
    store: Store,
    crew: Crew,
    live: Arc<Mutex<HashMap<String, Live>>>,
    /// Held alone while a pipeline is forgotten: nothing of it is sent out meanwhile.
    forgetting: Arc<tokio::sync::RwLock<()>>,
}

impl Dispatch {
    /// Over `bus`.
    pub fn new(bus: Arc<dyn Dispatcher>, store: Store, crew: Crew) -> Self {
        Self {
            bus,
            store,
            crew,
            live: Arc::default(),
            forgetting: Arc::default(),
        }
    }

    /// Sends a step out, of a run that a person requested or not; its outcome comes to `reply`. Sent again while it is
    /// under way, its outcome comes once, to the last `reply`.
    ///
    /// # Errors
    /// When the bus will not carry it. One that is away is asked again until it does.
    pub async fn send(
        &self,
        declared: &Declared,
        key: &StepKey,
        input: &StepInput,
        requested: bool,
        reply: mpsc::UnboundedSender<News>,
    ) -> Result<()> {
        let pipeline = &declared.pipeline;
        let asked = Asked::Step {
            key: key.clone(),
            subjects: subjects(input),
            asks: asks(declared, input),
            adapter: adapter(input),
        };
        let payload = match input {
            StepInput::Snapshot { previous, adapter } => {
                let run = key.run.clone();
                let snapshot = Fetch::Snapshot {
                    run,
                    previous: *previous,
                    sources: sources_of(pipeline, adapter.as_deref()),
                };
                serde_json::to_value(self.fetch_item(pipeline, snapshot))?
            }
            _ => serde_json::to_value(payload(declared, &key.run, input)?)?,
        };
        let item = WorkItem {
            // With the uid: a run of a pipeline of this name that is gone may have had this run's name.
            id: Digest::of_json(&(full_name(pipeline), &pipeline.uid, key))?.to_hex(),
            run: key.run.clone(),
            step: key.step.as_str().to_owned(),
            priority: priority(requested, input),
            class: self.class(pipeline, input),
            ..blank(pipeline, payload)
        };
        self.publish(item, asked, pipeline, reply).await
    }

    /// Has a source looked at; what was found comes to `reply`. Asked for again while it is under way, the answer comes
    /// once, to the last `reply`.
    ///
    /// # Errors
    /// When the bus will not carry it. One that is away is asked again until it does.
    pub async fn probe(
        &self,
        pipeline: &Arc<Pipeline>,
        probe: Probe,
        reply: mpsc::UnboundedSender<News>,
    ) -> Result<()> {
        let source = sources(pipeline).find(|s| s.source.name == probe.source);
        let source = source.with_context(|| format!("there is no source {}", probe.source))?;
        let of = ("loci/probe/v1", full_name(pipeline), &source, &probe.basis);
        // Two adapters may have the same source looked at for the same change.
        let id = match &probe.adapter {
            None => Digest::of_json(&of)?,
            Some(adapter) => Digest::of_json(&(of, adapter))?,
        };
        let id = id.to_hex();
        let basis = probe.basis;
        let payload = self.fetch_item(pipeline, Fetch::Probe { source, basis });
        let item = WorkItem {
            id,
            step: "probe".to_owned(),
            class: self.fetcher(pipeline).unwrap_or_else(|| FETCH.to_owned()),
            ..blank(pipeline, serde_json::to_value(payload)?)
        };
        let time = Timestamp::now();
        let asked = Asked::Probe { probe, time };
        self.publish(item, asked, pipeline, reply).await
    }

    async fn publish(
        &self,
        item: WorkItem,
        asked: Asked,
        pipeline: &Arc<Pipeline>,
        reply: mpsc::UnboundedSender<News>,
    ) -> Result<()> {
        let live = Live {
            asked,
            pipeline: pipeline.clone(),
            reply,
            heard: None,
        };
        let _sending = self.forgetting.read().await;
        self.live().insert(item.id.clone(), live);
        match self.bus.publish(item.clone()).await {
            Err(error) if again::away(&error) => {
                tracing::debug!(id = item.id, %error, "is dispatched when the bus is back");
                tokio::spawn(self.clone().publish_again(item));
                Ok(())
            }
            published => Ok(published.map(drop).context("cannot dispatch a step")?),
        }
    }

    fn fetch_item(&self, pipeline: &Pipeline, fetch: Fetch) -> FetchItem {
        let upload = match &self.crew {
            Crew::Fetchers(uploads) => {
                let snapshot = fetch.snapshot();
                Some(uploads.upload(namespace(pipeline), snapshot.as_ref()))
            }
            Crew::Here | Crew::Workers => None,
        };
        FetchItem { fetch, upload }
    }

    /// Stops what a run has under way.
    pub async fn stop(&self, pipeline: &Pipeline, run: &str) -> Result<()> {
        let ids: Vec<String> = {
            let live = self.live();
            let of_run = |live: &Live| {
                live.key().is_some_and(|key| key.run == run)
                    && full_name(&live.pipeline) == full_name(pipeline)
            };
            let of_run = live.iter().filter(|(_, live)| of_run(live));
            of_run.map(|(id, _)| id.clone()).collect()
        };
        for id in ids {
            self.live().remove(&id);
            match self.bus.cancel(&id).await {
                Err(error) if again::away(&error) => {
                    tokio::spawn(self.clone().cancel_again(id));
                }
                cancelled => _ = cancelled?,
            }
        }
        Ok(())
    }

    /// Stops all that a pipeline (`namespace/name`) that is gone has under way now: what one of its name sends out
    /// before this is done is not meant.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    pub fn abandon(&self, pipeline: &str) -> impl Future<Output = Result<()>> + Send + use<> {
        let ids: Vec<String> = {
            let mut live = self.live();
            let of = live.extract_if(|_, l| full_name(&l.pipeline) == pipeline);
            of.map(|(id, _)| id).collect()
        };
        let bus = self.bus.clone();
        async move {
            for id in ids {
                bus.cancel(&id).await?;
            }
            Ok(())
        }
    }

    /// Removes all that the bus has of a pipeline that is gone. False when there is one of its name again.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    pub async fn forget(&self, pipeline: &str) -> Result<bool> {
        let _alone = self.forgetting.write().await;
        let of = |l: &Live| full_name(&l.pipeline) == pipeline;
        if self.live().values().any(|l| of(l) && !l.reply.is_closed()) {
            return Ok(false);
        }
        self.live().retain(|_, l| !of(l));
        self.bus.forget(pipeline).await?;
        Ok(true)
    }

    /// Everything that happens on the bus from now on.
    pub async fn events(&self) -> Result<Events> {
        Ok(self.bus.events().await?)
    }

    /// Hands on what happens until the bus closes; progress also to who is `watching`.
    pub async fn listen(
        self,
        mut events: Events,
        watching: Option<Arc<dyn Progresses>>,
    ) -> Result<()> {
        while let Some(event) = events.next().await {
            match event {
                Event::Claimed { .. } => {}
                Event::Progress(progress) => {
                    let step = self.live().get_mut(&progress.id).and_then(|live| {
                        live.report(&progress);
                        Some((live.key()?.step, live.adapter().map(str::to_owned)))
                    });
                    if let (Some((step, adapter)), Some(watching)) = (step, &watching) {
                        watching.progress(step.as_str(), adapter.as_deref(), &progress);
                    }
                }
                Event::Finished { id, outcome, .. } => {
                    if let Some(watching) = &watching {
                        watching.finished(&id);
                    }
                    let live = self.live().remove(&id);
                    if let Some(live) = live {
                        self.answer(live, outcome).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// The class that reads a pipeline's sources; none when it is this process.
    pub(crate) fn fetcher(&self, pipeline: &Pipeline) -> Option<String> {
        match self.crew {
            Crew::Fetchers(_) => Some(format!("{FETCH}-{}", namespace(pipeline))),
            Crew::Here | Crew::Workers => None,
        }
    }

    fn class(&self, pipeline: &Pipeline, input: &StepInput) -> String {
        match (input, &self.crew) {
            (StepInput::Snapshot { .. }, _) => {
                self.fetcher(pipeline).unwrap_or_else(|| FETCH.to_owned())
            }
            (_, Crew::Here) => CLASS.to_owned(),
            (_, Crew::Workers | Crew::Fetchers(_)) => pipeline.class.clone(),
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
