//! What was fetched of a commit, with digests, so that a damaged cache is noticed before it is used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// The files of one commit in the cache, by path, with the digests they had when they were fetched.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Record {
    pub files: BTreeMap<String, Digest>,
}

impl Record {
    /// The record at `path`; `None` when there is none, or none that can be read (it is then fetched anew).
    pub fn read(path: &Path) -> Result<Option<Self>, ModelError> {
        match fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ModelError::io(path, e)),
        }
    }

    /// Writes the record, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), ModelError> {
        let failed = |e| ModelError::io(path, e);
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        serde_json::to_writer_pretty(&mut file, self).map_err(|e| failed(e.into()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// The files in `dir` that are missing or differ from the record.
    pub fn damaged(&self, dir: &Path) -> Vec<PathBuf> {
        let intact =
            |path: &Path, digest: &Digest| digest_of(path).is_ok_and(|found| found == *digest);
        let files = self
            .files
            .iter()
            .map(|(name, digest)| (dir.join(name), digest));
        files
            .filter(|(path, digest)| !intact(path, digest))
            .map(|(path, _)| path)
            .collect()
    }
}

/// The digest of a file's content.
pub(super) fn digest_of(path: &Path) -> Result<Digest, ModelError> {
    let failed = |e| ModelError::io(path, e);
    let file = File::open(path).map_err(failed)?;
    Ok(Digest::of_reader(file).map_err(failed)?.0)
}
