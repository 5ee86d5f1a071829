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
//! A store is in a directory, which processes of a machine share, or in a bucket of an S3 server, which needs no shared
//! volume. Damage is noticed by each process for itself.

mod address;
mod backend;
mod blob;
mod document;
mod error;
mod gc;
mod layout;
mod local;
mod manifest;
mod record;
mod remote;
mod tree;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loci_digest::Digest;
use object_store::path::Path as Location;
use object_store::{ObjectStoreExt, PutMode};

pub use address::{StoreUrl, StoreUrlError};
pub use document::Version;
pub use error::{Result, StoreError};
pub use gc::GcReport;
pub use remote::{Cause, RemoteOptions, explain};
pub use tree::{FileEntry, Tree};

use backend::{Act, Backend, Stored};
use layout::{Area, FORMAT, FORMAT_FILE};
use local::Local;
use remote::Remote;

/// A content-addressed store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Box<dyn Backend>,
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
    /// Opens the store at `url`, and makes it when there is none. `remote` says how to reach what is not a directory.
    ///
    /// # Errors
    /// When something else is there, or a store of another format; when it cannot be reached, read or written.
    pub async fn open(url: &StoreUrl, remote: RemoteOptions) -> Result<Self> {
        match url {
            StoreUrl::Directory(dir) => Self::open_local(dir).await,
            StoreUrl::S3 { bucket, prefix } => {
                Self::over(Box::new(Remote::open(bucket, prefix, remote)?)).await
            }
        }
    }

    /// Opens the store in `dir`, and makes it when there is none.
    ///
    /// # Errors
    /// When `dir` holds something else, or a store of another format, or cannot be read or written.
    pub async fn open_local(dir: &Path) -> Result<Self> {
        Self::over(Box::new(Local::open(dir).await?)).await
    }

    async fn over(backend: Box<dyn Backend>) -> Result<Self> {
        check_format(&*backend).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                damaged: Mutex::default(),
            }),
        })
    }

    /// How long a collection should keep what nothing names yet, see [`Store::gc`]: a step that is about to name it may be
    /// running.
    pub fn grace(&self) -> Duration {
        self.backend().grace()
    }

    /// Counts what is stored.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for area in Area::ALL {
            for (_, object) in self.backend().list(area).await? {
                usage.objects += 1;
                usage.bytes += object.size;
            }
        }
        Ok(usage)
    }

    fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }

    /// Where an object is, for people.
    fn place(&self, area: Area, digest: &Digest) -> String {
        self.backend().place(&area.location(digest))
    }

    /// Whether an object is there, without reading it.
    async fn has(&self, area: Area, digest: &Digest) -> Result<bool> {
        let location = area.location(digest);
        match self.backend().objects().head(&location).await {
            Ok(_) => Ok(true),
            Err(e) if absent(&e) => Ok(false),
            Err(e) => Err(self.backend().failed(Act::Read, &location, e)),
        }
    }

    /// What is stored at a location, unverified.
    async fn stored(&self, location: &Location) -> Result<Option<Stored>> {
        read(self.backend(), location).await
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Digest>> {
        lock(&self.inner.damaged)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.backend.fmt(f)
    }
}

async fn read(backend: &dyn Backend, location: &Location) -> Result<Option<Stored>> {
    let failed = |e| backend.failed(Act::Read, location, e);
    match backend.objects().get(location).await {
        Ok(found) => Ok(Some(Stored {
            version: found.meta.e_tag.clone(),
            bytes: found.bytes().await.map_err(failed)?,
        })),
        Err(e) if absent(&e) => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

/// Reads the format marker, and writes it into an empty place.
async fn check_format(backend: &dyn Backend) -> Result<()> {
    let location = Location::from(FORMAT_FILE);
    let mut found = read(backend, &location).await?;
    if found.is_none() && backend.occupied().await? {
        // Unless someone made a store just now.
        found = read(backend, &location).await?;
        if found.is_none() {
            let place = backend.place(&Location::default());
            return Err(StoreError::NotAStore { place });
        }
    }
    if let Some(found) = found {
        let found = String::from_utf8_lossy(&found.bytes);
        let found: String = found.trim().chars().take(80).collect();
        return match found == FORMAT {
            true => Ok(()),
            false => Err(StoreError::Format {
                place: backend.place(&location),
                found,
                expected: FORMAT,
            }),
        };
    }
    let content = format!("{FORMAT}\n");
    let bytes = content.len() as u64;
    let written = backend.objects();
    let written = written.put_opts(&location, content.into(), PutMode::Create.into());
    match written.await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(e) => Err(backend.failed(Act::Write(bytes), &location, e)),
    }
}

/// Whether this says that an object is not there.
fn absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !remote::not_object(error)
}

/// Locks what no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
