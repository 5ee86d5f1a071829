//! tantivy's view of a revision's directory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
};

/// Immutable files are read and created on disk; the two files that tantivy rewrites
/// (`meta.json`, its list of managed files) live in memory and end in the manifest. There are
/// no locks: a revision being assembled has one writer, a finished one has none.
#[derive(Clone, Debug)]
pub(crate) struct RevisionDirectory {
    dir: PathBuf,
    files: MmapDirectory,
    rewritten: Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>,
}

const META: &str = "meta.json";

impl RevisionDirectory {
    /// `meta` is what [`RevisionDirectory::meta`] returned for the index in `dir`, if there is one.
    pub(crate) fn open(dir: &Path, meta: Option<Vec<u8>>) -> tantivy::Result<Self> {
        let rewritten = meta
            .map(|meta| (PathBuf::from(META), meta))
            .into_iter()
            .collect();
        Ok(Self {
            dir: dir.to_owned(),
            files: MmapDirectory::open(dir)?,
            rewritten: Arc::new(Mutex::new(rewritten)),
        })
    }

    /// tantivy's index metadata: schema and segments.
    pub(crate) fn meta(&self) -> Option<Vec<u8>> {
        self.read(Path::new(META))
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.rewritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned()
    }
}

impl Directory for RevisionDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.files.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.files.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.read(path).is_some() || self.files.exists(path)?)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.dir.join(path))
            .map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_owned()),
                _ => OpenWriteError::wrap_io_error(e, path.to_owned()),
            })?;
        Ok(BufWriter::new(Box::new(NewFile(file))))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.read(path)
            .ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_owned()))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.rewritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), data.to_owned());
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// A file of a revision in the making. It is not synced: the store that publishes the
/// revision copies it and makes the copy durable.
struct NewFile(File);

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TerminatingWrite for NewFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.flush()
    }
}
