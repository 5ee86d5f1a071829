//! A store in a directory, which processes may share: what excludes each other is locked by `flock`, which local file
//! systems and NFSv4 know.

mod files;
mod lock;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use loci_digest::Digest;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::Url;

use crate::backend::{Act, Backend, Object, Stored, Sweep};
use crate::error::{Result, StoreError, io_error};
use crate::layout::{Area, FORMAT_FILE, Name};
use crate::{absent, blocking};
pub(crate) use files::{digest, place};
use lock::{Alone, Lock};

/// Objects deleted under one lock: whoever marks objects waits for no more than these.
const BATCH: usize = 128;
const GRACE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Local {
    objects: LocalFileSystem,
    root: PathBuf,
    /// Shared while an object is marked as used, exclusive while old objects are deleted: nothing is
    /// deleted between the mark and the answer that relies on it.
    sweeping: Lock,
    /// Held while an object is replaced.
    replacing: Lock,
}

impl Local {
    /// In `dir`, which is made when it is not there.
    pub(crate) async fn open(dir: &Path) -> Result<Self> {
        let root = dir.to_owned();
        blocking(move || {
            files::create_dir(&root).map_err(|e| StoreError::write(&root, 0, e))?;
            let root = root
                .canonicalize()
                .map_err(|e| StoreError::read(&root, e))?;
            let objects = LocalFileSystem::new_with_prefix(&root)
                .map_err(|e| StoreError::read(&root, io_error(e)))?
                .with_fsync(true);
            Ok(Self {
                objects,
                sweeping: Lock::new(&root, "sweeping.lock"),
                replacing: Lock::new(&root, "replacing.lock"),
                root,
            })
        })
        .await
    }

    fn path(&self, location: &Location) -> PathBuf {
        self.root.join(location.as_ref())
    }

    async fn head(&self, name: Name) -> Result<Option<Object>> {
        let location = name.location();
        match self.objects.head(&location).await {
            Ok(meta) => Ok(Some(object(&meta))),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(self.failed(Act::Read, &location, e)),
        }
    }
}

fn object(meta: &ObjectMeta) -> Object {
    Object {
        size: meta.size,
        used: SystemTime::from(meta.last_modified),
    }
}

#[async_trait]
impl Backend for Local {
    fn objects(&self) -> &dyn ObjectStore {
        &self.objects
    }

    fn place(&self, location: &Location) -> String {
        self.path(location).display().to_string()
    }

    fn failed(&self, act: Act, location: &Location, error: object_store::Error) -> StoreError {
        let path = self.path(location);
        match act {
            Act::Read => StoreError::read(&path, io_error(error)),
            Act::Write(bytes) => StoreError::write(&path, bytes, io_error(error)),
            Act::Delete => StoreError::delete(&path, io_error(error)),
        }
    }

    async fn occupied(&self) -> Result<bool> {
        let dir = self.root.clone();
        blocking(move || {
            for entry in std::fs::read_dir(&dir).map_err(|e| StoreError::read(&dir, e))? {
                let path = entry.map_err(|e| StoreError::read(&dir, e))?.path();
                // Another clone may be making the same store, or may have died while it did.
                if !files::is_upload(&path) && !path.ends_with(FORMAT_FILE) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    async fn keep(&self, names: &[Name]) -> Result<Vec<Option<u64>>> {
        let _shared = self.sweeping.together().await?;
        let paths: Vec<PathBuf> = names.iter().map(|n| self.path(&n.location())).collect();
        blocking(move || {
            let touch =
                |path: &PathBuf| files::touch(path).map_err(|e| StoreError::write(path, 0, e));
            paths.iter().map(touch).collect()
        })
        .await
    }

    async fn stands(&self, name: Name) -> Result<bool> {
        // A record is written under the lock.
        Ok(name.0 == Area::Records || self.keep(&[name]).await? != [None])
    }

    async fn list(&self, area: Area) -> Result<Vec<(Digest, Object)>> {
        let listed = self.objects.list(Some(&area.prefix()));
        let all: Vec<ObjectMeta> = listed
            .try_collect()
            .await
            .map_err(|e| self.failed(Act::Read, &area.prefix(), e))?;
        let ours = |o: &ObjectMeta| Some((area.digest(&o.location)?, object(o)));
        Ok(all.iter().filter_map(ours).collect())
    }

    async fn swap(
        &self,
        location: &Location,
        before: Option<&Stored>,
        bytes: Bytes,
    ) -> Result<bool> {
        let _alone = match before {
            Some(_) => Some(self.replacing.alone().await?),
            None => None,
        };
        // Not while a collection decides whether what is there is of use.
        let _shared = self.sweeping.together().await?;
        let mode = match before {
            None => PutMode::Create,
            Some(before) => {
                let failed = |e| self.failed(Act::Read, location, e);
                let now = match self.objects.get(location).await {
                    Ok(found) => Some(found.bytes().await.map_err(failed)?),
                    Err(e) if absent(&e) => None,
                    Err(e) => return Err(failed(e)),
                };
                if now.as_ref() != Some(&before.bytes) {
                    return Ok(false);
                }
                PutMode::Overwrite
            }
        };
        let size = bytes.len() as u64;
        let payload = PutPayload::from_bytes(bytes);
        match self.objects.put_opts(location, payload, mode.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.failed(Act::Write(size), location, e)),
        }
    }

    async fn alone<'a>(&'a self) -> Result<Box<dyn Send + 'a>> {
        Ok(Box::new(self.replacing.alone().await?))
    }

    async fn file(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        let path = self.path(&Area::Blobs.location(digest));
        blocking(move || match path.metadata() {
            Ok(_) => Ok(Some(path)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::read(&path, e)),
        })
        .await
    }

    async fn forget(&self, _: &Digest) -> Result<bool> {
        Ok(false)
    }

    async fn link(&self, _: &Digest, _: Duration) -> Result<Option<Url>> {
        Ok(None)
    }

    async fn sweep<'a>(&'a self, doomed: &'a [Name]) -> Result<Box<dyn Sweep + 'a>> {
        Ok(Box::new(Deleting {
            local: self,
            doomed,
            _alone: self.sweeping.alone().await?,
        }))
    }

    fn batch(&self) -> usize {
        BATCH
    }

    async fn sweep_uploads(&self, idle: Duration) -> Result<u64> {
        let root = self.root.clone();
        blocking(move || {
            files::sweep_uploads(&root, idle).map_err(|e| StoreError::delete(&root, e))
        })
        .await
    }

    fn grace(&self) -> Duration {
        GRACE
    }
}

struct Deleting<'a> {
    local: &'a Local,
    doomed: &'a [Name],
    _alone: Alone<'a>,
}

#[async_trait]
impl Sweep for Deleting<'_> {
    async fn look(&self) -> Result<Vec<(Name, Object)>> {
        let mut there = Vec::new();
        for name in self.doomed {
            if let Some(object) = self.local.head(*name).await? {
                there.push((*name, object));
            }
        }
        Ok(there)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    async fn delete(&self, names: &[Name]) -> Result<()> {
        for name in names {
            let location = name.location();
            match self.local.objects.delete(&location).await {
                Ok(()) => {}
                Err(e) if absent(&e) => {}
                Err(e) => return Err(self.local.failed(Act::Delete, &location, e)),
            }
        }
        Ok(())
    }

    async fn end(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marking_an_object_as_used_and_deleting_it_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        // As two processes would.
        let one = Local::open(dir.path()).await.unwrap();
        let other = Local::open(dir.path()).await.unwrap();
        let name = Name(Area::Blobs, Digest::of("blob"));
        let stored = one.objects.put(&name.location(), "blob".into()).await;
        stored.unwrap();
        let (names, wait) = ([name], Duration::from_millis(300));
        {
            let _deleting = other.sweep(&names).await.unwrap();
            let marked = tokio::time::timeout(wait, one.keep(&names)).await;
            assert!(marked.is_err());
        }
        let _marking = other.sweeping.together().await.unwrap();
        let swept = tokio::time::timeout(wait, one.sweep(&names)).await;
        assert!(swept.is_err());
    }
}
