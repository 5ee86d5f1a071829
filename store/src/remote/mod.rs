//! A store in a bucket of an S3 server.
//!
//! There is no lock in a bucket. Marking an object as used and deleting it exclude each other by the order of requests, on
//! which S3 is strict: a collection first writes what it is about to delete (`sweep`), then looks how old that is, then
//! deletes; who uses an object first marks it, then reads `sweep`. So either the collection sees the mark, or the user sees
//! that the object is doomed, waits until the sweep is over, and looks again.

mod cache;
mod client;
mod options;
mod sweep;
mod trouble;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use object_store::aws::AmazonS3;
use object_store::path::Path as Location;
use object_store::prefix::PrefixStore;
use object_store::signer::{Method, Signer};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use url::Url;

use crate::absent;
use crate::backend::{Act, Backend, Object, Stored, Sweep};
use crate::error::{Result, StoreError};
use crate::layout::{Area, FORMAT_FILE, Name, USED};
use cache::Cache;
pub use options::RemoteOptions;
use sweep::{Doomed, Sweeping};
pub use trouble::{Cause, explain};
pub(crate) use trouble::{not_object, unanswered};

/// An object stored or marked this recently need not be marked again.
const FRESH: Duration = Duration::from_secs(600);
/// Requests under way at once.
const PARALLEL: usize = 16;
/// Objects named by one sweep.
const BATCH: usize = 4096;
const GRACE: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Remote {
    objects: PrefixStore<AmazonS3>,
    /// `s3://bucket/prefix`.
    url: String,
    bucket: String,
    endpoint: String,
    silence: Duration,
    cache: Cache,
    /// What was last read of a sweep.
    doomed: Mutex<Option<Arc<Doomed>>>,
    /// The version of a sweep whose process died.
    dead: Mutex<Option<String>>,
}

/// Without credentials.
impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Remote {
    pub(crate) fn open(bucket: &str, prefix: &str, options: RemoteOptions) -> Result<Self> {
        let url = crate::StoreUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let url = url.to_string();
        let (s3, endpoint) = client::build(bucket, &url, &options)?;
        Ok(Self {
            objects: PrefixStore::new(s3, prefix),
            url,
            bucket: bucket.to_owned(),
            endpoint,
            silence: options.silence,
            cache: Cache::new(options.cache),
            doomed: Mutex::default(),
            dead: Mutex::default(),
        })
    }

    async fn head(&self, location: &Location) -> Result<Option<ObjectMeta>> {
        match self.objects.head(location).await {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(self.failed(Act::Read, location, e)),
        }
    }

    /// An object as it is, its mark of use included.
    async fn look(&self, name: Name) -> Result<Option<Object>> {
        let Some(meta) = self.head(&name.location()).await? else {
            return Ok(None);
        };
        let mark = self.head(&mark(name)).await?;
        let used = mark.map_or(meta.last_modified, |m| {
            m.last_modified.max(meta.last_modified)
        });
        Ok(Some(Object {
            size: meta.size,
            used: used.into(),
        }))
    }

    /// Marks an object as used now, unless it is fresh. Returns its size.
    async fn mark(&self, name: Name) -> Result<Option<u64>> {
        let Some(meta) = self.head(&name.location()).await? else {
            return Ok(None);
        };
        let fresh = |meta: &ObjectMeta| {
            let since = SystemTime::now().duration_since(meta.last_modified.into());
            since.unwrap_or_default() < FRESH
        };
        if fresh(&meta) {
            return Ok(Some(meta.size));
        }
        let mark = mark(name);
        if !self.head(&mark).await?.as_ref().is_some_and(fresh) {
            let written = self.objects.put(&mark, PutPayload::new()).await;
            written.map_err(|e| self.failed(Act::Write(0), &mark, e))?;
        }
        Ok(Some(meta.size))
    }

    async fn all(&self, prefix: &Location) -> Result<Vec<ObjectMeta>> {
        let listed = self.objects.list(Some(prefix)).try_collect().await;
        listed.map_err(|e| self.failed(Act::Read, prefix, e))
    }
}

/// Where an object is marked as used.
fn mark(name: Name) -> Location {
    marks(&name.location())
}

fn marks(location: &Location) -> Location {
    std::iter::once(USED.into())
        .chain(location.parts())
        .collect()
}

#[async_trait]
impl Backend for Remote {
    fn objects(&self) -> &dyn ObjectStore {
        &self.objects
    }

    fn place(&self, location: &Location) -> String {
        format!("{}/{location}", self.url)
            .trim_end_matches('/')
            .to_owned()
    }

    fn failed(&self, act: Act, location: &Location, error: object_store::Error) -> StoreError {
        let (reason, cause) = explain(&error, &self.bucket, self.silence);
        StoreError::Remote {
            act: match act {
                Act::Read => "read".to_owned(),
                Act::Write(bytes) => format!("write {bytes} bytes to"),
                Act::Delete => "delete".to_owned(),
            },
            place: self.place(location),
            endpoint: self.endpoint.clone(),
            reason,
            advice: trouble::advice(cause),
        }
    }

    async fn occupied(&self) -> Result<bool> {
        let mut listed = self.objects.list(None);
        while let Some(object) = listed.next().await {
            let object = object.map_err(|e| self.failed(Act::Read, &Location::default(), e))?;
            if object.location.as_ref() != FORMAT_FILE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn keep(&self, names: &[Name]) -> Result<Vec<Option<u64>>> {
        loop {
            let marked = stream::iter(names.to_vec())
                .map(|name| self.mark(name))
                .buffered(PARALLEL);
            let sizes: Vec<Option<u64>> = marked.try_collect().await?;
            let Some(doomed) = self.doomed().await? else {
                return Ok(sizes);
            };
            let mut there = names.iter().zip(&sizes).filter(|(_, size)| size.is_some());
            if !there.any(|(name, _)| doomed.contains(name)) {
                return Ok(sizes);
            }
            self.over(&doomed).await?;
        }
    }

    async fn stands(&self, name: Name) -> Result<bool> {
        match self.doomed().await? {
            Some(doomed) if doomed.contains(&name) => {
                self.over(&doomed).await?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    async fn list(&self, area: Area) -> Result<Vec<(Digest, Object)>> {
        let prefix = area.prefix();
        let used = self.all(&marks(&prefix)).await?.into_iter();
        let used: std::collections::HashMap<Location, SystemTime> = used
            .map(|mark| (mark.location, mark.last_modified.into()))
            .collect();
        let ours = |meta: ObjectMeta| {
            let digest = area.digest(&meta.location)?;
            let stored = SystemTime::from(meta.last_modified);
            let used = used.get(&marks(&meta.location)).copied();
            let object = Object {
                size: meta.size,
                used: used.map_or(stored, |used| used.max(stored)),
            };
            Some((digest, object))
        };
        Ok(self
            .all(&prefix)
            .await?
            .into_iter()
            .filter_map(ours)
            .collect())
    }

    async fn swap(
        &self,
        location: &Location,
        before: Option<&Stored>,
        bytes: Bytes,
    ) -> Result<bool> {
        let mode = match before {
            None => PutMode::Create,
            Some(before) => PutMode::Update(UpdateVersion {
                e_tag: before.version.clone(),
                version: None,
            }),
        };
        let size = bytes.len() as u64;
        let written = self.objects.put_opts(location, bytes.into(), mode.into());
        match written.await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(e) => Err(self.failed(Act::Write(size), location, e)),
        }
    }

    /// Replacing compares by itself. Deleting does not; only one who leads deletes documents.
    async fn alone<'a>(&'a self) -> Result<Box<dyn Send + 'a>> {
        Ok(Box::new(()))
    }

    async fn file(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        if let Some(path) = self.cache.get(digest).await? {
            return Ok(Some(path));
        }
        let location = Area::Blobs.location(digest);
        let failed = |e| self.failed(Act::Read, &location, e);
        let found = match self.objects.get(&location).await {
            Ok(found) => found,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let bytes = found.into_stream().map_err(failed);
        let kept = self.cache.put(digest, bytes).await?;
        let corrupt = |found| StoreError::Corrupt {
            digest: *digest,
            place: self.place(&location),
            found,
        };
        kept.map(Some).map_err(corrupt)
    }

    async fn forget(&self, digest: &Digest) -> Result<bool> {
        self.cache.forget(digest).await
    }

    async fn link(&self, digest: &Digest, expires: Duration) -> Result<Option<Url>> {
        let location = Area::Blobs.location(digest);
        let signed = self.objects.signed_url(Method::GET, &location, expires);
        let signed = signed
            .await
            .map_err(|e| self.failed(Act::Read, &location, e))?;
        Ok(Some(signed))
    }

    async fn sweep<'a>(&'a self, doomed: &'a [Name]) -> Result<Box<dyn Sweep + 'a>> {
        Ok(Box::new(Sweeping::begin(self, doomed).await?))
    }

    fn batch(&self) -> usize {
        BATCH
    }

    /// The server's lifecycle rules delete what interrupted uploads left: they are no objects yet.
    async fn sweep_uploads(&self, _: Duration) -> Result<u64> {
        Ok(0)
    }

    fn grace(&self) -> Duration {
        GRACE
    }
}
