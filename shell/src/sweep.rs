//! Looks after the records of pipelines that are gone, and after what trainings have written down of themselves.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use loci_crds::pipeline::DeletionPolicy;
use loci_plan::{Fate, PipelineRecord, Presence, sweep};
use loci_store::Version;
use loci_worker::step::Training;
use tokio::time::Instant;

use crate::controller::Shared;
use crate::trainings;

/// The least and the longest pause between two rounds.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(300));
/// The longest pause after something failed.
const RETRY: Duration = Duration::from_secs(10);

/// Which pipelines there are.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// The namespaces that were counted; all, when absent.
    pub namespaces: Option<HashSet<String>>,
    /// Whether all namespaces that are looked after were counted.
    pub complete: bool,
    /// The uid of each pipeline, by `namespace/name`.
    pub pipelines: HashMap<String, String>,
}

/// Sweeps what is left of pipelines that have been gone for a while, and of trainings that no run wants.
pub struct Sweeper {
    shared: Shared,
    grace: Duration,
    /// Records that say that their pipeline is gone. None before the first round, which reads all.
    missing: Option<HashSet<String>>,
    /// When garbage is to be collected.
    collections: Vec<Instant>,
    troubled: bool,
}

impl Census {
    fn presence(&self, pipeline: &str) -> Presence {
        if let Some(uid) = self.pipelines.get(pipeline) {
            return Presence::Present(uid.clone());
        }
        let namespace = pipeline.split('/').next().unwrap_or_default();
        let counted = self.namespaces.as_ref();
        match counted.is_none_or(|counted| counted.contains(namespace)) {
            true if counted.is_some() || self.complete => Presence::Absent,
            _ => Presence::Unknown,
        }
    }
}

impl Sweeper {
    /// For pipelines that have been gone for `grace`.
    pub fn new(shared: Shared, grace: Duration) -> Self {
        Self {
            shared,
            grace,
            missing: None,
            collections: Vec::new(),
            troubled: false,
        }
    }

    /// How long to wait until the next round.
    pub fn pause(&self) -> Duration {
        let longest = if self.troubled { RETRY } else { PAUSES.1 };
        (self.grace / 4).clamp(PAUSES.0, longest)
    }

    /// Looks at the documents once. Answers with the pipelines that nothing is left of. What fails is told in the log and
    /// done in the next round.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn round(&mut self, census: &Census) -> Result<Vec<String>> {
        let (mut missing, mut removed) = (HashSet::new(), Vec::new());
        self.troubled = !census.complete;
        let documents = self.shared.store.documents().await?.into_iter();
        // The logs of documents go with their pipelines.
        let documents = documents.filter(|name| !loci_push::is_name(name));
        let (of_trainings, records): (Vec<_>, Vec<_>) =
            documents.partition(|name| Training::is_name(name));
        for name in records {
            let presence = census.presence(&name);
            // The record of a pipeline that is there is its controller's.
            let there = matches!(presence, Presence::Present(_));
            let told = self.missing.as_ref().is_none_or(|m| m.contains(&name));
            if presence == Presence::Unknown || there && !told {
                missing.extend(told.then_some(name));
                continue;
            }
            match self.look(&name, &presence).await {
                Ok(Left::Nothing) => removed.push(name),
                Ok(Left::Missing) => _ = missing.insert(name),
                Ok(Left::Kept) => {}
                Err(error) => {
                    tracing::warn!(
                        pipeline = name,
                        "its record is looked at again later: {error:#}"
                    );
                    missing.insert(name);
                    self.troubled = true;
                }
            }
        }
        self.missing = Some(missing);
        self.troubled |= !trainings::sweep(&self.shared.store, &of_trainings).await;
        if !removed.is_empty() {
            // Once more when what was in use until now is old enough.
            let now = Instant::now();
            let later = now + self.shared.store.grace() + PAUSES.1;
            self.collections.extend([now, later]);
        }
        self.collect(census).await;
        Ok(removed)
    }

    async fn look(&self, name: &str, presence: &Presence) -> Result<Left> {
        let found = self.shared.store.document::<PipelineRecord>(name).await?;
        let Some((record, version)) = found else {
            return Ok(Left::Kept);
        };
        let now = Timestamp::now();
        Ok(match sweep(now, &record, presence, self.grace) {
            Fate::Leave if record.missing_since.is_none() => Left::Kept,
            Fate::Leave | Fate::Wait(_) => Left::Missing,
            Fate::Return => {
                let missing_since = None;
                let back = PipelineRecord {
                    missing_since,
                    ..record
                };
                self.write(name, &back, &version).await?;
                Left::Kept
            }
            Fate::Notice => {
                tracing::info!(pipeline = name, policy = ?record.deletion_policy, "is gone");
                self.shared.dispatch.forget(name).await?;
                let missing_since = Some(now);
                let gone = PipelineRecord {
                    missing_since,
                    ..record
                };
                self.write(name, &gone, &version).await?;
                Left::Missing
            }
            Fate::Purge => {
                if self.shared.dispatch.forget(name).await? {
                    let purged = true;
                    let purged = PipelineRecord { purged, ..record };
                    self.write(name, &purged, &version).await?;
                }
                Left::Missing
            }
            Fate::Remove => {
                let forgotten = self.shared.dispatch.forget(name).await?;
                // Documents that were pushed are nowhere else: they go when that was said.
                if forgotten && record.deletion_policy == DeletionPolicy::Delete {
                    loci_push::forget(&self.shared.store, name).await?;
                }
                if forgotten && self.shared.store.delete_document(name, &version).await? {
                    tracing::info!(pipeline = name, "nothing is kept of it any more");
                    Left::Nothing
                } else {
                    Left::Missing
                }
            }
        })
    }

    /// Who has written the record meanwhile is right.
    async fn write(&self, name: &str, record: &PipelineRecord, version: &Version) -> Result<()> {
        let (store, roots) = (&self.shared.store, record.roots());
        let put = store.put_document(name, &roots, record, Some(version));
        put.await?;
        Ok(())
    }

    /// Sweeps, if that is due and every pipeline has said what it needs.
    async fn collect(&mut self, census: &Census) {
        let now = Instant::now();
        let due = self.collections.iter().any(|time| *time <= now);
        let garbage = &self.shared.garbage;
        if !due || !census.complete || !census.pipelines.keys().all(|p| garbage.said(p)) {
            return;
        }
        match self.shared.collect().await {
            Ok(()) => self.collections.retain(|time| *time > now),
            Err(error) => {
                self.troubled = true;
                tracing::warn!("garbage was not collected: {error:#}");
            }
        }
    }
}

/// What is left of a pipeline.
enum Left {
    Kept,
    Missing,
    Nothing,
}
