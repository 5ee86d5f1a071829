//! Serving by replicas in pods of their own.
//!
//! The operator writes into the ConfigMap `<pipeline>-serving` which releases to load and which to answer with, and asks
//! each replica what it has come to. Replicas need neither the operator nor NATS to go on serving.

mod applied;
mod arrange;
mod network;
mod objects;
mod task;
mod wanted;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kube::{Client, ResourceExt};
use loci_crds::MemoryPipeline;
use loci_shell::{Declared, Fleet, Load, News};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::artifacts::Artifacts;
use crate::facts::{Facts, Known};
use crate::lock;
use crate::pointed::Pointer;
pub use applied::{Applied, fields, hash};
pub use network::Network;
pub use objects::{
    AGENT, COMPONENT, PORT, SERVING, STATUS_PORT, Template, objects, place, place_of, serving_name,
};
pub use wanted::{
    APPLIED, DESIRED, RELEASES, Releases, Report, Wanted, WantedAdapter, WantedService, config_map,
};

/// How long a leader leaves replicas alone that are there: an upgrade restarts much at once, and what answers comes last.
const CALM: Duration = Duration::from_secs(10);
/// Pipelines whose objects are written at the same time.
const WRITES: usize = 16;

/// What the fleets of all pipelines are made with.
#[derive(Clone)]
pub struct Yard {
    /// The API server.
    pub client: Client,
    /// How replicas are made.
    pub template: Arc<Template>,
    /// Where they get revisions from.
    pub artifacts: Artifacts,
    /// Asks replicas.
    pub http: reqwest::Client,
    /// Of the leader that this process is; 0 without an election.
    pub term: u64,
    /// Until then, replicas that are there are left as they are.
    calm: Instant,
    /// Who may write objects.
    writes: Arc<Semaphore>,
}

impl Yard {
    /// With nothing made yet.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(client: Client, template: Template, artifacts: Artifacts) -> anyhow::Result<Self> {
        Ok(Self {
            client,
            template: Arc::new(template),
            artifacts,
            http: reqwest::Client::builder().build()?,
            term: 0,
            calm: Instant::now(),
            writes: Arc::new(Semaphore::new(WRITES)),
        })
    }

    /// The same, for the leader of this term.
    pub fn of_term(&self, term: u64) -> Self {
        Self {
            term,
            calm: Instant::now() + CALM,
            ..self.clone()
        }
    }

    /// Whether what serves is as it was applied, and would be applied so again; and replicas are told to load what is
    /// to answer, and nothing else: somebody has to ask them how far they are.
    pub fn arranged(&self, pipeline: &MemoryPipeline, facts: &Facts, pointer: &Pointer) -> bool {
        let releases = pointer.releases.as_deref().map(serde_json::from_str);
        let Some(Ok(releases)): Option<Result<Releases, _>> =
            releases.or(Some(Ok(Releases::new())))
        else {
            return false;
        };
        let service = WantedService::of(pipeline);
        let there = |w: &Wanted| {
            let there = w.clone().relocated(&self.artifacts);
            there.served_by(service.as_ref()) == *w
        };
        let applied = pointer.applied.as_deref().and_then(Applied::parse);
        releases.keys().eq(pointer.desired.iter())
            && releases.values().all(there)
            && as_applied(&objects(pipeline, &self.template), applied.as_ref(), facts)
    }
}

/// Whether all objects would be applied as they were, and nobody has changed them since.
fn as_applied(objects: &[Value], applied: Option<&Applied>, facts: &Facts) -> bool {
    let untouched = |applied: &Applied, object: &Value| {
        let place = place_of(object);
        let ours = applied.fields.get(usize::from(place));
        ours.is_some() && facts.fields(place).as_ref() == ours
    };
    applied.is_some_and(|applied| {
        applied.objects == hash(objects) && objects.iter().all(|o| untouched(applied, o))
    })
}

/// The replicas of one pipeline. They outlive this.
pub struct Replicas {
    commands: UnboundedSender<Command>,
    observed: Arc<Mutex<Observed>>,
    /// The release that was last told to answer everywhere.
    told: Option<String>,
}

/// What the replicas have come to.
#[derive(Default)]
struct Observed {
    current: Option<String>,
    prepared: BTreeSet<String>,
    /// Commands that are not carried out yet.
    commands: usize,
    /// Whether something is to change.
    busy: bool,
}

enum Command {
    Declare(Box<MemoryPipeline>, UnboundedSender<News>),
    Prepare(Load),
    Switch(String),
    Remove(String),
}

impl Replicas {
    /// For `pipeline`. `start` is held until what serves is arranged for the first time.
    pub fn new(
        yard: Yard,
        pipeline: &MemoryPipeline,
        known: Arc<Known>,
        start: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Self {
        let (commands, inbox) = unbounded_channel();
        // Replicas outlive the operator: what served goes on until they say otherwise.
        let served = pipeline.status.as_ref();
        let current = served.and_then(|s| s.serving_release.clone());
        let observed = Arc::new(Mutex::new(Observed {
            current: current.clone(),
            ..Observed::default()
        }));
        let task = task::Task::new(yard, pipeline.clone(), known, observed.clone());
        let name = pipeline.name_any();
        tokio::spawn(async move {
            task.run(inbox, start).await;
            tracing::debug!(pipeline = name, "nobody commands the replicas any more");
        });
        Self {
            commands,
            observed,
            told: current,
        }
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        lock(&self.observed)
    }

    fn command(&self, command: Command) {
        self.observed().commands += 1;
        // The task ends with this value.
        let _ = self.commands.send(command);
    }
}

impl Fleet for Replicas {
    fn declare(&mut self, declared: &Declared, news: UnboundedSender<News>) {
        self.command(Command::Declare(Box::new(declared.resource.clone()), news));
    }

    fn current(&self) -> Option<String> {
        self.observed().current.clone()
    }

    fn prepared(&self) -> BTreeSet<String> {
        self.observed().prepared.clone()
    }

    fn quiet(&self) -> bool {
        let observed = self.observed();
        observed.commands == 0 && !observed.busy
    }

    fn prepare(&mut self, load: Load) {
        self.command(Command::Prepare(load));
    }

    fn remove(&mut self, release: &str) {
        self.observed().prepared.remove(release);
        self.command(Command::Remove(release.to_owned()));
    }

    fn switch(&mut self, release: &str) -> bool {
        self.command(Command::Switch(release.to_owned()));
        let everywhere = self.current().as_deref() == Some(release);
        everywhere && self.told.replace(release.to_owned()).as_deref() != Some(release)
    }
}
