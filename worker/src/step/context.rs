//! What steps need of their surroundings.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loci_bus::{Lease, Unit};
use loci_digest::Digest;
use loci_store::Store;
use tokio_util::sync::CancellationToken;

use super::models::{Decoders, Encoders};
use super::{REVISION, RevisionManifest, StepError};
use crate::document::Parsers;

/// The surroundings of a worker's steps.
#[derive(Clone)]
pub struct StepContext {
    /// Artefacts.
    pub store: Store,
    /// Models that embed.
    pub encoders: Encoders,
    /// Models that are trained and asked.
    pub decoders: Decoders,
    /// Who reads documents that are no text.
    pub parsers: Parsers,
    /// Revisions, unpacked once.
    pub revisions: Revisions,
    /// Called between batches of bulk work; may block while queries run.
    pub pace: Arc<dyn Fn() + Send + Sync>,
    /// How often a training writes down where it is: what a crash costs at most. [`CHECKPOINTS`] is what the shells take.
    pub checkpoints: Duration,
}

/// How often a training writes down where it is.
pub const CHECKPOINTS: Duration = Duration::from_secs(60);

/// Tells the bus how far a step is, and hears when to stop.
#[derive(Clone)]
pub struct Reporter {
    bus: loci_bus::Reporter,
    /// The work is not wanted any more, or not from this worker.
    unwanted: CancellationToken,
    /// This process is about to end.
    ending: CancellationToken,
    way: Way,
}

/// Why a step is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// Nobody wants its work any more, or not from this worker.
    Unwanted,
    /// This process is about to end, and another will go on.
    Ending,
    /// What is more urgent waits, and the step has offered to make way.
    Urgent,
}

/// Between a step that can make way for others and who knows when it should. All clones are the same.
#[derive(Clone, Default)]
pub struct Way(Arc<Flags>);

#[derive(Default)]
struct Flags {
    offered: AtomicBool,
    wanted: AtomicBool,
}

impl Way {
    /// Whether the step can stop at any moment and go on later.
    pub fn offered(&self) -> bool {
        self.0.offered.load(Ordering::Relaxed)
    }

    /// Asks the step to make way.
    pub fn ask(&self) {
        self.0.wanted.store(true, Ordering::Relaxed);
    }

    /// Says that the step can.
    pub(crate) fn offer(&self) {
        self.0.offered.store(true, Ordering::Relaxed);
    }
}

impl Reporter {
    /// Of a lease.
    pub fn new(lease: &Lease) -> Self {
        Self {
            bus: lease.reporter(),
            unwanted: lease.cancelled(),
            ending: CancellationToken::new(),
            way: Way::default(),
        }
    }

    /// The same, in a process that is about to end when `ending` fires.
    pub fn until(self, ending: CancellationToken) -> Self {
        Self { ending, ..self }
    }

    /// The same, for a step that may be asked to make way.
    pub fn with_way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// `done` of `total` units.
    pub(super) fn report(
        &self,
        done: u64,
        total: Option<u64>,
        unit: Unit,
        message: Option<String>,
    ) {
        self.bus.progress(done, total, unit, message);
    }

    /// The same, for a run that has used so many seconds on a device.
    pub(super) fn with_device_seconds(&self, seconds: u64) -> Self {
        Self {
            bus: self.bus.with_device_seconds(seconds),
            ..self.clone()
        }
    }

    /// Says that the step can make way: it keeps what it has done.
    pub(super) fn offer_way(&self) {
        self.way.offer();
    }

    /// Whether the step should stop, for whoever asks between two pieces of work.
    pub(super) fn halt(&self) -> Option<Halt> {
        if self.unwanted.is_cancelled() {
            Some(Halt::Unwanted)
        } else if self.ending.is_cancelled() {
            Some(Halt::Ending)
        } else if self.way.offered() && self.way.0.wanted.load(Ordering::Relaxed) {
            Some(Halt::Urgent)
        } else {
            None
        }
    }

    /// Fails when the step should stop.
    pub(super) fn check(&self) -> Result<(), StepError> {
        match self.flow() {
            ControlFlow::Break(()) => Err(StepError::Cancelled),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// The same for callbacks.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        if self.unwanted.is_cancelled() || self.ending.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Does `work` unless the step is told to stop before it is done.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, StepError> {
        tokio::select! {
            biased;
            () = self.unwanted.cancelled() => Err(StepError::Cancelled),
            () = self.ending.cancelled() => Err(StepError::Cancelled),
            done = work => Ok(done),
        }
    }
}

/// Revisions as directories of this machine.
#[derive(Clone)]
pub struct Revisions {
    root: PathBuf,
    store: Store,
    busy: Arc<tokio::sync::Mutex<()>>,
    used: Arc<Mutex<Vec<Digest>>>,
}

impl Revisions {
    /// Keeps them in `root`.
    pub fn new(root: PathBuf, store: Store) -> Self {
        Self {
            root,
            store,
            busy: Arc::default(),
            used: Arc::default(),
        }
    }

    /// The manifest of a revision.
    ///
    /// # Errors
    /// When it is not in the store, or damaged.
    pub async fn manifest(&self, digest: &Digest) -> Result<RevisionManifest, StepError> {
        Ok(self.store.get_manifest(REVISION, digest).await?)
    }

    /// The version by which what is found in a revision is put into another order; none where it is not.
    pub(super) async fn order(&self, digest: Option<&Digest>) -> Result<Option<u32>, StepError> {
        let Some(digest) = digest else {
            return Ok(None);
        };
        let says = self.manifest(digest).await?.info.rerank;
        Ok(says.map(|_| loci_rerank::VERSION))
    }

    /// The directory of a revision, unpacked from the store at the first call.
    ///
    /// # Errors
    /// When a file is missing in the store, damaged, or the disk is full.
    pub async fn directory(&self, digest: &Digest) -> Result<PathBuf, StepError> {
        let _one_at_a_time = self.busy.lock().await;
        let path = self.path(digest);
        if !path.is_dir() {
            let manifest = self.manifest(digest).await?;
            let unpacked = self.scratch()?;
            self.store
                .materialise_tree(&manifest.tree, unpacked.path())
                .await?;
            self.place(unpacked.keep(), &path)?;
        }
        Ok(path)
    }

    /// Takes over a directory that holds the revision already.
    pub(super) async fn adopt(
        &self,
        digest: &Digest,
        directory: tempfile::TempDir,
    ) -> Result<(), StepError> {
        let _one_at_a_time = self.busy.lock().await;
        let path = self.path(digest);
        if !path.is_dir() {
            self.place(directory.keep(), &path)?;
        }
        Ok(())
    }

    /// Deletes the directories of all revisions but `keep`; they can be unpacked again.
    ///
    /// # Errors
    /// When the directory cannot be listed or a revision cannot be deleted.
    pub async fn sweep(&self, keep: &[Digest]) -> Result<(), StepError> {
        let _one_at_a_time = self.busy.lock().await;
        let keep: Vec<PathBuf> = keep
            .iter()
            .chain(self.used().iter())
            .map(|d| self.path(d))
            .collect();
        for entry in std::fs::read_dir(&self.root).map_err(|e| file(&self.root, e))? {
            let path = entry.map_err(|e| file(&self.root, e))?.path();
            if !keep.contains(&path) {
                std::fs::remove_dir_all(&path).map_err(|e| file(&path, e))?;
            }
        }
        Ok(())
    }

    /// Protects a revision from [`Revisions::sweep`] until the guard is dropped.
    pub fn hold(&self, digest: Digest) -> Hold {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(digest);
        Hold {
            used: self.used.clone(),
            digest,
        }
    }

    fn used(&self) -> Vec<Digest> {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A new directory on the same file system.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, StepError> {
        std::fs::create_dir_all(&self.root).map_err(|e| file(&self.root, e))?;
        tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.root)
            .map_err(|e| file(&self.root, e))
    }

    fn place(&self, from: PathBuf, to: &Path) -> Result<(), StepError> {
        std::fs::rename(&from, to).map_err(|e| file(to, e))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.to_hex())
    }
}

/// Keeps a revision's directory while it is in use.
pub struct Hold {
    used: Arc<Mutex<Vec<Digest>>>,
    digest: Digest,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = used.iter().position(|d| *d == self.digest) {
            used.swap_remove(at);
        }
    }
}

pub(super) fn file(path: &Path, error: std::io::Error) -> StepError {
    StepError::File {
        path: path.display().to_string(),
        error,
    }
}
