//! What can go wrong, named so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = IndexError> = std::result::Result<T, E>;

/// An index operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file could not be read or written (missing rights, a full disk).
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, a verb: "write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The directory holds no revision.
    #[error("{} holds no index revision: it has no revision.json; give the directory of a finished revision", .0.display())]
    NoRevision(PathBuf),
    /// The revision was written in a format that this version does not read.
    #[error("the index revision in {} has format {found}, but this version reads format {expected}: rebuild the index", dir.display())]
    Format {
        /// The revision's directory.
        dir: PathBuf,
        /// Its format.
        found: u64,
        /// The format that can be read.
        expected: u32,
    },
    /// A file of the revision is missing or is not what the manifest says.
    #[error("the index revision in {} is damaged: {file}: {reason}; fetch the revision from the store again or rebuild the index", dir.display())]
    Damaged {
        /// The revision's directory.
        dir: PathBuf,
        /// The file, relative to the directory.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document of the delta cannot be indexed.
    #[error("document \"{document}\" of source \"{source_name}\": {field}: {reason}")]
    Document {
        /// The source's name.
        source_name: String,
        /// The document within the source.
        document: String,
        /// The offending field.
        field: String,
        /// What is wrong and the way out.
        reason: String,
    },
    /// The previous revision was built by another embedder or chunker.
    #[error(
        "the previous revision's {what} is {previous}, the new one's {wanted}: they cannot share passages; assemble without a previous revision"
    )]
    Identity {
        /// What differs.
        what: &'static str,
        /// The previous revision's.
        previous: String,
        /// The one asked for.
        wanted: String,
    },
    /// The output directory is in use.
    #[error("{} is not empty: a revision is written to a directory of its own", .0.display())]
    OutputInUse(PathBuf),
    /// A query that cannot be answered.
    #[error("query: {field}: {reason}")]
    Query {
        /// The offending field.
        field: &'static str,
        /// What is wrong and the way out.
        reason: String,
    },
    /// A filter that cannot be understood.
    #[error("{field}: {reason}")]
    Filter {
        /// Where in the filter, for example `filters.and[1].year.gte`.
        field: String,
        /// What is wrong and the way out.
        reason: String,
    },
    /// The text index failed.
    #[error("text index: {0}")]
    Text(#[from] tantivy::TantivyError),
    /// The vector graph failed.
    #[error("vector graph {file}: {reason}")]
    Graph {
        /// The graph's file.
        file: String,
        /// The reason.
        reason: String,
    },
    /// The caller's progress function asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Adds the action and the path to an I/O error.
pub(crate) fn io_at<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> IndexError + 'a {
    move |source| IndexError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
