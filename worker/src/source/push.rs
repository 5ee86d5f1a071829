use std::sync::Arc;

use loci_digest::Digest;
use loci_push::{Document, Kept, PushLog, State};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::state::{SourceState, spec_digest};
use super::watch::{PATIENCE, QUIET};
use super::{Entry, Listing, Probe, Skipped, SnapshotProgress, SourceError, Task, skip};
use crate::document::Media;

/// Documents that clients put and delete. Their limits are kept when they are put.
#[derive(Clone, Debug)]
pub struct PushSpec {
    /// Where they are.
    pub log: PushLog,
}

/// Tells when documents are put or deleted.
pub struct PushWatch(watch::Receiver<u64>);

impl PushSpec {
    /// Watches for what this process writes from now on.
    pub fn watch(&self) -> PushWatch {
        PushWatch(self.log.commits())
    }
}

impl PushWatch {
    /// Waits for the next change. Changes within 200 ms of each other are one, and it is told at the latest 2 s after the
    /// first. False when there can be no more.
    pub async fn changed(&mut self) -> bool {
        if self.0.changed().await.is_err() {
            return false;
        }
        let latest = Instant::now() + PATIENCE;
        let next = |now: Instant| latest.min(now + QUIET);
        while let Ok(Ok(())) = timeout_at(next(Instant::now()), self.0.changed()).await {
            if Instant::now() >= latest {
                break;
            }
        }
        true
    }
}

/// What the log held.
#[derive(Serialize, Deserialize)]
struct Seen {
    /// The last commit that was read, for people.
    commit: u64,
    /// Digest of all documents with their versions.
    content: Digest,
}

impl Seen {
    fn of(state: &State) -> Self {
        Self {
            commit: state.commit,
            content: state.content(),
        }
    }
}

/// Nothing of the declaration changes what is listed.
fn declared() -> Digest {
    spec_digest(&"push")
}

pub(super) async fn probe(spec: &PushSpec, previous: &SourceState) -> Result<Probe, SourceError> {
    let now = Seen::of(&*read(spec).await?);
    Ok(match previous.seen::<Seen>(declared()) {
        Some(seen) if seen.content == now.content => Probe::Unchanged,
        Some(seen) => Probe::Changed(format!("commit {} is {} now", seen.commit, now.commit)),
        None => Probe::Changed("declared otherwise than before".into()),
    })
}

async fn read(spec: &PushSpec) -> Result<Arc<State>, SourceError> {
    spec.log.read().await.map_err(SourceError::Push)
}

/// All documents as of one commit.
pub(super) async fn snapshot(
    name: &str,
    spec: &PushSpec,
    task: &Task<'_>,
) -> Result<Listing, SourceError> {
    let state = read(spec).await?;
    let mut progress = SnapshotProgress::default();
    let (mut documents, mut skipped) = (Vec::new(), Vec::new());
    for (id, kept) in &state.documents {
        match entry(name, id, kept) {
            Ok(entry) => documents.push(entry),
            Err(left_out) => {
                skipped.push(left_out);
                continue;
            }
        }
        progress.listed += 1;
        let Document { content, bytes, .. } = &kept.document;
        // Where the log is in the store that is read for, there is nothing to fetch.
        if !task.contains(content).await? {
            let fetched = spec.log.content(content).await;
            task.put(fetched.map_err(SourceError::Push)?).await?;
            progress.fetched += 1;
            progress.bytes += bytes;
        }
        (task.progress)(progress);
    }
    Ok(Listing {
        documents,
        state: SourceState::new(declared(), &Seen::of(&state)),
        skipped,
    })
}

fn entry(source: &str, id: &str, kept: &Kept) -> Result<Entry, Skipped> {
    let Kept { document, version } = kept;
    let media = Media::of_content_type(&document.media_type, id);
    let media = media.ok_or_else(|| {
        let reason = format!(
            "was put as {}, which this build does not read; put it again in another form",
            document.media_type
        );
        skip(id, reason)
    })?;
    let uri = document.uri.clone();
    Ok(Entry {
        document: id.to_owned(),
        uri: uri.unwrap_or_else(|| format!("push:{source}/{id}")),
        version: version.to_string(),
        media,
        bytes: document.bytes,
        digest: document.content,
        metadata: document.metadata.clone(),
    })
}
