//! JSON documents, each replaced whole: a reader sees the old or the new one, also after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::ResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How the names of files begin that were not written to their end.
const PARTIAL: &str = ".loci-";

/// Resources of one kind, a file each.
#[derive(Clone, Debug)]
pub struct Collection<K> {
    directory: PathBuf,
    kind: PhantomData<K>,
}

impl<K> Collection<K>
where
    K: kube::Resource + Serialize + DeserializeOwned,
{
    /// The resources in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            kind: PhantomData,
        }
    }

    /// All of them, oldest name first.
    pub fn list(&self) -> Result<Vec<K>> {
        let mut names = entries(&self.directory)?;
        names.retain(|name| name.ends_with(".json"));
        names.sort();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            found.extend(read_json(&self.directory.join(name))?);
        }
        Ok(found)
    }

    /// Creates or replaces one.
    pub fn put(&self, resource: &K) -> Result<()> {
        write_json(&self.file(&resource.name_any()), resource)
    }

    /// Deletes one; it is no error when it is gone.
    pub fn delete(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot delete {}", self.file(name).display()))
            }
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

/// Reads a document; `None` when there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_slice(&bytes).map(Some).with_context(|| {
        format!(
            "{} is damaged: restore it from a backup, or delete it to start that part anew",
            path.display()
        )
    })
}

/// Writes a document, making its directory when it is not there.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write_bytes(path, &bytes)
}

/// Replaces a file's bytes durably.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut partial = tempfile::Builder::new();
        let mut file = partial.prefix(PARTIAL).tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("cannot write {} ({} bytes)", path.display(), bytes.len()))
}

/// Whether nothing was written to its end in a directory.
pub fn unused(directory: &Path) -> Result<bool> {
    let listed = fs::read_dir(directory);
    let listed = listed.with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in listed {
        let name = entry?.file_name();
        if !name.to_string_lossy().starts_with(PARTIAL) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a directory; none when it is not there.
pub fn entries(directory: &Path) -> Result<Vec<String>> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot list {}", directory.display())),
    };
    let mut names = Vec::new();
    for entry in listed {
        let name = entry
            .with_context(|| format!("cannot list {}", directory.display()))?
            .file_name();
        if let Some(name) = name.to_str().filter(|n| !n.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_replaced_whole_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/.loci-x7Q"), "{").unwrap();
        assert!(unused(&dir.path().join("a")).unwrap(), "cut off before");
        write_json(&path, &7).unwrap();
        assert!(!unused(&dir.path().join("a")).unwrap());
        write_json(&path, &8).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(8));
        assert_eq!(entries(&dir.path().join("a")).unwrap(), ["b.json"]);
        fs::write(&path, "{").unwrap();
        let error = format!("{:#}", read_json::<u32>(&path).unwrap_err());
        assert!(error.contains("b.json is damaged"), "{error}");
    }
}
