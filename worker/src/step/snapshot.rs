//! Snapshot: lists the sources and fetches what changed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use loci_bus::Unit;
use loci_digest::Digest;
use loci_index::MetaValue;
use loci_plan::spec::Declared;
use serde::{Deserialize, Serialize};

use super::{Reporter, Shelf, SnapshotKey, SourceInput, SourceProvider, StepError};
use crate::source::{self, ContentSink, Entry, Listing, SinkError, SnapshotProgress};

/// The kind of a snapshot's manifest.
pub const SNAPSHOT: &str = "snapshot";

/// All sources at one time: a manifest in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// By name.
    pub sources: BTreeMap<String, SourceSnapshot>,
}

impl Snapshot {
    /// What sources declare of their documents: those that declare something.
    pub(super) fn declared(&self) -> BTreeMap<&str, &DeclaredMetadata> {
        let sources = self.sources.iter();
        let declared = sources.map(|(name, source)| (name.as_str(), &source.metadata));
        declared.filter(|(_, fields)| !fields.is_empty()).collect()
    }

    /// The digests of all content.
    pub fn contents(&self) -> impl Iterator<Item = &Digest> {
        let entries = self.sources.values().flat_map(SourceSnapshot::entries);
        entries.map(|entry| &entry.digest)
    }
}

/// Values by field.
pub type DeclaredMetadata = BTreeMap<String, Vec<MetaValue>>;

/// One source at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    /// Its memory class.
    pub memory: String,
    /// Metadata of all its documents, as it is declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: DeclaredMetadata,
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
    shelf: &dyn Shelf,
    provider: &dyn SourceProvider,
    key: &SnapshotKey,
    sources: &[SourceInput],
    reporter: &Reporter,
) -> Result<SnapshotOutput, StepError> {
    let before = match &key.previous {
        Some(digest) => shelf.snapshot(digest).await?.unwrap_or_default(),
        None => Snapshot::default(),
    };
    let snapshot = match shelf.taken(key).await? {
        Some(done) => done,
        None => {
            let taken = take(shelf, provider, key, sources, &before, reporter).await?;
            shelf.keep(key, &taken).await?
        }
    };
    let taken = shelf.snapshot(&snapshot).await?;
    let taken = taken.ok_or_else(|| StepError::Upload(format!("{snapshot} is gone")))?;
    let sources = taken
        .sources
        .iter()
        .map(|(name, now)| (name.clone(), count(now, before.sources.get(name))))
        .collect();
    Ok(SnapshotOutput { snapshot, sources })
}

async fn take(
    shelf: &dyn Shelf,
    provider: &dyn SourceProvider,
    key: &SnapshotKey,
    declared: &[SourceInput],
    before: &Snapshot,
    reporter: &Reporter,
) -> Result<Snapshot, StepError> {
    let mut sources = BTreeMap::new();
    let mut failures = Vec::new();
    for input in declared {
        let name = &input.source.name;
        let last = before.sources.get(name).and_then(|s| s.listing.as_ref());
        let (listing, error) = match read(shelf, provider, key, input, last, reporter).await {
            Ok(listing) => (Some(listing), None),
            Err(StepError::Source(error)) => {
                failures.push(format!("{}: {error}", input.field));
                (last.cloned(), Some(error.to_string()))
            }
            // Read once, and now there is no way to it any more: like a source that does not answer.
            Err(StepError::Missing(missing)) if last.is_some() => {
                (last.cloned(), Some(missing.to_string()))
            }
            Err(error) => return Err(error),
        };
        sources.insert(
            name.clone(),
            SourceSnapshot {
                memory: input.source.memory.as_str().to_owned(),
                metadata: fields(&input.source.metadata),
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

/// Reads one source.
async fn read(
    shelf: &dyn Shelf,
    provider: &dyn SourceProvider,
    key: &SnapshotKey,
    input: &SourceInput,
    last: Option<&Listing>,
    reporter: &Reporter,
) -> Result<Listing, StepError> {
    let spec = provider.open(&key.pipeline, input).await?;
    let name = &spec.name;
    let progress = |p: SnapshotProgress| {
        let message = format!("{name}: {} fetched", p.fetched);
        reporter.report(p.listed as u64, None, Unit::Documents, Some(message));
    };
    let sink = Sink(shelf);
    let read = source::snapshot(&spec, last, &sink, &progress);
    match reporter.unless_stopped(read).await? {
        // Not the source's fault: what can be read must not count as unreadable.
        Err(error) if error.is_of_sink() => Err(StepError::Sink(error)),
        read => Ok(read?),
    }
}

fn fields(declared: &BTreeMap<String, Declared>) -> DeclaredMetadata {
    let values = |declared: &Declared| match declared {
        Declared::Values(texts) => texts.iter().map(|text| text.as_str().into()).collect(),
        Declared::Number(number) => vec![MetaValue::Integer(*number)],
    };
    let declared = declared.iter();
    declared
        .map(|(name, d)| (name.clone(), values(d)))
        .collect()
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

/// Puts the sources' content onto the shelf.
struct Sink<'a>(&'a dyn Shelf);

#[async_trait]
impl ContentSink for Sink<'_> {
    async fn put(&self, content: Bytes) -> Result<Digest, SinkError> {
        self.0.put(content).await
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError> {
        self.0.contains(digest).await
    }
}
