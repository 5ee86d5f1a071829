//! Manifests: small JSON objects that name the blobs and manifests they are made of.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, stream};
use loci_digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Result, StoreError};
use crate::layout::Area;

/// Objects looked at at once.
pub(crate) const PARALLEL: usize = 16;

/// What a manifest is and names, whatever its body.
#[derive(Deserialize)]
struct Head {
    kind: String,
    refs: Vec<Digest>,
}

#[derive(Deserialize)]
struct Body<T> {
    body: T,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    kind: &'a str,
    refs: &'a [Digest],
    body: &'a T,
}

impl Store {
    /// Stores a manifest `{"kind", "refs", "body"}`. `refs` are the blobs and manifests that its
    /// content needs: they live as long as it does.
    ///
    /// # Errors
    /// [`StoreError::MissingReference`] when one of `refs` is not stored; when `body` cannot be
    /// written as JSON; as [`Store::put`].
    pub async fn put_manifest<T: Serialize>(
        &self,
        kind: &str,
        refs: &[Digest],
        body: &T,
    ) -> Result<Digest> {
        let json = serde_json::to_vec(&Envelope { kind, refs, body }).map_err(|source| {
            StoreError::Manifest {
                kind: kind.to_owned(),
                digest: None,
                source,
            }
        })?;
        if let Some(digest) = self.touch_all(refs).await? {
            return Err(StoreError::MissingReference {
                what: format!("manifest of kind \"{kind}\""),
                digest,
            });
        }
        let digest = Digest::of(&json);
        self.publish(Area::Manifests, &digest, json.into()).await?;
        Ok(digest)
    }

    /// The body of a manifest, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Corrupt`]; [`StoreError::Kind`] when it is of another
    /// kind; [`StoreError::Manifest`] when its body is not a `T`.
    pub async fn get_manifest<T: DeserializeOwned>(
        &self,
        kind: &str,
        digest: &Digest,
    ) -> Result<T> {
        let json = self.manifest_bytes(digest).await?;
        let unfit = |source| StoreError::Manifest {
            kind: kind.to_owned(),
            digest: Some(*digest),
            source,
        };
        let head: Head = serde_json::from_slice(&json).map_err(unfit)?;
        if head.kind != kind {
            return Err(StoreError::Kind {
                digest: *digest,
                found: head.kind,
                expected: kind.to_owned(),
            });
        }
        serde_json::from_slice::<Body<T>>(&json)
            .map(|envelope| envelope.body)
            .map_err(unfit)
    }

    /// The bytes of a manifest, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Corrupt`].
    pub async fn manifest_bytes(&self, digest: &Digest) -> Result<Bytes> {
        let json = self.read(Area::Manifests, digest).await?;
        json.ok_or_else(|| self.not_found(Area::Manifests, digest))
    }

    /// What a manifest names; none when there is no such manifest.
    pub(crate) async fn refs(&self, digest: &Digest) -> Result<Option<Vec<Digest>>> {
        let Some(json) = self.read(Area::Manifests, digest).await? else {
            return Ok(None);
        };
        let head: Head = serde_json::from_slice(&json).map_err(|source| StoreError::Manifest {
            kind: "unknown".to_owned(),
            digest: Some(*digest),
            source,
        })?;
        Ok(Some(head.refs))
    }

    /// Whether an object and all that it names can be relied on. If so it counts as new for [`Store::gc`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usable(&self, digest: &Digest) -> Result<bool> {
        // Marked first: from here on a collection spares it and all that it names.
        Ok(self.contains(digest).await? && self.complete(digest).await?)
    }

    /// Whether an object and all that it names are stored, as far as can be told without reading
    /// blobs. A damaged manifest counts as absent.
    pub(crate) async fn complete(&self, digest: &Digest) -> Result<bool> {
        let (mut seen, mut open) = (HashSet::from([*digest]), vec![*digest]);
        while !open.is_empty() {
            let level = std::mem::take(&mut open);
            let mut answers = stream::iter(level)
                .map(|digest| self.names(digest))
                .buffer_unordered(PARALLEL);
            while let Some(names) = answers.next().await {
                match names? {
                    Some(refs) => open.extend(refs.into_iter().filter(|d| seen.insert(*d))),
                    None => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// What an object names; none when it is absent or damaged.
    async fn names(&self, digest: Digest) -> Result<Option<Vec<Digest>>> {
        if self.damaged().contains(&digest) {
            return Ok(None);
        }
        match self.refs(&digest).await {
            Ok(None) if self.has(Area::Blobs, &digest).await? => Ok(Some(Vec::new())),
            Err(StoreError::Corrupt { .. }) => Ok(None),
            answer => answer,
        }
    }
}
