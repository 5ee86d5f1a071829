use std::fmt;

use super::{AddressRefused, SinkError};

/// Why a source could not be read. Never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Any of the others, with the source's name.
    #[error("source \"{source_name}\": {error}")]
    Source {
        /// The source.
        source_name: String,
        /// What went wrong.
        error: Box<SourceError>,
    },
    /// A field of the source's declaration.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and the way out.
        reason: String,
    },
    /// A directory or a file of this machine.
    #[error("{path}: {reason}")]
    File {
        /// The path.
        path: String,
        /// What is wrong with it, and the way out.
        reason: String,
    },
    /// A remote that answered with an error, or not at all.
    #[error("{url}: {reason}")]
    Remote {
        /// The address, without credentials.
        url: String,
        /// What went wrong, and the way out.
        reason: String,
    },
    /// An address that must not be fetched from.
    #[error("{url}: {refused}")]
    Refused {
        /// The address, without credentials.
        url: String,
        /// Why.
        refused: AddressRefused,
    },
    /// More documents than allowed.
    #[error("has more than {limit} documents; narrow `include`, or raise the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// What was pushed cannot be read.
    #[error("what was pushed cannot be read: {0}")]
    Push(#[source] loci_push::PushError),
    /// The content could not be kept.
    #[error("its content could not be stored: {0}")]
    Sink(#[source] SinkError),
    /// A task of this process was cancelled or died.
    #[error("reading was interrupted: {0}")]
    Interrupted(String),
}

impl SourceError {
    pub(super) fn of(self, name: &str) -> Self {
        Self::Source {
            source_name: name.to_owned(),
            error: Box::new(self),
        }
    }

    /// Whether the source was read, and what was read could not be kept.
    pub fn is_of_sink(&self) -> bool {
        match self {
            Self::Source { error, .. } => error.is_of_sink(),
            other => matches!(other, Self::Sink(_)),
        }
    }

    pub(super) fn file(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.display().to_string(),
            reason: reason.into(),
        }
    }

    /// The refused address behind this error, if that is what it is about.
    pub fn refused(&self) -> Option<&AddressRefused> {
        match self {
            Self::Source { error, .. } => error.refused(),
            Self::Refused { refused, .. } => Some(refused),
            _ => None,
        }
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value` from logs and errors.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
