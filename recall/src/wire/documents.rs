//! The JSON of documents that clients give.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorDetail;

/// Longest body of a batch, in bytes.
pub const MAX_BATCH_BODY_BYTES: usize = 16 << 20;
/// Most documents of a batch.
pub const MAX_BATCH_DOCUMENTS: usize = 1000;
/// Most metadata of a document: fields.
pub const MAX_METADATA_FIELDS: usize = 64;
/// The same: bytes of all names and values.
pub const MAX_METADATA_BYTES: usize = 8 << 10;

/// What was written: durable when it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentWritten {
    /// The pipeline.
    pub pipeline: String,
    /// The source.
    pub source: String,
    /// The document.
    pub document: String,
    /// Digest of all that was put: content, type, uri and metadata. Also the answer's `ETag`, and the `version` of citations.
    /// Absent when the document is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether anything is different from before.
    pub changed: bool,
}

/// How far a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DocumentPhase {
    /// The release that serves has another version of it, or none.
    Pending,
    /// The release that serves has it as it was put last.
    Served,
    /// It was deleted, and the release that serves has it still.
    Deleting,
}

/// A document as it was put last, and what serves of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentState {
    /// The pipeline.
    pub pipeline: String,
    /// The source.
    pub source: String,
    /// The document.
    pub document: String,
    /// How far it is.
    pub state: DocumentPhase,
    /// Its version; absent when it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Where a person finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What was said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The release that answers queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The version in that release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<String>,
}

/// A source that takes documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// The pipeline.
    pub pipeline: String,
    /// The source.
    pub source: String,
    /// Documents.
    pub documents: u64,
    /// Documents that differ from what was last indexed, deleted ones included.
    pub pending: u64,
    /// The most documents.
    pub max_documents: u64,
    /// The most bytes of one.
    pub max_document_bytes: u64,
    /// The most that may be pending.
    pub max_pending: u64,
    /// The release that answers queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

/// A document of a batch: put with `content`, or deleted with `delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchDocument {
    /// Its id.
    pub id: String,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// True deletes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
    /// How it is read, such as `text/markdown`; by the id's extension when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Where a person finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What is known about it: text by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What became of a batch: an item for each of its documents, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// Documents that are as they were asked to be.
    pub accepted: u64,
    /// The others.
    pub refused: u64,
    /// One for each.
    pub items: Vec<BatchItem>,
}

/// What became of a document of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchItem {
    /// The document; absent when its id could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The status that a request of its own would have had.
    pub status: u16,
    /// Its version, when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether anything is different from before.
    pub changed: bool,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}
