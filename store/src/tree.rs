//! Trees: directories of files, each a blob.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::{Store, blocking};

/// Files below this are always digested: it costs next to nothing, and only large files are surely
/// never rewritten under one name.
const TRUSTED: u64 = 64 << 10;
/// Files handled at once.
const PARALLEL: usize = 4;

/// A file of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The blob that holds its content.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// Relative path, parted by `/`, to file. Empty directories are not part of a tree.
pub type Tree = BTreeMap<String, FileEntry>;

struct Found {
    name: String,
    path: PathBuf,
    size: u64,
}

impl Store {
    /// Stores all files below `dir`. Files of 64 KiB and more whose name and size are in `known` and
    /// whose blob is stored are taken to be immutable, and are not read again.
    ///
    /// # Errors
    /// [`StoreError::NotAFile`] for links, devices and the like; [`StoreError::TreePath`] for names
    /// that are not UTF-8; as [`Store::put_file`].
    pub async fn put_tree(&self, dir: &Path, known: &Tree) -> Result<Tree> {
        let root = dir.to_owned();
        let files = blocking(move || walk(&root)).await?;
        stream::iter(files.into_iter().map(|file| {
            let known = known.get(&file.name).copied();
            async move {
                let entry = self.put_entry(&file, known).await?;
                Ok((file.name, entry))
            }
        }))
        .buffered(PARALLEL)
        .try_collect()
        .await
    }

    /// Makes `dir` hold the files of `tree`, read-only and verified as by [`Store::materialise`]. A
    /// new `dir` appears whole or not at all; in a `dir` that exists, files are replaced one by one
    /// and other files are left alone.
    ///
    /// # Errors
    /// [`StoreError::TreePath`] for a path that leaves `dir`; as [`Store::materialise`].
    pub async fn materialise_tree(&self, tree: &Tree, dir: &Path) -> Result<()> {
        if let Some(path) = tree.keys().find(|path| !stays_inside(path)) {
            return Err(StoreError::TreePath { path: path.clone() });
        }
        if dir.exists() {
            return self.place_all(tree, dir).await;
        }
        let target = dir.to_owned();
        let partial = blocking(move || {
            let parent = target
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            std::fs::create_dir_all(parent)
                .and_then(|()| {
                    tempfile::Builder::new()
                        .prefix(".loci-")
                        .suffix(".partial")
                        .permissions(Permissions::from_mode(0o777)) // less the umask
                        .tempdir_in(parent)
                })
                .map_err(|e| StoreError::write(&target, 0, e))
        })
        .await?;
        self.place_all(tree, partial.path()).await?;
        if std::fs::rename(partial.path(), dir).is_ok() {
            return Ok(());
        }
        // Someone made the directory meanwhile.
        self.place_all(tree, dir).await
    }

    async fn put_entry(&self, file: &Found, known: Option<FileEntry>) -> Result<FileEntry> {
        if let Some(entry) = known.filter(|entry| entry.size == file.size && file.size >= TRUSTED)
            && self.contains(&entry.digest).await?
        {
            return Ok(entry);
        }
        let (digest, size) = self.put_sized(&file.path).await?;
        Ok(FileEntry { digest, size })
    }

    async fn place_all(&self, tree: &Tree, dir: &Path) -> Result<()> {
        // All of them, whatever fails: nothing may still be at work when this returns, and one pass
        // finds all damage.
        let files: Vec<(PathBuf, Digest)> = tree
            .iter()
            .map(|(name, entry)| (dir.join(name), entry.digest))
            .collect();
        let placed: Vec<Result<()>> = stream::iter(files)
            .map(|(path, digest)| async move { self.materialise(&digest, &path).await })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        placed.into_iter().collect()
    }
}

fn stays_inside(path: &str) -> bool {
    let plain = |part| matches!(part, Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(plain) && !path.contains('\0')
}

/// All regular files below `root`.
fn walk(root: &Path) -> Result<Vec<Found>> {
    let (mut files, mut open) = (Vec::new(), vec![(root.to_owned(), String::new())]);
    while let Some((dir, prefix)) = open.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| StoreError::read(&dir, e))? {
            let entry = entry.map_err(|e| StoreError::read(&dir, e))?;
            let path = entry.path();
            let Some(name) = entry
                .file_name()
                .to_str()
                .map(|name| format!("{prefix}{name}"))
            else {
                return Err(StoreError::TreePath {
                    path: path.display().to_string(),
                });
            };
            let metadata = entry.metadata().map_err(|e| StoreError::read(&path, e))?;
            if metadata.is_dir() {
                open.push((path, format!("{name}/")));
            } else if metadata.is_file() {
                files.push(Found {
                    name,
                    path,
                    size: metadata.len(),
                });
            } else {
                return Err(StoreError::NotAFile { path });
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_tree() {
        for good in ["a", "a/b.idx", ".hidden/x"] {
            assert!(stays_inside(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "./a", "a\0b"] {
            assert!(!stays_inside(bad), "{bad:?}");
        }
    }
}
