//! Blobs: bytes by their digest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use loci_digest::{Digest, Hasher};
use object_store::{MultipartUpload, ObjectStoreExt, PutMode};
use url::Url;

use crate::backend::Act;
use crate::error::{Result, StoreError};
use crate::layout::{Area, Name};
use crate::{Store, blocking, local, remote};

/// Files above this are read twice (digest, then upload) and never held in memory whole.
const PART: u64 = 8 << 20;
/// How often an object that vanishes right after its upload is stored again.
const ATTEMPTS: u32 = 5;
const AGAIN: Duration = Duration::from_millis(50);

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
            if self.backend().stands(Name(Area::Blobs, digest)).await? {
                break;
            }
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
        Ok(self.touch_all(&[*digest]).await?.is_none())
    }

    /// Opens a blob for reading, and tells its size. What is read is not verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; when the file cannot be opened.
    pub async fn open_blob(&self, digest: &Digest) -> Result<(std::fs::File, u64)> {
        let path = self.local_file(digest).await?;
        blocking(move || open(&path)).await
    }

    /// A URL that anybody may read a blob at until it expires; none where only this process can read it for others.
    ///
    /// # Errors
    /// When credentials cannot be had.
    pub async fn link(&self, digest: &Digest, expires: Duration) -> Result<Option<Url>> {
        self.backend().link(digest, expires).await
    }

    /// Puts a blob's content at `to`, replacing what is there, atomically. The file is read-only: it
    /// is a hard link into the store, or a local copy of its blobs, where the file system can, else a copy.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Corrupt`], with `to` left as it was; and when `to`
    /// cannot be written.
    pub async fn materialise(&self, digest: &Digest, to: &Path) -> Result<()> {
        let from = loop {
            let from = self.local_file(digest).await?;
            let source = from.clone();
            let found =
                blocking(move || local::digest(&source).map_err(|e| StoreError::read(&source, e)));
            let found = found.await?;
            if found == *digest || !self.backend().forget(digest).await? {
                self.verified(Area::Blobs, digest, found)?;
                break from;
            }
        };
        let (expected, to) = (*digest, to.to_owned());
        blocking(move || {
            let size = from
                .metadata()
                .map_err(|e| StoreError::read(&from, e))?
                .len();
            local::place(&from, &to, &expected).map_err(|e| StoreError::write(&to, size, e))
        })
        .await
    }

    async fn local_file(&self, digest: &Digest) -> Result<PathBuf> {
        match self.backend().file(digest).await {
            Ok(path) => path.ok_or_else(|| self.not_found(Area::Blobs, digest)),
            Err(StoreError::Corrupt { found, .. }) => Err(self.corrupt(Area::Blobs, digest, found)),
            Err(e) => Err(e),
        }
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
            if attempt > 1 {
                // Another writer of the same may be about to be done.
                tokio::time::sleep(AGAIN * attempt).await;
            }
            let (location, payload) = (area.location(digest), bytes.clone().into());
            let objects = self.backend().objects();
            match objects.put_opts(&location, payload, mode.into()).await {
                Ok(_) => _ = self.damaged().remove(digest),
                Err(object_store::Error::AlreadyExists { .. }) => continue,
                // It may be there: that is looked at.
                Err(e) if remote::unanswered(&e) && attempt < ATTEMPTS => continue,
                Err(e) => return Err(self.backend().failed(Act::Write(size), &location, e)),
            }
            if self.backend().stands(Name(area, *digest)).await? {
                return Ok(());
            }
        }
    }

    /// Marks an object as used now when it is there whole.
    async fn keep(&self, area: Area, digest: &Digest, size: u64) -> Result<Presence> {
        if self.damaged().contains(digest) {
            return Ok(Presence::Damaged);
        }
        let found = self.backend().keep(&[Name(area, *digest)]).await?;
        Ok(match found.first().copied().flatten() {
            None => Presence::Absent,
            Some(found) if found == size => Presence::Kept,
            Some(_) => Presence::Damaged,
        })
    }

    /// Marks blobs or manifests as used now, and returns one that is missing or damaged, if any.
    pub(crate) async fn touch_all(&self, digests: &[Digest]) -> Result<Option<Digest>> {
        if let Some(damaged) = digests.iter().find(|d| self.damaged().contains(d)) {
            return Ok(Some(*damaged));
        }
        let both = |d: &Digest| [Name(Area::Blobs, *d), Name(Area::Manifests, *d)];
        let names: Vec<Name> = digests.iter().flat_map(both).collect();
        let found = self.backend().keep(&names).await?;
        let missing = found
            .chunks(2)
            .position(|pair| pair.iter().all(Option::is_none));
        Ok(missing.and_then(|at| digests.get(at).copied()))
    }

    /// The verified bytes of an object of an area named by content; none when it is absent.
    pub(crate) async fn read(&self, area: Area, digest: &Digest) -> Result<Option<Bytes>> {
        let Some(stored) = self.stored(&area.location(digest)).await? else {
            return Ok(None);
        };
        self.verified(area, digest, digest_of(stored.bytes.clone()).await?)?;
        Ok(Some(stored.bytes))
    }

    /// Compares what was read with what was asked for.
    fn verified(&self, area: Area, digest: &Digest, found: Digest) -> Result<()> {
        if found == *digest {
            self.damaged().remove(digest);
            return Ok(());
        }
        Err(self.corrupt(area, digest, found))
    }

    /// Remembers damage.
    fn corrupt(&self, area: Area, digest: &Digest, found: Digest) -> StoreError {
        let place = self.place(area, digest);
        tracing::error!(%digest, %found, place, "damaged object");
        self.damaged().insert(*digest);
        StoreError::Corrupt {
            digest: *digest,
            place,
            found,
        }
    }

    async fn upload_large(&self, path: &Path, digest: &Digest, size: u64) -> Result<()> {
        let location = Area::Blobs.location(digest);
        let failed = |e| self.backend().failed(Act::Write(size), &location, e);
        let objects = self.backend().objects();
        let mut upload = objects.put_multipart(&location).await.map_err(failed)?;
        let changed = || StoreError::Changed {
            path: path.to_owned(),
        };
        let sent = match send(upload.as_mut(), path, &failed).await {
            Ok(found) if found != *digest => Err(changed()),
            sent => sent.map(drop),
        };
        match sent {
            Ok(()) => upload.complete().await.map(drop).map_err(failed),
            Err(e) => {
                if let Err(abort) = upload.abort().await {
                    let place = self.place(Area::Blobs, digest);
                    tracing::warn!(error = %abort, place, "an upload could not be cleaned up");
                }
                Err(e)
            }
        }
    }

    pub(crate) fn not_found(&self, area: Area, digest: &Digest) -> StoreError {
        StoreError::NotFound {
            digest: *digest,
            place: self.place(area, digest),
        }
    }

    fn vanished(&self, area: Area, digest: &Digest, size: u64) -> StoreError {
        StoreError::Write {
            place: self.place(area, digest),
            bytes: size,
            source: std::io::Error::other(
                "it was gone or of another size right after it was written, several times",
            ),
        }
    }
}

/// Uploads the file in parts, and returns the digest of what was sent.
async fn send(
    upload: &mut dyn MultipartUpload,
    path: &Path,
    failed: &(impl Fn(object_store::Error) -> StoreError + Sync),
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
        upload.put_part(part.into()).await.map_err(failed)?;
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
