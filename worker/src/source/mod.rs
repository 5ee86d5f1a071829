//! Sources: where documents come from, how a change is noticed, and how their content is fetched.
//!
//! A source is asked in two steps. [`probe`] is cheap and says whether anything changed since a
//! listing's [`SourceState`]; [`snapshot`] lists all documents and puts the content of those that
//! changed into a [`ContentSink`]. A source that fails returns an error and changes nothing: the
//! caller keeps its last good listing. Single documents that cannot be read are among
//! [`Listing::skipped`].

mod address;
mod bucket;
mod config_map;
mod directory;
mod error;
mod file;
mod git;
mod http;
mod push;
mod select;
mod state;
mod walk;
mod watch;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::document::Media;
pub use address::AddressRefused;
pub use bucket::{BucketProvider, BucketSpec, S3Credentials};
pub use config_map::ConfigMapSpec;
pub use directory::DirectorySpec;
pub use error::{Secret, SourceError};
pub use git::{GitCredentials, GitRef, GitSpec};
pub use http::{HttpCredentials, HttpSpec, SitemapSpec};
pub use push::{PushSpec, PushWatch};
pub use state::SourceState;
pub use watch::{Watch, watch};

/// A source and its limits.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// Its name within the pipeline; named in errors.
    pub name: String,
    /// Where its documents are.
    pub kind: SourceKind,
    /// What it may hold.
    pub limits: Limits,
}

/// Where a source's documents are.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Files below a directory of this machine.
    Directory(DirectorySpec),
    /// Files of a commit in a git repository.
    Git(GitSpec),
    /// Pages by their URL, or by sitemap.
    Http(HttpSpec),
    /// Objects of a bucket.
    Bucket(BucketSpec),
    /// Keys of a ConfigMap.
    ConfigMap(ConfigMapSpec),
    /// Documents that clients put and delete.
    Push(PushSpec),
}

/// Bounds on what a source may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most bytes of one document; a larger one is skipped without being read in full.
    pub max_document_bytes: u64,
    /// The most documents; a source that has more fails.
    pub max_documents: usize,
}

impl Default for Limits {
    /// 64 MiB a document, 200,000 documents.
    fn default() -> Self {
        Self {
            max_document_bytes: 64 << 20,
            max_documents: 200_000,
        }
    }
}

/// One document of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name within the source: a path, a URL, a key.
    pub document: String,
    /// Where a person finds it.
    pub uri: String,
    /// Changes when its content does: the blob id in git, else the content's digest.
    pub version: String,
    /// How it is read.
    pub media: Media,
    /// Its size.
    pub bytes: u64,
    /// Digest of its content, which is in the sink.
    pub digest: Digest,
    /// What the source knows about it.
    pub metadata: BTreeMap<String, String>,
}

/// A document that was left out, or kept from an earlier listing because it cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name within the source.
    pub document: String,
    /// Why, and the way out.
    pub reason: String,
}

/// All documents of a source, in the order of their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The documents.
    pub documents: Vec<Entry>,
    /// What the next probe and the next snapshot compare with.
    pub state: SourceState,
    /// What could not be read.
    pub skipped: Vec<Skipped>,
}

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A snapshot would yield the same documents.
    Unchanged,
    /// A snapshot is due; in words, what changed.
    Changed(String),
}

/// What a snapshot has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Documents listed.
    pub listed: usize,
    /// Documents whose content was fetched.
    pub fetched: usize,
    /// Bytes fetched.
    pub bytes: u64,
}

/// Called as a snapshot goes on.
pub type OnProgress<'a> = &'a (dyn Fn(SnapshotProgress) + Send + Sync);

/// An error of a [`ContentSink`].
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Where content goes: content-addressed, such as the store.
#[async_trait]
pub trait ContentSink: Send + Sync {
    /// Keeps `content` under its digest.
    ///
    /// # Errors
    /// When it cannot be kept.
    async fn put(&self, content: Bytes) -> Result<Digest, SinkError>;

    /// Whether the content with this digest is kept.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError>;
}

/// Tells at the cost of a listing whether `spec` changed since `previous`.
///
/// # Errors
/// When the source cannot be reached or read.
pub async fn probe(
    spec: &SourceSpec,
    previous: Option<&SourceState>,
) -> Result<Probe, SourceError> {
    let Some(previous) = previous else {
        return Ok(Probe::Changed("never read before".into()));
    };
    let result = match &spec.kind {
        SourceKind::Directory(directory) => {
            directory::probe(directory, &spec.limits, previous).await
        }
        SourceKind::Git(git) => git::probe(git, &spec.limits, previous).await,
        SourceKind::Http(http) => http::probe(http, &spec.limits, previous).await,
        SourceKind::Bucket(bucket) => bucket::probe(bucket, &spec.limits, previous).await,
        SourceKind::ConfigMap(config_map) => config_map::probe(config_map, &spec.limits, previous),
        SourceKind::Push(push) => push::probe(push, previous).await,
    };
    result.map_err(|error| error.of(&spec.name))
}

/// Lists `spec` and puts the content of what changed since `previous` into `sink`.
///
/// Content that `previous` names is not fetched again while the sink still has it.
///
/// # Errors
/// When the source cannot be reached or read, holds too many documents, or the sink fails.
pub async fn snapshot(
    spec: &SourceSpec,
    previous: Option<&Listing>,
    sink: &dyn ContentSink,
    progress: OnProgress<'_>,
) -> Result<Listing, SourceError> {
    let task = Task {
        limits: &spec.limits,
        previous,
        sink,
        progress,
    };
    let result = match &spec.kind {
        SourceKind::Directory(directory) => directory::snapshot(directory, &task).await,
        SourceKind::Git(git) => git::snapshot(git, &task).await,
        SourceKind::Http(http) => http::snapshot(http, &task).await,
        SourceKind::Bucket(bucket) => bucket::snapshot(bucket, &task).await,
        SourceKind::ConfigMap(config_map) => config_map::snapshot(config_map, &task).await,
        SourceKind::Push(push) => push::snapshot(&spec.name, push, &task).await,
    };
    let mut listing = result.map_err(|error| error.of(&spec.name))?;
    listing
        .documents
        .sort_by(|a, b| a.document.cmp(&b.document));
    listing.skipped.sort_by(|a, b| a.document.cmp(&b.document));
    Ok(listing)
}

/// What every kind of snapshot works with.
struct Task<'a> {
    limits: &'a Limits,
    previous: Option<&'a Listing>,
    sink: &'a dyn ContentSink,
    progress: OnProgress<'a>,
}

impl Task<'_> {
    /// The entries of the listing before, by name.
    fn known(&self) -> BTreeMap<&str, &Entry> {
        let documents = self.previous.map_or(&[][..], |listing| &listing.documents);
        documents
            .iter()
            .map(|entry| (entry.document.as_str(), entry))
            .collect()
    }

    async fn put(&self, content: Bytes) -> Result<Digest, SourceError> {
        self.sink.put(content).await.map_err(SourceError::Sink)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, SourceError> {
        self.sink.contains(digest).await.map_err(SourceError::Sink)
    }
}

impl Limits {
    fn check_count(&self, documents: usize) -> Result<(), SourceError> {
        match documents > self.max_documents {
            true => Err(SourceError::TooMany {
                limit: self.max_documents,
            }),
            false => Ok(()),
        }
    }

    /// Why a document of this size is skipped, if it is.
    fn refuse_size(&self, bytes: u64) -> Option<String> {
        let limit = self.max_document_bytes;
        (bytes > limit).then(|| format!("is {bytes} bytes, more than the {limit} that a document may have; split or exclude it"))
    }
}

fn skip(document: impl Into<String>, reason: impl Into<String>) -> Skipped {
    Skipped {
        document: document.into(),
        reason: reason.into(),
    }
}
