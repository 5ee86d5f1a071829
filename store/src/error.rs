//! What can go wrong, where, and the way out.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use loci_digest::Digest;

/// The store's results.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An operation of the store that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No object has this digest.
    #[error(
        "{digest} is not in the store ({place}): run the pipeline again to rebuild it, or restore it from a backup"
    )]
    NotFound {
        /// What was asked for.
        digest: Digest,
        /// Where it would be.
        place: String,
    },
    /// The stored bytes do not have the digest they are stored under.
    #[error(
        "{place} is damaged: it should hold {digest} but its bytes have {found}; run the pipeline again to rebuild it \
         (storing the same content replaces what is damaged), or restore it from a backup"
    )]
    Corrupt {
        /// What was asked for.
        digest: Digest,
        /// What is damaged.
        place: String,
        /// The digest of what the file holds.
        found: Digest,
    },
    /// Writing failed: a full disk, a quota, a missing permission.
    #[error("cannot write {bytes} bytes to {place}: {source}; {}", advice(source))]
    Write {
        /// What was to be written. Nothing was left there.
        place: String,
        /// How many bytes were to be written.
        bytes: u64,
        /// The reason.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read {place}: {source}")]
    Read {
        /// The file or directory.
        place: String,
        /// The reason.
        source: io::Error,
    },
    /// Deleting failed.
    #[error("cannot delete {place}: {source}")]
    Delete {
        /// The file.
        place: String,
        /// The reason.
        source: io::Error,
    },
    /// An object store refuses, or is not to be reached.
    #[error("cannot {act} {place} (at {endpoint}): {reason}; {advice}")]
    Remote {
        /// What was to be done.
        act: String,
        /// The object's URL.
        place: String,
        /// The server's URL.
        endpoint: String,
        /// What it says, or that it says nothing.
        reason: String,
        /// The way out.
        advice: &'static str,
    },
    /// The file changed between two readings of it.
    #[error("{} changed while it was stored: nothing was kept of it; store it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Neither a regular file nor a directory.
    #[error("{} is not a regular file: only regular files can be stored, replace or remove it", path.display())]
    NotAFile {
        /// The link, device, socket or pipe.
        path: PathBuf,
    },
    /// A path of a tree that does not stay inside the tree, or is not UTF-8.
    #[error(
        "\"{path}\" cannot be a path in a tree: use a relative path in UTF-8, parted by \"/\", without \".\" and \"..\""
    )]
    TreePath {
        /// The path, as far as it can be shown.
        path: String,
    },
    /// The directory holds something else.
    #[error(
        "{place} holds no store and is not empty: give an empty or a new directory or prefix, or one that a store was made in"
    )]
    NotAStore {
        /// The directory, or the bucket and prefix.
        place: String,
    },
    /// The store was written in a format that this build does not know.
    #[error(
        "{place} says \"{found}\" but this build reads \"{expected}\": use the version of loci that wrote it, or another directory"
    )]
    Format {
        /// The format marker.
        place: String,
        /// What it says.
        found: String,
        /// What it would have to say.
        expected: &'static str,
    },
    /// A manifest or a record names an object that is not there.
    #[error("the {what} names {digest}, which is not in the store: store that first")]
    MissingReference {
        /// What names it: a manifest of some kind, a record, a root of a collection.
        what: String,
        /// What is missing.
        digest: Digest,
    },
    /// A manifest of another kind.
    #[error("{digest} is a manifest of kind \"{found}\", not \"{expected}\"")]
    Kind {
        /// The manifest.
        digest: Digest,
        /// Its kind.
        found: String,
        /// The kind asked for.
        expected: String,
    },
    /// A manifest whose JSON does not fit its type, or a body that is no JSON.
    #[error(
        "the manifest of kind \"{kind}\"{} does not fit: {source}; it may come from another version of loci",
        of(digest)
    )]
    Manifest {
        /// Its kind.
        kind: String,
        /// The manifest; none while it is being written.
        digest: Option<Digest>,
        /// Which field, and why.
        source: serde_json::Error,
    },
    /// A document that does not fit its type.
    #[error(
        "{place} cannot be read: {source}; it may come from another version of loci: use that, or restore it from a backup"
    )]
    Document {
        /// The document.
        place: String,
        /// Which field, and why.
        source: serde_json::Error,
    },
}

fn of(digest: &Option<Digest>) -> String {
    digest.map_or_else(String::new, |digest| format!(" ({digest})"))
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space on that disk, then run again"
        }
        io::ErrorKind::FileTooLarge => {
            "raise the limit on the size of files (ulimit -f), then run again"
        }
        io::ErrorKind::PermissionDenied => {
            "give this user the right to write there, then run again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "mount that disk writable, then run again",
        _ => "nothing was left there; run again once it is solved",
    }
}

impl StoreError {
    pub(crate) fn read(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Read {
            place: path.display().to_string(),
            source: source.into(),
        }
    }

    pub(crate) fn write(path: &Path, bytes: u64, source: impl Into<io::Error>) -> Self {
        Self::Write {
            place: path.display().to_string(),
            bytes,
            source: source.into(),
        }
    }

    pub(crate) fn delete(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Delete {
            place: path.display().to_string(),
            source: source.into(),
        }
    }
}

/// The operating system's own error inside that of `object_store`, which wraps it twice.
pub(crate) fn io_error(error: object_store::Error) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(e) = cause {
        if let Some(code) = e
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return io::Error::from_raw_os_error(code);
        }
        cause = e.source();
    }
    io::Error::other(error)
}
