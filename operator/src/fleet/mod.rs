//! Serving by replicas in pods of their own.
//!
//! The operator writes into the ConfigMap `<pipeline>-serving` which releases to load and which to answer with, and asks
//! each replica what it has come to. Replicas need neither the operator nor NATS to go on serving.

mod network;
mod objects;
mod task;
mod wanted;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use loci_crds::MemoryPipeline;
use loci_shell::{Declared, Fleet, Load, News};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::artifacts::Artifacts;
use crate::lock;
pub use network::Network;
pub use objects::{COMPONENT, PORT, STATUS_PORT, Template, objects};
pub use wanted::{DESIRED, RELEASES, Releases, Report, Wanted, config_map};

/// What the fleets of all pipelines are made with.
#[derive(Clone)]
pub struct Yard {
    /// The API server.
    pub client: Client,
    /// All pods that are replicas.
    pub pods: Arc<[Store<Pod>]>,
    /// How replicas are made.
    pub template: Arc<Template>,
    /// Where they get revisions from.
    pub artifacts: Artifacts,
    /// Asks replicas.
    pub http: reqwest::Client,
    /// Of the leader that this process is; 0 without an election.
    pub term: u64,
}

impl Yard {
    /// The same, for the leader of this term.
    pub fn of_term(&self, term: u64) -> Self {
        Self {
            term,
            ..self.clone()
        }
    }
}

/// The replicas of one pipeline. They outlive this.
pub struct Replicas {
    commands: UnboundedSender<Command>,
    observed: Arc<Mutex<Observed>>,
    /// The release that was last told to answer everywhere.
    told: Option<String>,
}

/// What the replicas have come to.
struct Observed {
    current: Option<String>,
    prepared: BTreeSet<String>,
}

enum Command {
    Declare(Box<MemoryPipeline>, UnboundedSender<News>),
    Prepare(Load),
    Switch(String),
    Remove(String),
}

impl Replicas {
    /// For `pipeline`.
    pub fn new(yard: Yard, pipeline: &MemoryPipeline) -> Self {
        let (commands, inbox) = unbounded_channel();
        // Replicas outlive the operator: what served goes on until they say otherwise.
        let served = pipeline.status.as_ref();
        let current = served.and_then(|s| s.serving_release.clone());
        let observed = Arc::new(Mutex::new(Observed {
            current: current.clone(),
            prepared: BTreeSet::new(),
        }));
        let task = task::Task::new(yard, pipeline.clone(), observed.clone());
        let name = pipeline.name_any();
        tokio::spawn(async move {
            task.run(inbox).await;
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
