//! What steps need of their surroundings.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use loci_bus::{Lease, Unit};
use loci_digest::Digest;
use loci_models::{DeviceRequest, Encoder, HubOptions, ModelRef};
use loci_store::Store;
use tokio_util::sync::CancellationToken;

use super::{Decoders, REVISION, RevisionManifest, StepError, blocking};

/// The surroundings of a worker's steps.
#[derive(Clone)]
pub struct StepContext {
    /// Artefacts.
    pub store: Store,
    /// Models that turn text into vectors, loaded once.
    pub encoders: Encoders,
    /// Models that answer, loaded once.
    pub decoders: Decoders,
    /// Revisions, unpacked once.
    pub revisions: Revisions,
    /// Called between batches of bulk work; may block while queries run.
    pub pace: Arc<dyn Fn() + Send + Sync>,
}

/// Tells the bus how far a step is, and hears when to stop.
#[derive(Clone)]
pub struct Reporter {
    bus: loci_bus::Reporter,
    stop: CancellationToken,
}

impl Reporter {
    /// Of a lease.
    pub fn new(lease: &Lease) -> Self {
        Self {
            bus: lease.reporter(),
            stop: lease.cancelled(),
        }
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

    /// Fails when the step should stop.
    pub(super) fn check(&self) -> Result<(), StepError> {
        if self.stop.is_cancelled() {
            Err(StepError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// The same for callbacks.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        if self.stop.is_cancelled() {
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
        self.stop
            .run_until_cancelled(work)
            .await
            .ok_or(StepError::Cancelled)
    }
}

/// Encoders by model reference.
#[derive(Clone)]
pub struct Encoders {
    hub: Arc<HubOptions>,
    device: DeviceRequest,
    loaded: Arc<tokio::sync::Mutex<HashMap<String, Arc<Encoder>>>>,
}

impl Encoders {
    /// Loads from `hub` onto `device`.
    pub fn new(hub: HubOptions, device: DeviceRequest) -> Self {
        Self {
            hub: Arc::new(hub),
            device,
            loaded: Arc::default(),
        }
    }

    /// The memory that loading `model` takes at its peak: its weights as they are stored and as they are computed with.
    /// None when it is loaded. The model is fetched for that.
    ///
    /// # Errors
    /// When the reference is wrong or the model cannot be had.
    pub async fn weight(&self, model: &str) -> Result<u64, StepError> {
        if self.loaded.lock().await.contains_key(model) {
            return Ok(0);
        }
        let directory = loci_models::fetch(&model.parse()?, &self.hub).await?;
        let bytes = blocking(move || weights(&directory).map_err(|e| file(&directory, e)));
        Ok(2 * bytes.await?)
    }

    /// The encoder of `model`, fetched and loaded at the first call.
    ///
    /// # Errors
    /// When the reference is wrong, the model cannot be had or does not load.
    pub async fn get(&self, model: &str) -> Result<Arc<Encoder>, StepError> {
        let mut loaded = self.loaded.lock().await;
        if let Some(encoder) = loaded.get(model) {
            return Ok(encoder.clone());
        }
        let reference: ModelRef = model.parse()?;
        let directory = loci_models::fetch(&reference, &self.hub).await?;
        let device = self.device;
        let encoder = blocking(move || Ok(Arc::new(Encoder::load(&directory, device)?))).await?;
        loaded.insert(model.to_owned(), encoder.clone());
        Ok(encoder)
    }
}

/// The bytes of all weights below a model's directory.
fn weights(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        // A hub's cache holds links.
        let metadata = std::fs::metadata(&path)?;
        if metadata.is_dir() {
            bytes += weights(&path)?;
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
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

fn file(path: &Path, error: std::io::Error) -> StepError {
    StepError::File {
        path: path.display().to_string(),
        error,
    }
}
