//! All pipelines: what is known of each, and a task for those that something is to be done for.

mod turns;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::ResourceExt;
use loci_shell::News;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::dereference::references;
use crate::facts::{Kind, Known};
use crate::maps::{Maps, Referrers};
use crate::pipeline::{Change, Site};
use crate::wakes::Wakes;
use crate::watch::{Key, Seen, What, full};

/// Pipelines that may start at the same time.
const STARTS: usize = 64;
/// Pipelines glanced at before anything else is heard.
const GLANCES: usize = 16;

/// What is known of a pipeline, and who looks after it.
#[derive(Default)]
struct Entry {
    known: Arc<Known>,
    uid: Option<String>,
    references: BTreeSet<String>,
    task: Option<(Id, UnboundedSender<Change>)>,
    /// It is to be glanced at.
    queued: bool,
    /// A release was deleted that its task may not have heard of.
    bereft: bool,
    wake_at: Option<Timestamp>,
}

/// All pipelines.
pub struct Pipelines {
    maps: Maps,
    /// What pipelines are run with; none before this process leads.
    site: Option<Site>,
    shutdown: CancellationToken,
    entries: HashMap<Key, Entry>,
    referrers: Referrers,
    tasks: JoinSet<Key>,
    /// Pipelines to be glanced at, and those that wait to start.
    due: VecDeque<Key>,
    waiting: VecDeque<Key>,
    starts: Arc<Semaphore>,
    wakes: Wakes,
    /// Listings that have not come: pipelines start when all is known, so that garbage collection knows of all.
    listings: usize,
    told: bool,
}

impl Pipelines {
    /// Starts when that many listings have come and this process leads.
    pub fn new(maps: Maps, listings: usize, shutdown: CancellationToken) -> Self {
        Self {
            maps,
            site: None,
            shutdown,
            entries: HashMap::new(),
            referrers: Referrers::default(),
            tasks: JoinSet::new(),
            due: VecDeque::new(),
            waiting: VecDeque::new(),
            starts: Arc::new(Semaphore::new(STARTS)),
            wakes: Wakes::default(),
            listings,
            told: false,
        }
    }

    /// Whether pipelines may start.
    pub fn leads(&self) -> bool {
        self.site.is_some()
    }

    /// From now on pipelines may start.
    pub fn lead(&mut self, site: Site) {
        self.site = Some(site);
        self.begin();
    }

    /// Does what is next. False when nothing more is seen.
    pub async fn step(&mut self, seen: &mut (impl Stream<Item = Seen> + Unpin)) -> bool {
        self.wake();
        let (starts, pause) = (self.starts.clone(), self.wakes.pause());
        tokio::select! {
            next = seen.next() => match next {
                Some(seen) => self.hear(seen),
                None => return false,
            },
            Some(ended) = self.tasks.join_next_with_id() => match ended {
                Ok((id, key)) => self.ended(&key, id),
                Err(error) => self.broken(error.id()),
            },
            Ok(start) = starts.acquire_owned(), if !self.waiting.is_empty() => {
                if let Some(key) = self.waiting.pop_front() {
                    self.start(&key, start);
                }
            }
            () = std::future::ready(()), if !self.due.is_empty() => {
                for _ in 0..GLANCES {
                    self.glance();
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        true
    }

    /// Ends all tasks, each when it has done what it is at.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        self.entries.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    fn begun(&self) -> bool {
        self.listings == 0 && self.leads()
    }

    fn hear(&mut self, seen: Seen) {
        let (kind, listing) = (seen.kind, seen.listing);
        match seen.what {
            What::There(key, fact) if kind == Kind::Map => {
                if self.maps.put(listing, key.clone(), fact.version) {
                    self.referred(&key);
                }
            }
            What::Gone(key, _) if kind == Kind::Map => {
                self.maps.remove(&key);
                self.referred(&key);
            }
            What::There(key, fact) => {
                let name = fact.name.clone();
                let known = &self.entries.entry(key.clone()).or_default().known;
                let news = known.facts().put(listing, fact);
                if news {
                    self.changed(&key, kind, &name);
                }
            }
            What::Gone(key, name) => {
                let known = self.entries.get(&key).map(|e| e.known.clone());
                if known.is_some_and(|known| known.facts().remove(kind, &name)) {
                    self.vanished(&key, kind, &name);
                }
            }
            What::All(namespace, first) => {
                self.listed(kind, listing, namespace.as_deref());
                self.listings -= usize::from(first);
                if first {
                    self.begin();
                }
            }
        }
    }

    /// A listing is whole: what it lacks is gone.
    fn listed(&mut self, kind: Kind, listing: u32, namespace: Option<&str>) {
        if kind == Kind::Map {
            for key in self.maps.sweep(namespace, listing) {
                self.referred(&key);
            }
        } else {
            let within = |key: &&Key| namespace.is_none_or(|n| n == key.0);
            let keys: Vec<Key> = self.entries.keys().filter(within).cloned().collect();
            for key in keys {
                let known = self.entries.get(&key).map(|e| e.known.clone());
                let gone = known.map(|known| known.facts().sweep(kind, listing));
                for name in gone.unwrap_or_default() {
                    self.vanished(&key, kind, &name);
                }
            }
        }
    }

    /// Starts what has to, once all is known and this process leads.
    fn begin(&mut self) {
        if !self.begun() {
            return;
        }
        let keys: Vec<Key> = self.entries.keys().cloned().collect();
        if let Some(fetchers) = self.site.as_ref().and_then(|s| s.fetchers.as_ref()) {
            let all = self.entries.values();
            let resources = all.filter_map(|e| e.known.facts().pipeline());
            fetchers.found(resources.filter(|r| r.metadata.deletion_timestamp.is_none()));
        }
        for key in keys {
            self.changed(&key, Kind::Pipeline, "");
        }
    }

    /// Something is so now that was not.
    fn changed(&mut self, key: &Key, kind: Kind, name: &str) {
        if kind == Kind::Pipeline {
            return self.declared(key);
        }
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let facts = entry.known.facts();
        let run = |run| News::Run(Box::new(run));
        let release = |release| News::Release(Box::new(release));
        let news = match kind {
            Kind::Run => facts.object(kind, name).map(run),
            Kind::Release => facts.object(kind, name).map(release),
            Kind::Pointer => Some(News::Pointer),
            _ => None,
        };
        drop(facts);
        self.hand(key, news);
    }

    /// Something is not there any more.
    fn vanished(&mut self, key: &Key, kind: Kind, name: &str) {
        match kind {
            Kind::Pipeline => self.gone(key),
            Kind::Run => self.hand(key, Some(News::RunGone(name.to_owned()))),
            Kind::Release => {
                self.hand(key, Some(News::ReleaseGone(name.to_owned())));
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.bereft = entry.task.is_some();
                }
                self.summon(key);
            }
            Kind::Pointer => self.hand(key, Some(News::Pointer)),
            _ => self.hand(key, None),
        }
        self.forget(key);
    }

    /// Hands news to a pipeline's task, or glances at it. What is no news to its loop is of what serves it.
    fn hand(&mut self, key: &Key, news: Option<News>) {
        let Some(entry) = self.entries.get(key).filter(|_| self.begun()) else {
            return;
        };
        match (&entry.task, news) {
            (None, _) => self.queue(key),
            (Some((_, changes)), Some(news)) => {
                // Its other part is of what serves.
                if matches!(news, News::Pointer) {
                    entry.known.serving.notify_one();
                }
                let _ = changes.send(Change::Child(news));
            }
            (Some(_), None) => entry.known.serving.notify_one(),
        }
    }

    /// Nothing is kept of what nothing is left of.
    fn forget(&mut self, key: &Key) {
        let nothing = |e: &Entry| e.task.is_none() && e.known.facts().is_empty();
        if self.entries.get(key).is_some_and(nothing) {
            self.entries.remove(key);
        }
    }

    /// The pipeline was written.
    fn declared(&mut self, key: &Key) {
        let Some(entry) = self.entries.get(key).filter(|_| self.begun()) else {
            return;
        };
        let Some(pipeline) = entry.known.facts().pipeline() else {
            return;
        };
        if pipeline.metadata.deletion_timestamp.is_some() {
            return self.gone(key);
        }
        // Deleted and made anew while nobody watched: another pipeline.
        if entry.uid.is_some() && entry.uid != pipeline.uid() {
            self.gone(key);
        }
        self.refer(key, references(&pipeline));
        let (Some(entry), Some(site)) = (self.entries.get_mut(key), &self.site) else {
            return;
        };
        site.shared.garbage.expect(full(key));
        entry.uid = pipeline.uid();
        match &entry.task {
            Some((_, changes)) => _ = changes.send(Change::Written(Box::new(pipeline))),
            None => self.queue(key),
        }
    }

    /// Its task ends by the closed channel.
    fn gone(&mut self, key: &Key) {
        self.refer(key, BTreeSet::new());
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.task = None;
        entry.wake_at = None;
        if let (Some(_), Some(site)) = (entry.uid.take(), &self.site) {
            let (name, key) = (full(key), key.clone());
            site.shared.recall.withdraw(&name);
            site.shared.sources.forget(&name);
            site.shared.garbage.forget(&name);
            if let Some(fetchers) = &site.fetchers {
                fetchers.forget(&key);
            }
            let abandoned = site.shared.dispatch.abandon(&name);
            self.tasks.spawn(async move {
                if let Err(error) = abandoned.await {
                    tracing::warn!(pipeline = name, "its work is not stopped yet: {error:#}");
                }
                key
            });
        }
    }

    /// These ConfigMaps are what its spec names.
    fn refer(&mut self, key: &Key, references: BTreeSet<String>) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.referrers.refer(key, &entry.references, &references);
            entry.references = references;
        }
    }

    /// A ConfigMap was written or deleted.
    fn referred(&mut self, map: &Key) {
        if !self.begun() {
            return;
        }
        for key in self.referrers.of(map) {
            match self.entries.get(&key).and_then(|e| e.task.as_ref()) {
                Some((_, changes)) => _ = changes.send(Change::Reference),
                None => self.queue(&key),
            }
        }
    }
}
