//! Fetchers: in each namespace one Deployment that reads its pipelines' sources, with the Secrets that these name mounted.
//!
//! The operator makes them and opens no Secret itself. A fetcher belongs to the pipelines of its namespace: with the last
//! of them it is collected.

mod arrange;
mod objects;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, Resource};
use loci_crds::MemoryPipeline;
use loci_plan::Pipeline;
use loci_plan::spec::Location;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::facts::Known;
use crate::watch::{Key, Seen, Watch, What, key, watch_fetchers};
pub use objects::{COMPONENT as FETCHER, FetcherTemplate};
pub use process::{FetcherOptions, fetch};

use arrange::arrange;

/// Changes are gathered for so long: many pipelines come at once.
const GATHER: Duration = Duration::from_millis(200);
/// The pause after an API server that refuses, and before what somebody changed is repaired.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a pipeline waits for its fetcher to be arranged.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a pipeline needs of its namespace's fetcher.
#[derive(Clone, Debug, PartialEq)]
pub struct Needs {
    owner: Option<OwnerReference>,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
}

impl Needs {
    fn of(resource: &MemoryPipeline, pipeline: &Pipeline) -> Self {
        let (mut secrets, mut config_maps) = (BTreeSet::new(), BTreeSet::new());
        for source in &pipeline.sources {
            secrets.extend(source.location.secret().map(str::to_owned));
            if let Location::ConfigMap { name, .. } = &source.location {
                config_maps.insert(name.clone());
            }
        }
        Self {
            owner: resource.owner_ref(&()),
            secrets,
            config_maps,
        }
    }
}

enum Command {
    Found(Vec<(Key, Needs)>),
    Declare(Key, Needs, oneshot::Sender<()>),
    Forget(Key),
}

/// The fetchers of all namespaces. Cheap to clone; the task that looks after them ends with the last clone.
#[derive(Clone)]
pub struct Fetchers(UnboundedSender<Command>);

impl Fetchers {
    /// Begins to look after them.
    pub fn begin(client: Client, template: FetcherTemplate, namespaces: &[String]) -> Self {
        let (commands, inbox) = unbounded_channel();
        let task = Task {
            watching: watch_fetchers(&client, namespaces),
            client,
            template: Arc::new(template),
            known: BTreeMap::new(),
            needs: BTreeMap::new(),
            due: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        tokio::spawn(task.run(inbox));
        Self(commands)
    }

    /// These pipelines are there already. All at once, so that no fetcher loses what those need that come later.
    pub fn found(&self, pipelines: impl Iterator<Item = MemoryPipeline>) {
        let needs = |resource: MemoryPipeline| {
            let pipeline = Pipeline::from_resource(&resource).ok()?;
            Some((key(&resource), Needs::of(&resource, &pipeline)))
        };
        let all = pipelines.filter_map(needs).collect();
        let _ = self.0.send(Command::Found(all));
    }

    /// A pipeline is so now. Comes back when its namespace's fetcher is arranged for it, or at last when an API server that
    /// refuses that has been waited for: what serves must not wait.
    pub async fn declare(&self, resource: &MemoryPipeline, pipeline: &Pipeline) {
        let needs = Needs::of(resource, pipeline);
        let (done, arranged) = oneshot::channel();
        // The task ends with this value.
        let _ = self.0.send(Command::Declare(key(resource), needs, done));
        let _ = tokio::time::timeout(PATIENCE, arranged).await;
    }

    /// A pipeline is gone.
    pub fn forget(&self, key: &Key) {
        let _ = self.0.send(Command::Forget(key.clone()));
    }
}

/// What the pipelines of a namespace need.
type OfNamespace = BTreeMap<String, Needs>;

struct Task {
    client: Client,
    template: Arc<FetcherTemplate>,
    watching: Watch,
    /// What there is of each namespace's fetcher.
    known: BTreeMap<String, Known>,
    needs: BTreeMap<String, OfNamespace>,
    /// Namespaces whose fetcher is to be brought to what is needed, and when.
    due: BTreeMap<String, Instant>,
    /// Who is told when that is done.
    waiting: BTreeMap<String, Vec<oneshot::Sender<()>>>,
}

impl Task {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            let next = self.due.values().min().copied();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.hear(command),
                    None => return,
                },
                Some(seen) = self.watching.seen.next() => self.see(seen),
                () = wait(next), if self.watching.listings == 0 => self.write().await,
            }
        }
    }

    /// What somebody changed or deleted is repaired.
    fn see(&mut self, seen: Seen) {
        let (kind, listing) = (seen.kind, seen.listing);
        let mut changed = Vec::new();
        match seen.what {
            What::There((namespace, _), fact) => {
                let known = self.known.entry(namespace.clone()).or_default();
                if known.facts().put(listing, fact) {
                    changed.push(namespace);
                }
            }
            What::Gone((namespace, _), name) => {
                let known = self.known.get(&namespace);
                if known.is_some_and(|known| known.facts().remove(kind, &name)) {
                    changed.push(namespace);
                }
            }
            What::All(namespace, first) => {
                self.watching.listings -= usize::from(first);
                let within = |of: &String| namespace.as_ref().is_none_or(|n| n == of);
                let known = self.known.iter().filter(|(of, _)| within(of));
                let lacking = known.filter(|(_, k)| !k.facts().sweep(kind, listing).is_empty());
                changed.extend(lacking.map(|(namespace, _)| namespace.clone()));
            }
        }
        for namespace in changed {
            if self
                .known
                .get(&namespace)
                .is_some_and(|known| known.facts().is_empty())
            {
                self.known.remove(&namespace);
            }
            if self.needs.contains_key(&namespace) {
                self.due.entry(namespace).or_insert(Instant::now() + PAUSE);
            }
        }
    }

    fn hear(&mut self, command: Command) {
        let (namespace, changed) = match command {
            Command::Found(all) => {
                let soon = Instant::now() + GATHER;
                for ((namespace, name), needs) in all {
                    self.due.entry(namespace.clone()).or_insert(soon);
                    self.needs.entry(namespace).or_default().insert(name, needs);
                }
                return;
            }
            Command::Declare((namespace, name), needs, done) => {
                let of = self.needs.entry(namespace.clone()).or_default();
                let changed = of.get(&name) != Some(&needs);
                of.insert(name, needs);
                if changed || self.due.contains_key(&namespace) {
                    let waiting = self.waiting.entry(namespace.clone()).or_default();
                    waiting.push(done);
                } else {
                    // Nobody listens any more, or hears that there is nothing to wait for.
                    let _ = done.send(());
                }
                (namespace, changed)
            }
            Command::Forget((namespace, name)) => {
                let of = self.needs.entry(namespace.clone()).or_default();
                let changed = of.remove(&name).is_some();
                (namespace, changed)
            }
        };
        if changed {
            let soon = Instant::now() + GATHER;
            self.due.entry(namespace).or_insert(soon);
        }
    }

    async fn write(&mut self) {
        let now = Instant::now();
        let due: Vec<String> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(namespace, _)| namespace.clone())
            .collect();
        for namespace in due {
            self.due.remove(&namespace);
            let Some(needs) = self.needs.get(&namespace).filter(|needs| !needs.is_empty()) else {
                // Its owners are gone, and so it goes.
                self.needs.remove(&namespace);
                continue;
            };
            let known = self.known.entry(namespace.clone()).or_default();
            let arranged = arrange(&self.client, &namespace, needs, &self.template, known).await;
            if let Err(error) = arranged {
                tracing::warn!(namespace, "the fetcher cannot be arranged: {error:#}");
                self.due.insert(namespace.clone(), Instant::now() + PAUSE);
            }
            // What cannot be arranged keeps nobody waiting either: what serves goes on.
            for done in self.waiting.remove(&namespace).unwrap_or_default() {
                let _ = done.send(());
            }
        }
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
