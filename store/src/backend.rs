//! What a store needs of its place, which is a directory ([`crate::local`]) or a bucket ([`crate::remote`]).

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use loci_digest::Digest;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use crate::error::{Result, StoreError};
use crate::layout::{Area, Name};

/// What is known of an object without reading it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub size: u64,
    /// When it was last stored or marked as used.
    pub used: SystemTime,
}

impl Object {
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.used).unwrap_or_default()
    }
}

/// What was being done when something failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Read,
    /// So many bytes.
    Write(u64),
    Delete,
}

/// An object that may change, as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub bytes: Bytes,
    /// What the server calls this state of it; none in a directory.
    pub version: Option<String>,
}

/// A place of objects.
#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync {
    fn objects(&self) -> &dyn ObjectStore;

    /// Where an object is, for people.
    fn place(&self, location: &Path) -> String;

    /// What `error` means here.
    fn failed(&self, act: Act, location: &Path, error: object_store::Error) -> StoreError;

    /// Whether there is anything.
    async fn occupied(&self) -> Result<bool>;

    /// Marks objects as used now: no collection deletes them for as long as its grace. Returns their sizes, none for those
    /// that are absent.
    async fn keep(&self, names: &[Name]) -> Result<Vec<Option<u64>>>;

    /// Whether an object that was just written is sure to stay; if not, it has to be looked at again.
    async fn stands(&self, name: Name) -> Result<bool>;

    /// All objects of an area.
    async fn list(&self, area: Area) -> Result<Vec<(Digest, Object)>>;

    /// Replaces an object that is still as `before` was, or makes one where none is. Whether it did.
    async fn swap(&self, location: &Path, before: Option<&Stored>, bytes: Bytes) -> Result<bool>;

    /// Whoever holds this replaces or deletes documents alone, where the place does not compare by itself.
    async fn alone<'a>(&'a self) -> Result<Box<dyn Send + 'a>>;

    /// A local file of a blob; none when there is no such blob. It may be damaged, if that does not show by itself.
    async fn file(&self, digest: &Digest) -> Result<Option<PathBuf>>;

    /// Drops the damaged local copy of a blob; false when the file is the blob itself.
    async fn forget(&self, digest: &Digest) -> Result<bool>;

    /// A URL that anybody may read a blob at, for a while.
    async fn link(&self, digest: &Digest, expires: Duration) -> Result<Option<Url>>;

    /// Begins to delete: from now until the end, `keep` of these waits.
    async fn sweep<'a>(&'a self, doomed: &'a [Name]) -> Result<Box<dyn Sweep + 'a>>;

    /// How many objects to delete in one sweep.
    fn batch(&self) -> usize;

    /// Deletes what uploads left that nobody wrote to for `idle`, and says how many.
    async fn sweep_uploads(&self, idle: Duration) -> Result<u64>;

    /// How long what nothing names yet is to be kept: longer than any step.
    fn grace(&self) -> Duration;
}

/// A deletion under way.
#[async_trait]
pub(crate) trait Sweep: Send + Sync {
    /// The doomed as they are now; whoever marked one before the sweep began has marked it here.
    async fn look(&self) -> Result<Vec<(Name, Object)>>;

    /// By the clock that objects are marked by.
    fn now(&self) -> SystemTime;

    /// Deletes some of the doomed.
    async fn delete(&self, names: &[Name]) -> Result<()>;

    async fn end(self: Box<Self>);
}
