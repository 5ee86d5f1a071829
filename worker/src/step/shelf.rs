//! Where snapshots and the content of sources are kept.

use async_trait::async_trait;
use bytes::Bytes;
use loci_digest::Digest;
use loci_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::{SNAPSHOT, Snapshot, StepError};
use crate::source::{SinkError, SourceState};

/// What a snapshot was taken for: the same key, the same snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotKey {
    /// `namespace/name`.
    pub pipeline: String,
    /// The run, because the world may differ from one run to the next.
    pub run: String,
    /// The last snapshot, whose content stands in for a source that fails.
    pub previous: Option<Digest>,
}

impl SnapshotKey {
    fn digest(&self) -> Result<Digest, StepError> {
        Ok(Digest::of_json(&("loci/snapshot/v1", self))?)
    }
}

/// Where snapshots are kept: the store, or for who must not see all of it, somebody who keeps them there.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// A snapshot; none when there is none of this digest, or it is another's.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn snapshot(&self, digest: &Digest) -> Result<Option<Snapshot>, StepError>;

    /// What a source looked like in a snapshot.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn state(&self, digest: &Digest, source: &str) -> Result<Option<SourceState>, StepError>;

    /// The snapshot that was taken for `key`.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn taken(&self, key: &SnapshotKey) -> Result<Option<Digest>, StepError>;

    /// Keeps a snapshot whose content was put, and tells which one stands for `key`: the first.
    ///
    /// # Errors
    /// When it cannot be kept.
    async fn keep(&self, key: &SnapshotKey, taken: &Snapshot) -> Result<Digest, StepError>;

    /// Keeps content of a source.
    ///
    /// # Errors
    /// When it cannot be kept.
    async fn put(&self, content: Bytes) -> Result<Digest, SinkError>;

    /// Whether content is there still, of a snapshot that was read or as it was put.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError>;
}

#[async_trait]
impl Shelf for Store {
    async fn snapshot(&self, digest: &Digest) -> Result<Option<Snapshot>, StepError> {
        match self.get_manifest(SNAPSHOT, digest).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn state(&self, digest: &Digest, source: &str) -> Result<Option<SourceState>, StepError> {
        let snapshot = Shelf::snapshot(self, digest).await?;
        let listing = snapshot.and_then(|mut s| s.sources.remove(source)?.listing);
        Ok(listing.map(|listing| listing.state))
    }

    async fn taken(&self, key: &SnapshotKey) -> Result<Option<Digest>, StepError> {
        Ok(self.lookup(&key.digest()?).await?)
    }

    async fn keep(&self, key: &SnapshotKey, taken: &Snapshot) -> Result<Digest, StepError> {
        let refs: Vec<Digest> = taken.contents().copied().collect();
        let digest = self.put_manifest(SNAPSHOT, &refs, taken).await?;
        Ok(self.record(&key.digest()?, &digest).await?)
    }

    async fn put(&self, content: Bytes) -> Result<Digest, SinkError> {
        Ok(Self::put(self, content).await?)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError> {
        Ok(Self::contains(self, digest).await?)
    }
}
