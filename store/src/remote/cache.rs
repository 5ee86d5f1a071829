//! Local copies of blobs, verified when they come in. Revisions are hard links to them, so that what revisions share is
//! fetched once; a copy that nothing links to goes when it has not been asked for a while.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use loci_digest::{Digest, Hasher};
use tokio::io::AsyncWriteExt;

use crate::error::{Result, StoreError};
use crate::{blocking, lock};

/// How long a copy that nothing links to is kept, and how often that is looked at.
const KEPT: Duration = Duration::from_secs(3600);
const TIDY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    tidied: Mutex<Option<Instant>>,
}

impl Cache {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            tidied: Mutex::default(),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let (folder, file) = hex.split_at(2);
        self.dir.join(folder).join(file)
    }

    /// The copy of a blob, if there is one.
    pub(super) async fn get(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        let path = self.path(digest);
        blocking(move || {
            let used = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            match used {
                Ok(()) => Ok(Some(path)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(StoreError::read(&path, e)),
            }
        })
        .await
    }

    /// Takes in a blob; what has another digest, which is returned, is not kept.
    pub(super) async fn put(
        &self,
        digest: &Digest,
        mut bytes: impl Stream<Item = Result<Bytes>> + Unpin,
    ) -> Result<Result<PathBuf, Digest>> {
        let path = self.path(digest);
        self.tidy().await?;
        let failed = |e: io::Error| StoreError::write(&path, 0, e);
        let folder = path.parent().unwrap_or(&self.dir).to_owned();
        let made = blocking({
            let path = path.clone();
            move || {
                let made = fs::create_dir_all(&folder);
                made.and_then(|()| tempfile::NamedTempFile::new_in(&folder))
                    .map_err(|e| StoreError::write(&path, 0, e))
            }
        });
        let made = made.await?;
        let mut out = tokio::fs::File::from_std(made.reopen().map_err(failed)?);
        let mut hasher = Hasher::default();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            out.write_all(&chunk).await.map_err(failed)?;
        }
        out.flush().await.map_err(failed)?;
        let found = hasher.finish();
        if found != *digest {
            return Ok(Err(found));
        }
        blocking(move || {
            let target = path.clone();
            let placed = made
                .as_file()
                .set_permissions(Permissions::from_mode(0o444))
                .and_then(|()| made.persist(&path).map_err(|e| e.error));
            placed.map_err(|e| StoreError::write(&target, 0, e))?;
            Ok(Ok(target))
        })
        .await
    }

    /// Drops a copy; false when there is none.
    pub(super) async fn forget(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::delete(&path, e)),
        })
        .await
    }

    /// Deletes copies that nothing links to, from time to time.
    async fn tidy(&self) -> Result<()> {
        {
            let mut tidied = lock(&self.tidied);
            if tidied.is_some_and(|at| at.elapsed() < TIDY) {
                return Ok(());
            }
            *tidied = Some(Instant::now());
        }
        let dir = self.dir.clone();
        blocking(move || tidy(&dir, KEPT).map_err(|e| StoreError::delete(&dir, e))).await
    }
}

fn tidy(dir: &Path, kept: Duration) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            tidy(&entry.path(), kept)?;
            continue;
        }
        let idle = metadata.modified()?.elapsed().unwrap_or_default();
        if metadata.nlink() == 1 && idle >= kept {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
