//! Revisions as directories.

use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loci_digest::Digest;
use loci_store::Store;
use tempfile::TempDir;

use super::{REVISION, RevisionManifest, StepError};

/// Revisions as directories of this machine.
#[derive(Clone)]
pub struct Revisions {
    root: PathBuf,
    store: Store,
    busy: Arc<tokio::sync::Mutex<()>>,
    used: Used,
}

/// The directories that nobody may delete, each as often as it is in use.
type Used = Arc<Mutex<Vec<PathBuf>>>;

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

    /// The directory of a revision, unpacked from the store at the first call; it stays while it is in use.
    ///
    /// # Errors
    /// When a file is missing in the store, damaged, or the disk is full.
    pub async fn directory(&self, digest: &Digest) -> Result<Directory, StepError> {
        let _one_at_a_time = self.busy.lock().await;
        let hold = self.hold(*digest);
        let path = self.path(digest);
        if !path.is_dir() {
            let manifest = self.manifest(digest).await?;
            let unpacked = self.scratch()?;
            self.store
                .materialise_tree(&manifest.tree, &unpacked)
                .await?;
            unpacked.place(&path)?;
        }
        Ok(Directory { path, _hold: hold })
    }

    /// Takes over a directory that holds the revision already.
    pub(super) async fn adopt(&self, digest: &Digest, directory: Scratch) -> Result<(), StepError> {
        let _one_at_a_time = self.busy.lock().await;
        let path = self.path(digest);
        if !path.is_dir() {
            directory.place(&path)?;
        }
        Ok(())
    }

    /// Deletes all directories but those of `keep` and those in use; revisions can be unpacked again.
    ///
    /// # Errors
    /// When the directory cannot be listed or a revision cannot be deleted.
    pub async fn sweep(&self, keep: &[Digest]) -> Result<(), StepError> {
        let _one_at_a_time = self.busy.lock().await;
        let keep: Vec<PathBuf> = keep.iter().map(|digest| self.path(digest)).collect();
        for entry in std::fs::read_dir(&self.root).map_err(|e| file(&self.root, e))? {
            let path = entry.map_err(|e| file(&self.root, e))?.path();
            if !keep.contains(&path) && !lock(&self.used).contains(&path) {
                match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(file(&path, error));
                    }
                    // Or its owner was faster.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Protects a revision from [`Revisions::sweep`] until the guard is dropped.
    fn hold(&self, digest: Digest) -> Hold {
        let path = self.path(&digest);
        self.hold_in(&mut lock(&self.used), path)
    }

    fn hold_in(&self, used: &mut Vec<PathBuf>, path: PathBuf) -> Hold {
        used.push(path.clone());
        let used = self.used.clone();
        Hold { used, path }
    }

    /// A new directory on the same file system.
    pub(super) fn scratch(&self) -> Result<Scratch, StepError> {
        std::fs::create_dir_all(&self.root).map_err(|e| file(&self.root, e))?;
        // None is looked for between its making and its hold.
        let mut used = lock(&self.used);
        let directory = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.root)
            .map_err(|e| file(&self.root, e))?;
        let hold = self.hold_in(&mut used, directory.path().to_owned());
        Ok(Scratch {
            directory,
            _hold: hold,
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.to_hex())
    }
}

/// The directory of a revision, which stays until this is dropped.
pub struct Directory {
    path: PathBuf,
    _hold: Hold,
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Directory {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// A directory that is being filled, and is deleted when this is dropped.
pub(super) struct Scratch {
    directory: TempDir,
    _hold: Hold,
}

impl Scratch {
    /// Gives it its place.
    fn place(self, to: &Path) -> Result<(), StepError> {
        let from = self.directory.keep();
        std::fs::rename(&from, to).map_err(|e| file(to, e))
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.directory.path()
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        self.directory.path()
    }
}

/// Keeps a directory while it is in use.
struct Hold {
    used: Used,
    path: PathBuf,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        if let Some(at) = used.iter().position(|path| *path == self.path) {
            used.swap_remove(at);
        }
    }
}

fn lock(used: &Mutex<Vec<PathBuf>>) -> MutexGuard<'_, Vec<PathBuf>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn file(path: &Path, error: std::io::Error) -> StepError {
    StepError::File {
        path: path.display().to_string(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many pipelines share one directory, and one collects while others build.
    #[tokio::test]
    async fn what_is_in_use_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_local(&dir.path().join("store")).await.unwrap();
        let revisions = Revisions::new(dir.path().join("revisions"), store);
        let (kept, held, other) = (Digest::of("kept"), Digest::of("held"), Digest::of("other"));
        let there = |digest: &Digest| revisions.path(digest).is_dir();

        let made = revisions.scratch().unwrap();
        std::fs::write(made.join("a"), "a").unwrap();
        revisions.sweep(&[]).await.unwrap();
        assert!(made.join("a").is_file());
        revisions.adopt(&kept, made).await.unwrap();
        for digest in [&held, &other] {
            let made = revisions.scratch().unwrap();
            revisions.adopt(digest, made).await.unwrap();
        }
        let directory = revisions.directory(&held).await.unwrap();
        let hold = revisions.hold(held);
        drop(revisions.scratch().unwrap());
        revisions.sweep(&[kept]).await.unwrap();
        assert!(there(&kept) && there(&held) && !there(&other));
        drop(directory);
        revisions.sweep(&[kept]).await.unwrap();
        assert!(there(&held));
        drop(hold);
        revisions.sweep(&[kept]).await.unwrap();
        assert!(!there(&held) && there(&kept));
        assert!(lock(&revisions.used).is_empty());
        assert_eq!(std::fs::read_dir(&revisions.root).unwrap().count(), 1);
    }
}
