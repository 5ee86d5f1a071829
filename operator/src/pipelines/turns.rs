//! Whose turn it is: who is glanced at, who starts, and what follows when a task ends.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use loci_crds::MemoryPipeline;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::Id;

use super::{Entry, Pipelines};
use crate::pipeline::Supervisor;
use crate::watch::{Key, full};

/// After a task that panicked, which is a fault of this program.
const BROKEN: Duration = Duration::from_secs(60);

impl Pipelines {
    pub(super) fn queue(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.uid.is_some()
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.due.push_back(key.clone());
        }
    }

    /// Starts a pipeline without a glance: its record in the store may know more.
    pub(super) fn summon(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get(key)
            && entry.uid.is_some()
            && entry.task.is_none()
        {
            self.waiting.push_back(key.clone());
        }
    }

    /// Glances at the next pipeline whose turn it is.
    pub(super) fn glance(&mut self) {
        let (Some(key), Some(site)) = (self.due.pop_front(), &self.site) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.queued = false;
            if entry.uid.is_some() && entry.task.is_none() {
                let now = Timestamp::now();
                let glance = site.sight.glance(&entry.known.facts(), now);
                match glance {
                    Ok(settled) => {
                        // What its record in the store names is kept.
                        site.shared.garbage.put(full(&key), Vec::new());
                        let at = settled.wake_at;
                        entry.wake_at = at.map(|at| self.wakes.set(at, key));
                    }
                    Err(why) => {
                        tracing::debug!(pipeline = full(&key), "starts: {why}");
                        entry.queued = true;
                        self.waiting.push_back(key);
                    }
                }
            }
        }
        if self.due.is_empty() && !std::mem::replace(&mut self.told, true) {
            let all = || self.entries.values().filter(|e| e.uid.is_some());
            let pipelines = all().count();
            let settled = all().filter(|e| e.task.is_none() && !e.queued).count();
            tracing::info!(pipelines, settled, "all pipelines were looked at");
        }
    }

    pub(super) fn start(&mut self, key: &Key, start: OwnedSemaphorePermit) {
        let (Some(entry), Some(site)) = (self.entries.get_mut(key), &self.site) else {
            return;
        };
        entry.queued = false;
        let pipeline = entry.known.facts().pipeline();
        let there = |p: &MemoryPipeline| entry.uid.is_some() && p.uid() == entry.uid;
        let Some(pipeline) = pipeline.filter(there).filter(|_| entry.task.is_none()) else {
            return;
        };
        let (changes, inbox) = unbounded_channel();
        let supervisor = Supervisor::new(
            site.clone(),
            (pipeline, entry.known.clone()),
            inbox,
            self.shutdown.child_token(),
            Some(Arc::new(start)),
        );
        let key = key.clone();
        let task = self.tasks.spawn(async move {
            supervisor.run().await;
            key
        });
        entry.wake_at = None;
        entry.task = Some((task.id(), changes));
    }

    /// A task has ended: the pipeline needs nobody, unless something has happened since.
    pub(super) fn ended(&mut self, key: &Key, id: Id) {
        let ours = |e: &&mut Entry| e.task.as_ref().is_some_and(|(task, _)| *task == id);
        if let Some(entry) = self.entries.get_mut(key).filter(ours) {
            entry.task = None;
            if let Some(site) = &self.site {
                site.shared.sources.forget(&full(key));
            }
            match std::mem::take(&mut entry.bereft) {
                true => self.summon(key),
                false => self.queue(key),
            }
        }
        self.forget(key);
    }

    pub(super) fn broken(&mut self, id: Id) {
        let ours = |e: &Entry| e.task.as_ref().is_some_and(|(task, _)| *task == id);
        let found = self.entries.iter_mut().find(|(_, e)| ours(e));
        if let Some((key, entry)) = found {
            tracing::error!(pipeline = full(key), "its task broke; started again");
            entry.task = None;
            let at = Timestamp::now() + BROKEN;
            entry.wake_at = Some(self.wakes.set(at, key.clone()));
        }
    }

    /// Queues those whose time has come.
    pub(super) fn wake(&mut self) {
        while let Some((at, key)) = self.wakes.due() {
            if self
                .entries
                .get(&key)
                .is_some_and(|e| e.wake_at == Some(at))
            {
                self.queue(&key);
            }
        }
    }
}
