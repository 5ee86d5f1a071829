//! One pipeline's loop: gather the world, plan, apply, wait.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use loci_crds::MemoryPipeline;
use loci_digest::Digest;
use loci_plan::{Look, Pipeline, PrepareFailure, Serving, StepOutcome, World, plan};
use loci_recall::{LoadRequest, Prepared, Recall};
use loci_store::Store;
use loci_worker::step::{Encoders, Hold, Revisions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::dispatch::{Dispatch, full_name};
use super::progress::Screen;
use super::sources::Sources;
use crate::state::{PipelineState, intents, read_json, write_json};

/// How often the intents' file is looked at.
const POLL: Duration = Duration::from_millis(250);

/// What happened outside of the loop.
pub enum News {
    /// A step ended.
    Outcome(Box<StepOutcome>),
    /// A probe ended.
    Look(Box<Look>),
    /// A watched source changed.
    Hint(String),
    /// A release was loaded, or not.
    Loaded(String, Box<Result<(Prepared, Hold)>>),
    /// Garbage was collected.
    Collected,
}

/// What the loop itself keeps on disk, beside runs and releases.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    desired: Option<String>,
    looks: BTreeMap<String, Look>,
    outcomes: Vec<StepOutcome>,
    collected: Option<Timestamp>,
}

/// What the loops of all pipelines share.
#[derive(Clone)]
pub struct Shared {
    /// Artefacts.
    pub store: Store,
    /// Unpacked revisions.
    pub revisions: Revisions,
    /// Models.
    pub encoders: Encoders,
    /// Serving.
    pub recall: Recall,
    /// Steps.
    pub dispatch: Dispatch,
    /// Sources.
    pub sources: Sources,
    /// The terminal.
    pub screen: Arc<Screen>,
    /// What all pipelines need of the store.
    pub garbage: super::garbage::Garbage,
    /// One collection at a time, and none while a step or a load runs.
    pub collecting: Arc<tokio::sync::RwLock<()>>,
}

/// A declared pipeline.
pub struct Declared {
    /// The resource, with generation and uid.
    pub resource: MemoryPipeline,
    /// Its typed spec.
    pub pipeline: Arc<Pipeline>,
    /// The embedder's reference, absolute.
    pub model: String,
    /// The suites' data in the store.
    pub suites: HashMap<String, Digest>,
    /// A question to try it with.
    pub question: String,
    /// Watched sources.
    pub watched: Vec<String>,
}

/// The loop of one pipeline.
pub struct Controller {
    pub(super) shared: Shared,
    pub(super) declared: Declared,
    pub(super) state: PipelineState,
    pub(super) world: World,
    pub(super) ready: HashMap<String, (Prepared, Hold)>,
    pub(super) served: Option<Hold>,
    pub(super) news: mpsc::UnboundedSender<News>,
    inbox: mpsc::UnboundedReceiver<News>,
    url: String,
}

impl Controller {
    /// Picks up what an earlier process left.
    pub fn new(
        shared: Shared,
        declared: Declared,
        state: PipelineState,
        url: String,
    ) -> Result<Self> {
        let kept: Kept = read_json(&state.looks())?.unwrap_or_default();
        let now = Timestamp::now();
        let world = World {
            pipeline: (*declared.pipeline).clone(),
            generation: declared.resource.metadata.generation.unwrap_or(1),
            intents: intents::read(&state.intents())?,
            suite_data: declared
                .suites
                .iter()
                .map(|(k, v)| (k.clone(), *v))
                .collect(),
            looks: kept.looks,
            probing: Default::default(),
            hints: declared.watched.iter().map(|s| (s.clone(), now)).collect(),
            runs: state.runs().list()?,
            outcomes: kept.outcomes,
            in_flight: Default::default(),
            releases: state.releases().list()?,
            serving: Serving {
                desired: kept.desired,
                ..Serving::default()
            },
            status: declared.resource.status.clone().unwrap_or_default(),
            collected: kept.collected,
        };
        let (news, inbox) = mpsc::unbounded_channel();
        Ok(Self {
            shared,
            declared,
            state,
            world,
            ready: HashMap::new(),
            served: None,
            news,
            inbox,
            url,
        })
    }

    /// Where news of this pipeline goes.
    pub fn news(&self) -> mpsc::UnboundedSender<News> {
        self.news.clone()
    }

    /// Loops until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        self.write_resource()?;
        loop {
            self.world.intents = intents::read(&self.state.intents())?;
            let decision = plan(Timestamp::now(), &self.world);
            if decision.status != self.world.status {
                self.world.status = decision.status;
                self.write_resource()?;
            }
            let idle = decision.actions.is_empty();
            for action in decision.actions {
                self.apply(action).await?;
            }
            if idle && !self.wait(decision.wake_at, &shutdown).await? {
                return Ok(());
            }
            while let Ok(news) = self.inbox.try_recv() {
                self.hear(news)?;
            }
        }
    }

    /// Waits for news, a changed wish or the time. False at shutdown.
    async fn wait(
        &mut self,
        wake_at: Option<Timestamp>,
        shutdown: &CancellationToken,
    ) -> Result<bool> {
        loop {
            let until = wake_at.map(|t| {
                Duration::try_from(t.duration_since(Timestamp::now())).unwrap_or_default()
            });
            let pause = until.map_or(POLL, |u| u.min(POLL));
            tokio::select! {
                () = shutdown.cancelled() => return Ok(false),
                news = self.inbox.recv() => {
                    let Some(news) = news else { return Ok(false) };
                    self.hear(news)?;
                    return Ok(true);
                }
                () = tokio::time::sleep(pause) => {
                    let due = wake_at.is_some_and(|t| t <= Timestamp::now());
                    if due || intents::read(&self.state.intents())? != self.world.intents {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn hear(&mut self, news: News) -> Result<()> {
        match news {
            News::Outcome(outcome) => {
                self.world.in_flight.remove(&outcome.key);
                self.tell_outcome(&outcome);
                self.world.outcomes.push(*outcome);
                self.keep()
            }
            News::Look(look) => {
                self.world.probing.remove(&look.probe.source);
                if let Err(reason) = &look.result {
                    self.shared.screen.line(format!(
                        "source {} cannot be read: {reason}",
                        look.probe.source
                    ));
                }
                self.world.looks.insert(look.probe.source.clone(), *look);
                self.keep()
            }
            News::Hint(source) => {
                self.world.hints.insert(source, Timestamp::now());
                Ok(())
            }
            News::Loaded(release, loaded) => self.loaded(release, *loaded),
            News::Collected => self.keep(),
        }
    }

    fn loaded(&mut self, release: String, loaded: Result<(Prepared, Hold)>) -> Result<()> {
        let serving = &mut self.world.serving;
        serving.preparing.remove(&release);
        match loaded {
            Ok(prepared) => {
                serving.failures.remove(&release);
                serving.prepared.insert(release.clone());
                self.ready.insert(release, prepared);
                self.follow();
            }
            Err(error) => {
                let message = format!("{error:#}");
                self.shared
                    .screen
                    .line(format!("release {release} cannot be loaded: {message}"));
                let count = serving.failures.get(&release).map_or(0, |f| f.count) + 1;
                serving.failures.insert(
                    release,
                    PrepareFailure {
                        count,
                        time: Timestamp::now(),
                        message,
                    },
                );
            }
        }
        Ok(())
    }

    /// Serves the desired release as soon as it is loaded.
    pub(super) fn follow(&mut self) {
        let serving = &mut self.world.serving;
        let Some(desired) = serving
            .desired
            .clone()
            .filter(|d| serving.current.as_ref() != Some(d))
        else {
            return;
        };
        let Some((prepared, hold)) = self.ready.remove(&desired) else {
            return;
        };
        let first = serving.current.is_none();
        let replaced = self.shared.recall.switch(prepared);
        let old_hold = self.served.replace(hold);
        if let Some(old) = serving.current.replace(desired.clone()) {
            serving.prepared.remove(&old);
        }
        if let Some(replaced) = replaced {
            tokio::spawn(async move {
                replaced.drained().await;
                drop(old_hold);
            });
        }
        self.tell_switch(&desired, first);
    }

    /// Loads a release beside the one that serves.
    pub(super) fn prepare(&mut self, name: &str) -> Result<()> {
        let release = self
            .world
            .releases
            .iter()
            .find(|r| r.metadata.name.as_deref() == Some(name));
        let release = release.with_context(|| format!("release {name} is not there"))?;
        let revision: Digest = release.spec.index.revision.parse()?;
        let model = release.spec.embedder.model.clone();
        let model = if model == self.declared.pipeline.model {
            self.declared.model.clone()
        } else {
            model
        };
        let (shared, news) = (self.shared.clone(), self.news.clone());
        let (pipeline, name) = (full_name(&self.declared.pipeline), name.to_owned());
        let latency_budget = self.declared.pipeline.latency_budget;
        self.world.serving.preparing.insert(name.clone());
        tokio::spawn(async move {
            let load = async {
                let _no_sweep = shared.collecting.read().await;
                let hold = shared.revisions.hold(revision);
                let directory: PathBuf = shared.revisions.directory(&revision).await?;
                let encoder = shared.encoders.get(&model).await?;
                let request = LoadRequest {
                    pipeline,
                    release: name.clone(),
                    directory,
                    encoder,
                    latency_budget,
                };
                Ok((shared.recall.prepare(request).await?, hold))
            };
            let loaded = load.await;
            let _ = news.send(News::Loaded(name, Box::new(loaded)));
        });
        Ok(())
    }

    pub(super) fn keep(&self) -> Result<()> {
        let kept = Kept {
            desired: self.world.serving.desired.clone(),
            looks: self.world.looks.clone(),
            outcomes: self.world.outcomes.clone(),
            collected: self.world.collected,
        };
        write_json(&self.state.looks(), &kept)
    }

    fn write_resource(&mut self) -> Result<()> {
        self.declared.resource.status = Some(self.world.status.clone());
        write_json(&self.state.resource(), &self.declared.resource)
    }

    fn tell_outcome(&self, outcome: &StepOutcome) {
        use loci_plan::StepResult;
        let step = outcome.key.step.as_str();
        let screen = &self.shared.screen;
        match &outcome.result {
            Ok(StepResult::Snapshot(s)) => screen.line(format!("{step:<9} {}", s.summary)),
            Ok(StepResult::Embed(s)) => screen.line(format!("{step:<9} {}", s.summary)),
            Ok(StepResult::Assemble(s)) => screen.line(format!("{step:<9} {}", s.summary)),
            Ok(StepResult::Evaluate(s)) => screen.line(format!("{step:<9} {}", s.summary)),
            Err(failure) => screen.line(format!(
                "{step:<9} failed: {} ({})",
                failure.message, failure.reason
            )),
        }
    }

    fn tell_switch(&self, release: &str, first: bool) {
        let screen = &self.shared.screen;
        screen.line(format!(
            "{} {release}",
            console::style("serving").green().bold()
        ));
        if !first {
            return;
        }
        let question = &self.declared.question;
        let program = std::env::args().next().unwrap_or_else(|| "loci".to_owned());
        screen.plain(format!(
            "\nAsk it, from another terminal:\n  {program} query \"{question}\"\n  curl -s {}/v1/retrieve -H 'content-type: application/json' -d '{{\"query\": \"{question}\", \"k\": 3}}'\nThen edit a source file and ask again. Ctrl-C stops.\n",
            self.url
        ));
    }
}
