//! Content-addressed artefacts: blobs, manifests that name them, and records of what a step made.
//!
//! Everything is immutable and named by its SHA-256, so publishing is put-if-absent and every read
//! is verified. There are two exceptions. Records map the key of a step's input to the digest of its
//! output: the first writer wins, and a record whose output is gone counts as absent. Documents have
//! names and are replaced whole, by compare-and-swap; what they name is kept.
//!
//! An object is complete when it is there and all that it names is complete. Writers store what a
//! manifest names before the manifest; [`Store::gc`] deletes manifests before what they name. A step
//! may therefore rely on what [`Store::lookup`] gave it for as long as the grace of the collection.
//!
//! Processes may share a directory: what excludes each other is locked by `flock`, which local file
//! systems and NFSv4 know. Damage is noticed by each process for itself.

mod blob;
mod document;
mod error;
mod gc;
mod layout;
mod local;
mod lock;
mod manifest;
mod record;
mod tree;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt;
use loci_digest::Digest;
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

pub use document::Version;
pub use error::{Result, StoreError};
pub use gc::GcReport;
pub use tree::{FileEntry, Tree};

use error::io_error;
use layout::{Area, FORMAT, FORMAT_FILE};
use lock::Lock;

/// A content-addressed store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    objects: LocalFileSystem,
    root: PathBuf,
    /// Shared while an object is marked as used, exclusive while old objects are deleted: nothing is
    /// deleted between the mark and the answer that relies on it.
    sweeping: Lock,
    /// Held while a record whose output is gone is replaced.
    replacing: Lock,
    /// Objects found damaged: absent to all who ask, until storing their content replaces them.
    damaged: Mutex<HashSet<Digest>>,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs, manifests and records.
    pub objects: u64,
    /// Their sizes added up; files hard-linked elsewhere count once.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in `dir`, and makes it when there is none.
    ///
    /// # Errors
    /// When `dir` holds something else, or a store of another format, or cannot be read or written.
    pub async fn open_local(dir: &Path) -> Result<Self> {
        let root = dir.to_owned();
        let (objects, root) = blocking(move || {
            local::create_dir(&root).map_err(|e| StoreError::write(&root, 0, e))?;
            let root = root
                .canonicalize()
                .map_err(|e| StoreError::read(&root, e))?;
            let objects = LocalFileSystem::new_with_prefix(&root)
                .map_err(|e| StoreError::read(&root, io_error(e)))?
                .with_fsync(true);
            Ok((objects, root))
        })
        .await?;
        check_format(&objects, &root).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                objects,
                sweeping: Lock::new(&root, "sweeping.lock"),
                replacing: Lock::new(&root, "replacing.lock"),
                damaged: Mutex::default(),
                root,
            }),
        })
    }

    /// Counts what is stored.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for area in Area::ALL {
            for (_, object) in self.list(area).await? {
                usage.objects += 1;
                usage.bytes += object.size;
            }
        }
        Ok(usage)
    }

    /// The local file of an object.
    fn file(&self, area: Area, digest: &Digest) -> PathBuf {
        self.inner.root.join(area.location(digest).as_ref())
    }

    /// All objects of an area. Files that are not the store's are left out.
    async fn list(&self, area: Area) -> Result<Vec<(Digest, ObjectMeta)>> {
        let all = self.list_under(&area.prefix()).await?;
        Ok(all
            .into_iter()
            .filter_map(|o| Some((area.digest(&o.location)?, o)))
            .collect())
    }

    async fn list_under(&self, prefix: &object_store::path::Path) -> Result<Vec<ObjectMeta>> {
        let listed = self.inner.objects.list(Some(prefix)).try_collect().await;
        listed.map_err(|e| StoreError::read(&self.inner.root.join(prefix.as_ref()), io_error(e)))
    }

    /// What is known of an object without reading it; none when it is absent.
    async fn head(&self, area: Area, digest: &Digest) -> Result<Option<ObjectMeta>> {
        match self.inner.objects.head(&area.location(digest)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(StoreError::read(&self.file(area, digest), io_error(e))),
        }
    }

    /// Deletes an object; it may be gone already.
    async fn delete(&self, area: Area, digest: &Digest) -> Result<()> {
        match self.inner.objects.delete(&area.location(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(StoreError::delete(&self.file(area, digest), io_error(e))),
        }
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.inner
            .damaged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.inner.root)
            .finish_non_exhaustive()
    }
}

/// Reads the format marker, and writes it into an empty directory.
async fn check_format(objects: &LocalFileSystem, root: &Path) -> Result<()> {
    let (path, marker) = (
        object_store::path::Path::from(FORMAT_FILE),
        root.join(FORMAT_FILE),
    );
    match objects.get(&path).await {
        Ok(found) => {
            let found = found
                .bytes()
                .await
                .map_err(|e| StoreError::read(&marker, io_error(e)))?;
            let found = String::from_utf8_lossy(&found)
                .trim()
                .chars()
                .take(80)
                .collect::<String>();
            if found == FORMAT {
                Ok(())
            } else {
                Err(StoreError::Format {
                    path: marker,
                    found,
                    expected: FORMAT,
                })
            }
        }
        Err(object_store::Error::NotFound { .. }) => {
            let dir = root.to_owned();
            blocking(move || refuse_foreign(&dir)).await?;
            let content = format!("{FORMAT}\n");
            match objects
                .put_opts(&path, content.clone().into(), PutMode::Create.into())
                .await
            {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                Err(e) => Err(StoreError::write(
                    &marker,
                    content.len() as u64,
                    io_error(e),
                )),
            }
        }
        Err(e) => Err(StoreError::read(&marker, io_error(e))),
    }
}

fn refuse_foreign(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(|e| StoreError::read(dir, e))? {
        let path = entry.map_err(|e| StoreError::read(dir, e))?.path();
        // Another clone may be making the same store, or may have died while it did.
        if !local::is_upload(&path) && !path.ends_with(FORMAT_FILE) {
            return Err(StoreError::NotAStore {
                path: dir.to_owned(),
            });
        }
    }
    Ok(())
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(StoreError::read(
                Path::new("the store"),
                std::io::Error::other(e),
            )),
        },
    }
}
