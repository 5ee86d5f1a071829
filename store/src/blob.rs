//! Blobs: bytes by their digest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use loci_digest::{Digest, Hasher};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::error::{Result, StoreError, io_error};
use crate::layout::Area;
use crate::{Store, blocking, local};

/// Files above this are read twice (digest, then upload) and never held in memory whole.
const PART: u64 = 8 << 20;
/// How often an object that vanishes right after its upload is stored again.
const ATTEMPTS: u32 = 3;

/// What is where an object should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Kept,
    Absent,
    /// Known to be damaged, or of the wrong size.
    Damaged,
}

impl Store {
    /// Stores `bytes`, durably. When they are stored already nothing is written, but the object
    /// counts as new for [`Store::gc`]. An object of the wrong size, or one that a read found to be
    /// damaged, is replaced; other damage shows when the object is read.
    ///
    /// # Errors
    /// When writing fails; no half object is left.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest> {
        let digest = digest_of(bytes.clone()).await?;
        self.publish(Area::Blobs, &digest, bytes).await?;
        Ok(digest)
    }

    /// Stores a file as [`Store::put`] does, in pieces when it is large.
    ///
    /// # Errors
    /// As [`Store::put`]; and when `path` is no regular file, cannot be read, or changes meanwhile.
    pub async fn put_file(&self, path: &Path) -> Result<Digest> {
        self.put_sized(path).await.map(|(digest, _)| digest)
    }

    /// Stores a file, and returns its digest and size.
    pub(crate) async fn put_sized(&self, path: &Path) -> Result<(Digest, u64)> {
        let path = path.to_owned();
        let opened = path.clone();
        let (file, size) = blocking(move || open(&opened)).await?;
        if size <= PART {
            let bytes = blocking(move || read_small(file, &path)).await?;
            let size = bytes.len() as u64;
            return Ok((self.put(bytes).await?, size));
        }
        let read = path.clone();
        let (digest, size) =
            blocking(move || Digest::of_reader(&file).map_err(|e| StoreError::read(&read, e)))
                .await?;
        let mut attempt = 0;
        while self.keep(Area::Blobs, &digest, size).await? != Presence::Kept {
            attempt += 1;
            if attempt > ATTEMPTS {
                return Err(self.vanished(Area::Blobs, &digest, size));
            }
            self.upload_large(&path, &digest, size).await?;
            self.damaged().remove(&digest);
        }
        Ok((digest, size))
    }

    /// The bytes of a blob, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and [`StoreError::Corrupt`] when the bytes have another digest.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes> {
        self.read(Area::Blobs, digest)
            .await?
            .ok_or_else(|| self.not_found(Area::Blobs, digest))
    }

    /// Whether a blob or a manifest of this digest is stored. If so it counts as new for
    /// [`Store::gc`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn contains(&self, digest: &Digest) -> Result<bool> {
        let _shared = self.inner.sweeping.together().await?;
        Ok(self.touch_all(vec![*digest]).await?.is_none())
    }

    /// Opens a blob for reading, and tells its size. What is read is not verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; when the file cannot be opened.
    pub async fn open(&self, digest: &Digest) -> Result<(std::fs::File, u64)> {
        let path = self.file(Area::Blobs, digest);
        let opened = blocking(move || {
            let opened = std::fs::File::open(&path);
            match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
                Ok((size, file)) => Ok(Some((file, size))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(StoreError::read(&path, e)),
            }
        });
        opened
            .await?
            .ok_or_else(|| self.not_found(Area::Blobs, digest))
    }

    /// Puts a blob's content at `to`, replacing what is there, atomically. The file is read-only: it
    /// is a hard link into the store where the file system can, else a copy.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Corrupt`], with `to` left as it was; and when `to`
    /// cannot be written.
    pub async fn materialise(&self, digest: &Digest, to: &Path) -> Result<()> {
        let (from, expected, to) = (self.file(Area::Blobs, digest), *digest, to.to_owned());
        let source = from.clone();
        let found = blocking(move || match local::digest(&source) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::read(&source, e)),
        })
        .await?;
        match found {
            None => return Err(self.not_found(Area::Blobs, digest)),
            Some(found) => self.verified(Area::Blobs, digest, found)?,
        }
        blocking(move || {
            let size = from
                .metadata()
                .map_err(|e| StoreError::read(&from, e))?
                .len();
            local::place(&from, &to, &expected).map_err(|e| StoreError::write(&to, size, e))
        })
        .await
    }

    /// Stores `bytes` under `digest` unless they are there.
    pub(crate) async fn publish(&self, area: Area, digest: &Digest, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        let mut attempt = 0;
        loop {
            let mode = match self.keep(area, digest, size).await? {
                Presence::Kept => return Ok(()),
                Presence::Absent => PutMode::Create,
                Presence::Damaged => PutMode::Overwrite,
            };
            attempt += 1;
            if attempt > ATTEMPTS {
                return Err(self.vanished(area, digest, size));
            }
            let payload = PutPayload::from_bytes(bytes.clone());
            match self
                .inner
                .objects
                .put_opts(&area.location(digest), payload, mode.into())
                .await
            {
                Ok(_) => _ = self.damaged().remove(digest),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(e) => {
                    return Err(StoreError::write(
                        &self.file(area, digest),
                        size,
                        io_error(e),
                    ));
                }
            }
        }
    }

    /// Marks an object as used now when it is there whole.
    async fn keep(&self, area: Area, digest: &Digest, size: u64) -> Result<Presence> {
        let _shared = self.inner.sweeping.together().await?;
        if self.damaged().contains(digest) {
            return Ok(Presence::Damaged);
        }
        let path = self.file(area, digest);
        let found =
            blocking(move || local::touch(&path).map_err(|e| StoreError::write(&path, 0, e)))
                .await?;
        Ok(match found {
            None => Presence::Absent,
            Some(found) if found == size => Presence::Kept,
            Some(_) => Presence::Damaged,
        })
    }

    /// Marks blobs or manifests as used now, and returns one that is missing or damaged, if any.
    /// The caller holds `sweeping`.
    pub(crate) async fn touch_all(&self, digests: Vec<Digest>) -> Result<Option<Digest>> {
        if let Some(damaged) = digests.iter().find(|d| self.damaged().contains(d)) {
            return Ok(Some(*damaged));
        }
        let store = self.clone();
        blocking(move || {
            for digest in digests {
                let mut found = false;
                for path in [
                    store.file(Area::Blobs, &digest),
                    store.file(Area::Manifests, &digest),
                ] {
                    found |= local::touch(&path)
                        .map_err(|e| StoreError::write(&path, 0, e))?
                        .is_some();
                }
                if !found {
                    return Ok(Some(digest));
                }
            }
            Ok(None)
        })
        .await
    }

    /// The verified bytes of an object of an area named by content; none when it is absent.
    pub(crate) async fn read(&self, area: Area, digest: &Digest) -> Result<Option<Bytes>> {
        let failed = |e| StoreError::read(&self.file(area, digest), io_error(e));
        let bytes = match self.inner.objects.get(&area.location(digest)).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        self.verified(area, digest, digest_of(bytes.clone()).await?)?;
        Ok(Some(bytes))
    }

    /// Compares what was read with what was asked for, and remembers damage.
    fn verified(&self, area: Area, digest: &Digest, found: Digest) -> Result<()> {
        if found == *digest {
            self.damaged().remove(digest);
            return Ok(());
        }
        let path = self.file(area, digest);
        tracing::error!(%digest, %found, path = %path.display(), "damaged object");
        self.damaged().insert(*digest);
        Err(StoreError::Corrupt {
            digest: *digest,
            path,
            found,
        })
    }

    async fn upload_large(&self, path: &Path, digest: &Digest, size: u64) -> Result<()> {
        let target = self.file(Area::Blobs, digest);
        let failed = |e| StoreError::write(&target, size, io_error(e));
        let mut upload = self
            .inner
            .objects
            .put_multipart(&Area::Blobs.location(digest))
            .await
            .map_err(failed)?;
        let sent = send(upload.as_mut(), path, &target, size)
            .await
            .and_then(|found| {
                if found == *digest {
                    Ok(())
                } else {
                    Err(StoreError::Changed {
                        path: path.to_owned(),
                    })
                }
            });
        match sent {
            Ok(()) => upload.complete().await.map(|_| ()).map_err(failed),
            Err(e) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(error = %abort, path = %target.display(), "an upload could not be cleaned up");
                }
                Err(e)
            }
        }
    }

    pub(crate) fn not_found(&self, area: Area, digest: &Digest) -> StoreError {
        StoreError::NotFound {
            digest: *digest,
            path: self.file(area, digest),
        }
    }

    fn vanished(&self, area: Area, digest: &Digest, size: u64) -> StoreError {
        let error = std::io::Error::other(
            "it was gone or of another size right after it was written, several times",
        );
        StoreError::write(&self.file(area, digest), size, error)
    }
}

/// Uploads the file in parts, and returns the digest of what was sent.
async fn send(
    upload: &mut dyn MultipartUpload,
    path: &Path,
    target: &Path,
    size: u64,
) -> Result<Digest> {
    let opened = path.to_owned();
    let (mut file, _) = blocking(move || open(&opened)).await?;
    let mut hasher = Hasher::default();
    loop {
        let source: PathBuf = path.to_owned();
        let part;
        (file, hasher, part) = blocking(move || {
            let mut part = Vec::with_capacity(PART as usize);
            (&mut file)
                .take(PART)
                .read_to_end(&mut part)
                .map_err(|e| StoreError::read(&source, e))?;
            hasher.update(&part);
            Ok((file, hasher, part))
        })
        .await?;
        if part.is_empty() {
            return Ok(hasher.finish());
        }
        upload
            .put_part(part.into())
            .await
            .map_err(|e| StoreError::write(target, size, io_error(e)))?;
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    let kind = path.metadata().map_err(|e| StoreError::read(path, e))?;
    if !kind.is_file() {
        return Err(StoreError::NotAFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(|e| StoreError::read(path, e))?;
    Ok((file, kind.len()))
}

fn read_small(file: File, path: &Path) -> Result<Bytes> {
    let mut bytes = Vec::new();
    file.take(2 * PART)
        .read_to_end(&mut bytes)
        .map_err(|e| StoreError::read(path, e))?;
    if bytes.len() as u64 == 2 * PART {
        return Err(StoreError::Changed {
            path: path.to_owned(),
        });
    }
    Ok(bytes.into())
}

async fn digest_of(bytes: Bytes) -> Result<Digest> {
    blocking(move || Ok(Digest::of(&bytes))).await
}
