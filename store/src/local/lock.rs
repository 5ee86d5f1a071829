//! Locks between the tasks of one process, and between processes that share a directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::{Result, StoreError};

/// How often another process' lock is tried. Locks are held for the time of a few file operations.
const RETRY: Duration = Duration::from_millis(3);

/// A lock that tasks and processes share or have alone. The file says nothing: it is there to be locked.
#[derive(Debug)]
pub(super) struct Lock {
    tasks: RwLock<()>,
    path: PathBuf,
}

/// Held together with others.
pub(super) struct Together<'a>(
    #[expect(dead_code)] RwLockReadGuard<'a, ()>,
    #[expect(dead_code)] File,
);

/// Held alone.
pub(super) struct Alone<'a>(
    #[expect(dead_code)] RwLockWriteGuard<'a, ()>,
    #[expect(dead_code)] File,
);

impl Lock {
    pub(super) fn new(root: &Path, name: &str) -> Self {
        Self {
            tasks: RwLock::default(),
            path: root.join(name),
        }
    }

    pub(super) async fn together(&self) -> Result<Together<'_>> {
        let task = self.tasks.read().await;
        let file = self.lock(FlockOperation::NonBlockingLockShared).await?;
        Ok(Together(task, file))
    }

    pub(super) async fn alone(&self) -> Result<Alone<'_>> {
        let task = self.tasks.write().await;
        let file = self.lock(FlockOperation::NonBlockingLockExclusive).await?;
        Ok(Alone(task, file))
    }

    /// The lock goes with the file, however its process ends.
    async fn lock(&self, operation: FlockOperation) -> Result<File> {
        let refused = |e| StoreError::write(&self.path, 0, e);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(refused)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(refused(error.into())),
            }
        }
    }
}
