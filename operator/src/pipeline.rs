//! One pipeline: its controller, started anew when its spec or what that names changes, and after trouble.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use loci_crds::MemoryPipeline;
use loci_plan::FieldError;
use loci_shell::{Controller, Fleet, Keeper, LocalFleet, News, Shared, Told, full_name};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Annotations, Cluster, Held};
use crate::dereference::{Dereferenced, Refused, dereference};
use crate::events::Events;
use crate::facts::Known;
use crate::fetchers::Fetchers;
use crate::fleet::Replicas;
use crate::glance::Sight;
use crate::pointed::References;
use crate::watch::{full, key};

/// The first and the longest pause after trouble.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));
/// How often a spec that was refused is tried again, in case that what it lacks has come.
const REFUSED: Duration = Duration::from_secs(120);

/// What happens to a pipeline.
pub enum Change {
    /// The resource was written.
    Written(Box<MemoryPipeline>),
    /// A ConfigMap that the spec names was written or deleted.
    Reference,
    /// A run or a release of it was written or deleted.
    Child(News),
}

/// What all pipelines are made with.
#[derive(Clone)]
pub struct Site {
    /// The API server.
    pub client: Client,
    /// Services of this process.
    pub shared: Shared,
    /// What is known beside each pipeline's own facts.
    pub sight: Sight,
    /// Where repositories are cached.
    pub git_cache: PathBuf,
    /// Of the leader that this process is; 0 without an election.
    pub term: u64,
    /// Who reads sources; without, this process does.
    pub fetchers: Option<Fetchers>,
}

/// Held by a pipeline that starts, so that not all do at once.
pub type Start = Option<Arc<OwnedSemaphorePermit>>;

/// Why a controller has stopped.
enum Ended {
    /// Start it again with the resource as it is now.
    Anew,
    /// It failed.
    Failed(anyhow::Error),
    /// The pipeline needs nobody or was deleted, or the process ends.
    Over,
}

/// A pipeline on its way.
pub struct Supervisor {
    site: Site,
    resource: MemoryPipeline,
    known: Arc<Known>,
    annotations: Annotations,
    events: Events,
    changes: UnboundedReceiver<Change>,
    shutdown: CancellationToken,
    fleet: Option<Box<dyn Fleet>>,
    start: Start,
    /// The trouble that people were told of last.
    told: Option<String>,
}

impl Supervisor {
    /// For `resource`, of which this is known; `changes` tells of it until it closes.
    pub fn new(
        site: Site,
        (resource, known): (MemoryPipeline, Arc<Known>),
        changes: UnboundedReceiver<Change>,
        shutdown: CancellationToken,
        start: Start,
    ) -> Self {
        let events = Events::new(site.client.clone(), &resource);
        Self {
            site,
            resource,
            known,
            annotations: Annotations::default(),
            events,
            changes,
            shutdown,
            fleet: None,
            start,
            told: None,
        }
    }

    fn fleet(&self, start: Start) -> Box<dyn Fleet> {
        match &self.site.sight.yard {
            Some(yard) => {
                let known = self.known.clone();
                Box::new(Replicas::new(yard.clone(), &self.resource, known, start))
            }
            None => Box::new(LocalFleet::new(self.site.shared.clone())),
        }
    }

    /// Runs until the pipeline needs nobody, is deleted, or the process ends.
    pub async fn run(mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let began = Instant::now();
            let wait = match self.turn().await {
                Ok(Ended::Over) => return,
                Ok(Ended::Anew) => continue,
                Ok(Ended::Failed(error)) | Err(error) => {
                    let name = self.resource.name_any();
                    tracing::warn!(pipeline = name, "tried again in {pause:?}: {error:#}");
                    if began.elapsed() > BACKOFF.1 {
                        pause = BACKOFF.0;
                        self.told = None;
                    }
                    let trouble = format!("{error:#}");
                    if self.told.as_ref() != Some(&trouble) {
                        self.events.tell(&Told::Trouble(trouble.clone()));
                        self.told = Some(trouble);
                    }
                    pause
                }
            };
            pause = (pause * 2).min(BACKOFF.1);
            if !self.rest(wait).await {
                return;
            }
        }
    }

    /// One controller, from its start to its end.
    async fn turn(&mut self) -> Result<Ended> {
        let now = self.known.facts().pipeline();
        if let Some(now) = now.filter(|now| now.uid() == self.resource.uid()) {
            self.resource = now;
        }
        self.annotate();
        let start = self.start.take();
        let Site {
            client,
            shared,
            git_cache,
            fetchers,
            ..
        } = self.site.clone();
        let before = self.known.facts().pointer(&self.resource).cloned();
        let before = before.and_then(|pointer| pointer.references);
        let own = fetchers.is_none().then_some(git_cache.as_path());
        let resource = &self.resource;
        let found = dereference(&client, &shared.store, own, resource, before.as_ref()).await?;
        let Dereferenced {
            declared,
            sources,
            references,
        } = match found {
            Ok(found) => found,
            Err(Refused(errors)) => {
                self.refuse(&errors).await?;
                drop(start);
                let goes_on = self.rest(REFUSED).await;
                return Ok(if goes_on { Ended::Anew } else { Ended::Over });
            }
        };
        match fetchers {
            Some(fetchers) => fetchers.declare(&self.resource, &declared.pipeline).await,
            None => shared.sources.set(full_name(&declared.pipeline), sources),
        }
        let cluster = self.cluster(references, start.clone());
        let (kept, runs, releases) = cluster.read().await?;
        let fleet = self.fleet.take();
        let fleet = fleet.unwrap_or_else(|| self.fleet(start));
        let keeper = Arc::new(cluster);
        let controller =
            Controller::new(shared, declared, keeper, kept, (runs, releases), fleet).await?;
        Ok(self.watch(controller).await)
    }

    fn cluster(&self, references: References, start: Start) -> Cluster {
        let held = Held {
            client: self.site.client.clone(),
            known: self.known.clone(),
            sight: self.site.sight.clone(),
            annotations: self.annotations.clone(),
            events: self.events.clone(),
            term: self.site.term,
        };
        Cluster::new(held, self.resource.clone(), references, start)
    }

    /// Says that the spec cannot be accepted.
    async fn refuse(&mut self, errors: &[FieldError]) -> Result<()> {
        // What its record names is kept.
        let name = full(&key(&self.resource));
        self.site.shared.garbage.put(name, Vec::new());
        let status = loci_plan::refused(Timestamp::now(), &self.resource, errors);
        if self.resource.status.as_ref() != Some(&status) {
            let cluster = self.cluster(References::default(), None);
            cluster.write_status(&status).await?;
            self.events.refused(&status);
            self.resource.status = Some(status);
        }
        Ok(())
    }

    /// Hands on what happens while the controller runs.
    async fn watch(&mut self, controller: Controller) -> Ended {
        let (news, stop) = (controller.news(), self.shutdown.child_token());
        let mut running = tokio::spawn(controller.run(stop.clone()));
        let ended = loop {
            tokio::select! {
                ended = &mut running => return self.ended(ended),
                change = self.changes.recv() => match change {
                    None => break Ended::Over,
                    Some(change) => if let Some(ended) = self.hear(change, &news) {
                        break ended;
                    }
                }
            }
        };
        stop.cancel();
        match self.ended(running.await) {
            Ended::Failed(error) => Ended::Failed(error),
            _ => ended,
        }
    }

    fn ended(
        &mut self,
        ended: Result<(Box<dyn Fleet>, Result<()>), tokio::task::JoinError>,
    ) -> Ended {
        match ended {
            Ok((fleet, result)) => {
                self.fleet = Some(fleet);
                match result {
                    Ok(()) => Ended::Over,
                    Err(error) => Ended::Failed(error),
                }
            }
            Err(error) => Ended::Failed(error.into()),
        }
    }

    fn hear(&mut self, change: Change, news: &mpsc::UnboundedSender<News>) -> Option<Ended> {
        match change {
            Change::Written(resource) => {
                let same = resource.metadata.generation == self.resource.metadata.generation;
                let annotated = resource.annotations() != self.resource.annotations();
                self.resource = *resource;
                if !same {
                    return Some(Ended::Anew);
                }
                if annotated {
                    self.annotate();
                    let _ = news.send(News::Asked);
                }
                None
            }
            Change::Reference => Some(Ended::Anew),
            Change::Child(child) => {
                let _ = news.send(child);
                None
            }
        }
    }

    /// Waits for a while, or until the spec or what it names changes. False when it is over.
    async fn rest(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = self.shutdown.cancelled() => return false,
                change = self.changes.recv() => match change {
                    None => return false,
                    Some(Change::Reference) => return true,
                    Some(Change::Written(resource)) => {
                        let before = &self.resource;
                        let same = resource.metadata.generation == before.metadata.generation
                            && resource.annotations() == before.annotations();
                        self.resource = *resource;
                        if !same {
                            return true;
                        }
                    }
                    // Read again at the next turn.
                    Some(Change::Child(_)) => {}
                }
            }
        }
    }

    fn annotate(&self) {
        *self
            .annotations
            .write()
            .unwrap_or_else(PoisonError::into_inner) = self.resource.annotations().clone();
    }
}
