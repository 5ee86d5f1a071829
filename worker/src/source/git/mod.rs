mod declared;
mod remote;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::remote::Remote;
use self::tree::{Before, Blob, Plan};
use super::file::blocking;
use super::state::{SourceState, spec_digest};
use super::{Entry, Limits, Listing, Probe, Secret, SnapshotProgress, SourceError, Task, skip};

/// Blobs that are read ahead of the sink.
const AHEAD: usize = 4;

/// Files of a commit in a git repository.
#[derive(Clone, Debug)]
pub struct GitSpec {
    /// `https://…`, `http://…` (without credentials) or `file:///…` (needs the `git` command).
    pub url: String,
    /// What to read.
    pub reference: GitRef,
    /// Globs of the files to read; empty: all Markdown, HTML, text and JSON Lines.
    pub include: Vec<String>,
    /// Globs of files and folders to leave out.
    pub exclude: Vec<String>,
    /// Who asks; for `https://` only.
    pub credentials: Option<GitCredentials>,
    /// Loopback and private addresses may be fetched from. Link-local ones never may.
    pub allow_private: bool,
    /// A directory for bare, shallow clones; shared by all sources.
    pub cache: PathBuf,
}

/// Names a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GitRef {
    /// What the remote's HEAD points at.
    Default,
    /// The tip of a branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit, by its 40 hexadecimal digits.
    Commit(String),
}

/// User name and password or access token.
#[derive(Clone, Debug)]
pub struct GitCredentials {
    /// The user; any, for most tokens.
    pub username: String,
    /// The password, or an access token.
    pub password: Secret,
}

impl GitSpec {
    fn digest(&self, limits: &Limits) -> Digest {
        spec_digest(&(
            &self.url,
            &self.reference,
            &self.include,
            &self.exclude,
            limits,
        ))
    }
}

/// What a repository looked like.
#[derive(Clone, Serialize, Deserialize)]
struct Seen {
    /// What the server says the reference is: a commit, or an annotated tag.
    tip: String,
    commit: String,
}

pub(super) async fn probe(
    spec: &GitSpec,
    limits: &Limits,
    previous: &SourceState,
) -> Result<Probe, SourceError> {
    let Some(seen) = previous.seen::<Seen>(spec.digest(limits)) else {
        return Ok(Probe::Changed("declared otherwise than before".into()));
    };
    if let GitRef::Commit(_) = spec.reference {
        return Ok(Probe::Unchanged);
    }
    let spec = spec.clone();
    let tip = blocking(move || Remote::new(&spec)?.tip()).await??;
    Ok(match tip == seen.tip {
        true => Probe::Unchanged,
        false => Probe::Changed(format!("now at {tip}")),
    })
}

pub(super) async fn snapshot(spec: &GitSpec, task: &Task<'_>) -> Result<Listing, SourceError> {
    let digest = spec.digest(task.limits);
    let (plan, remote) = plan(spec, digest, task).await?;
    let mut progress = SnapshotProgress {
        listed: plan.kept.len(),
        ..SnapshotProgress::default()
    };
    (task.progress)(progress);
    let (mut documents, mut skipped) = (plan.kept, plan.skipped);
    task.limits
        .check_count(documents.len() + plan.blobs.len())?;
    let (sender, mut contents) = mpsc::channel(AHEAD);
    let reading = blocking(move || read(&remote, plan.blobs, &sender));
    let storing = async {
        while let Some((blob, content)) = contents.recv().await {
            progress.listed += 1;
            if is_lfs_pointer(&content) {
                skipped.push(skip(
                    blob.document,
                    "is a Git LFS pointer, not the content; LFS is not supported, exclude it",
                ));
                continue;
            }
            progress.fetched += 1;
            progress.bytes += content.len() as u64;
            (task.progress)(progress);
            let bytes = content.len() as u64;
            let stored = task.put(Bytes::from(content)).await?;
            documents.push(entry(spec, &plan.seen.commit, blob, bytes, stored));
        }
        Ok(())
    };
    let (read, stored) = futures::join!(reading, storing);
    stored?;
    read??;
    Ok(Listing {
        documents,
        state: SourceState::new(digest, &plan.seen),
        skipped,
    })
}

/// Fetches the commit and finds what changed since the listing before.
async fn plan(
    spec: &GitSpec,
    digest: Digest,
    task: &Task<'_>,
) -> Result<(Plan, Remote), SourceError> {
    let seen = task
        .previous
        .and_then(|listing| listing.state.seen::<Seen>(digest));
    let mut before = Before {
        commit: seen.map(|seen| seen.commit),
        ..Before::default()
    };
    let mut lost = BTreeSet::new();
    for (document, entry) in task.known() {
        before.entries.insert(document.to_owned(), entry.clone());
        if !task.contains(&entry.digest).await? {
            lost.insert(document.to_owned());
        }
    }
    before.lost = lost;
    let skipped = task.previous.map_or(&[][..], |listing| &listing.skipped);
    before.skipped = skipped
        .iter()
        .map(|skipped| (skipped.document.clone(), skipped.clone()))
        .collect();
    let cancelled = Cancel::default();
    let (spec, limits, flag) = (spec.clone(), *task.limits, Arc::clone(&cancelled.0));
    blocking(move || {
        let remote = Remote::new(&spec)?;
        let seen = remote.fetch(&flag)?;
        tree::plan(&remote, seen, before, &spec, &limits).map(|plan| (plan, remote))
    })
    .await?
}

/// Ends a fetch when the task that waits for it is dropped.
#[derive(Default)]
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn read(
    remote: &Remote,
    blobs: Vec<Blob>,
    sender: &mpsc::Sender<(Blob, Vec<u8>)>,
) -> Result<(), SourceError> {
    let repository = remote.open()?;
    for blob in blobs {
        let mut found = repository
            .find_blob(blob.id)
            .map_err(|error| remote.broken(&error))?;
        if sender.blocking_send((blob, found.take_data())).is_err() {
            break;
        }
    }
    Ok(())
}

fn is_lfs_pointer(content: &[u8]) -> bool {
    content.len() < 1024 && content.starts_with(b"version https://git-lfs.github.com/spec/")
}

fn entry(spec: &GitSpec, commit: &str, blob: Blob, bytes: u64, digest: Digest) -> Entry {
    Entry {
        uri: format!("{}@{commit}/{}", spec.url, blob.document),
        document: blob.document,
        version: blob.id.to_string(),
        media: blob.media,
        bytes,
        digest,
        metadata: BTreeMap::new(),
    }
}
