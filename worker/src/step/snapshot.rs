//! Snapshot: lists the sources and fetches what changed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use loci_bus::Unit;
use loci_digest::Digest;
use loci_store::Store;
use serde::{Deserialize, Serialize};

use super::{Reporter, StepContext, StepError, StepInput};
use crate::source::{self, ContentSink, Entry, Listing, SinkError, SnapshotProgress};

/// The kind of a snapshot's manifest.
pub const SNAPSHOT: &str = "snapshot";

/// All sources at one time: a manifest in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// By name.
    pub sources: BTreeMap<String, SourceSnapshot>,
}

/// One source at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    /// Its memory class.
    pub memory: String,
    /// What it holds; its last good content when reading it failed, if there was any.
    pub listing: Option<Listing>,
    /// Why reading it failed, when it did.
    pub error: Option<String>,
}

impl SourceSnapshot {
    /// Its entries.
    pub fn entries(&self) -> &[Entry] {
        self.listing.as_ref().map_or(&[], |l| &l.documents)
    }
}

/// What Snapshot found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotOutput {
    /// The snapshot's manifest.
    pub snapshot: Digest,
    /// The sources by name.
    pub sources: BTreeMap<String, SourceCount>,
}

/// One source in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Entries now.
    pub documents: u64,
    /// Entries of the snapshot before.
    pub before: u64,
    /// Of those, how many are gone. A renamed entry whose content is still there does not count.
    pub removed: u64,
    /// What was left out.
    pub skipped: u64,
    /// The first of them with its reason, for people.
    pub first_skipped: Option<String>,
    /// Why reading it failed, when it did.
    pub error: Option<String>,
}

pub(super) async fn run(
    context: &StepContext,
    pipeline: &str,
    input: &StepInput,
    previous: Option<&Digest>,
    reporter: &Reporter,
) -> Result<SnapshotOutput, StepError> {
    let before: Snapshot = match previous {
        Some(digest) => context.store.get_manifest(SNAPSHOT, digest).await?,
        None => Snapshot::default(),
    };
    let key = input.key(pipeline, None)?;
    let snapshot = match context.store.lookup(&key).await? {
        Some(done) => done,
        None => {
            let taken = take(context, pipeline, &before, reporter).await?;
            let refs: Vec<Digest> = taken
                .sources
                .values()
                .flat_map(|s| s.entries().iter().map(|e| e.digest))
                .collect();
            let digest = context.store.put_manifest(SNAPSHOT, &refs, &taken).await?;
            context.store.record(&key, &digest).await?
        }
    };
    let taken: Snapshot = context.store.get_manifest(SNAPSHOT, &snapshot).await?;
    let sources = taken
        .sources
        .iter()
        .map(|(name, now)| (name.clone(), count(now, before.sources.get(name))))
        .collect();
    Ok(SnapshotOutput { snapshot, sources })
}

async fn take(
    context: &StepContext,
    pipeline: &str,
    before: &Snapshot,
    reporter: &Reporter,
) -> Result<Snapshot, StepError> {
    let sink = StoreSink(context.store.clone());
    let mut sources = BTreeMap::new();
    let mut failures = Vec::new();
    for (spec, memory) in context.sources.sources(pipeline).await? {
        let last = before
            .sources
            .get(&spec.name)
            .and_then(|s| s.listing.as_ref());
        let name = spec.name.clone();
        let progress = |p: SnapshotProgress| {
            let message = format!("{name}: {} fetched", p.fetched);
            reporter.report(p.listed as u64, None, Unit::Documents, Some(message));
        };
        let read = source::snapshot(&spec, last, &sink, &progress);
        let (listing, error) = match reporter.unless_stopped(read).await? {
            Ok(listing) => (Some(listing), None),
            // Not the source's fault: what can be read must not count as unreadable.
            Err(error) if error.is_of_sink() => return Err(StepError::Sink(error)),
            Err(error) => {
                failures.push(error.to_string());
                (last.cloned(), Some(error.to_string()))
            }
        };
        sources.insert(
            spec.name.clone(),
            SourceSnapshot {
                memory,
                listing,
                error,
            },
        );
    }
    let nothing = sources
        .values()
        .all(|s: &SourceSnapshot| s.listing.is_none());
    if nothing {
        return Err(StepError::Sources(failures.join("; ")));
    }
    Ok(Snapshot { sources })
}

fn count(now: &SourceSnapshot, before: Option<&SourceSnapshot>) -> SourceCount {
    let entries = now.entries();
    let names: std::collections::HashSet<&str> =
        entries.iter().map(|e| e.document.as_str()).collect();
    let contents: std::collections::HashSet<&Digest> = entries.iter().map(|e| &e.digest).collect();
    let old = before.map(SourceSnapshot::entries).unwrap_or_default();
    let gone = old
        .iter()
        .filter(|e| !names.contains(e.document.as_str()) && !contents.contains(&e.digest));
    let skipped = now.listing.as_ref().map_or(&[][..], |l| &l.skipped);
    SourceCount {
        documents: entries.len() as u64,
        before: old.len() as u64,
        removed: gone.count() as u64,
        skipped: skipped.len() as u64,
        first_skipped: skipped
            .first()
            .map(|s| format!("{} {}", s.document, s.reason)),
        error: now.error.clone(),
    }
}

/// Puts the sources' content into the store.
struct StoreSink(Store);

#[async_trait]
impl ContentSink for StoreSink {
    async fn put(&self, content: Bytes) -> Result<Digest, SinkError> {
        self.0.put(content).await.map_err(SinkError::from)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError> {
        self.0.contains(digest).await.map_err(SinkError::from)
    }
}
