//! Why a change is not made.

use std::io::ErrorKind;

use loci_digest::Digest;
use loci_store::StoreError;

/// Why one change is refused; others of the same request may be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its condition does not hold.
    #[error("{}", match current {
        Some(version) => format!("the document's version is {version}: read it, and decide anew"),
        None => "there is no such document: put it without If-Match".to_owned(),
    })]
    Condition {
        /// The version now.
        current: Option<Digest>,
    },
    /// Too many changes wait for a release.
    #[error("{pending} changes wait to be indexed, and maxPending is {limit}: send it again later")]
    Backlog {
        /// How many wait.
        pending: usize,
        /// How many may.
        limit: usize,
    },
    /// The source is full.
    #[error(
        "the source holds {limit} documents, its maxDocuments: delete some, or raise the limit"
    )]
    Documents {
        /// How many it may hold.
        limit: usize,
    },
}

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in the store is not what was written.
    #[error("{name} in the store is damaged: restore it from a backup of the store")]
    Damaged {
        /// The name of a document of the store.
        name: String,
    },
    /// Other processes were faster, again and again.
    #[error("{name}: other processes write without pause: try again later")]
    Contended {
        /// The log.
        name: String,
    },
    /// The task that writes died.
    #[error("writing was interrupted: whether the change was made is not known; send it again")]
    Interrupted,
}

impl PushError {
    /// Whether there is no room to write: nothing was changed.
    pub fn is_full(&self) -> bool {
        let kind = match self {
            Self::Store(StoreError::Write { source, .. }) => source.kind(),
            _ => return false,
        };
        matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }
}
