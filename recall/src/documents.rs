//! Documents that clients give: what the server needs of whoever keeps them.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use loci_digest::Digest;
use loci_push::{Condition, Document, Refused, Written};

/// A source that takes documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSource {
    /// Its pipeline, `namespace/name`.
    pub pipeline: String,
    /// Its name.
    pub source: String,
    /// The most bytes of one document.
    pub max_document_bytes: usize,
}

/// A change that a client asks for.
#[derive(Clone, Debug)]
pub struct DocumentChange {
    /// The document, whose id was checked.
    pub id: String,
    /// What it is to be; none deletes it.
    pub put: Option<NewDocument>,
    /// What must be so.
    pub condition: Condition,
}

/// A document as a client gives it.
#[derive(Clone, Debug)]
pub struct NewDocument {
    /// Its bytes.
    pub content: Bytes,
    /// `Content-Type`, when that was said.
    pub media_type: Option<String>,
    /// Where a person finds it.
    pub uri: Option<String>,
    /// What is known about it.
    pub metadata: BTreeMap<String, String>,
}

/// Why one change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody reads documents of this type.
    #[error("{0}")]
    MediaType(String),
    /// It is not what its type says.
    #[error("{0}")]
    Unreadable(String),
    /// As the log has it.
    #[error(transparent)]
    Log(#[from] Refused),
}

/// Why nothing is known of a whole request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentsError {
    /// There is no room: nothing was changed.
    #[error("{0}")]
    Full(String),
    /// Whoever keeps the documents cannot be reached, or cannot read them.
    #[error("{0}")]
    Unavailable(String),
}

/// A document, and what serves of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// As it was put last; none when it was deleted, or never put.
    pub document: Option<Document>,
    /// Its version.
    pub version: Option<Digest>,
    /// The release that answers queries.
    pub release: Option<String>,
    /// The version in that release.
    pub served: Option<Digest>,
}

/// A source in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSummary {
    /// Documents.
    pub documents: usize,
    /// How many differ from what was last indexed, deleted ones included.
    pub pending: usize,
    /// The most documents.
    pub max_documents: usize,
    /// The most that may differ.
    pub max_pending: usize,
    /// The release that answers queries.
    pub release: Option<String>,
}

/// Keeps documents. Sources are those of [`Documents::sources`].
#[async_trait]
pub trait Documents: Debug + Send + Sync {
    /// The sources that take documents.
    fn sources(&self) -> Vec<PushSource>;

    /// Makes changes in their order. What is answered is durable.
    ///
    /// # Errors
    /// When none was made.
    async fn write(
        &self,
        to: &PushSource,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<Result<Written, Refusal>>, DocumentsError>;

    /// A document.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn document(&self, of: &PushSource, id: &str) -> Result<Standing, DocumentsError>;

    /// A source.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn summary(&self, of: &PushSource) -> Result<SourceSummary, DocumentsError>;
}
