//! The output of Embed: how a new revision differs from the one it builds on.

use loci_digest::Digest;
use loci_index::{Delta, Document, DocumentKey, Identity, IndexedDocument};
use serde::{Deserialize, Serialize};

use super::StepError;

/// The kind of a delta's manifest.
pub const DELTA: &str = "delta";

/// What Embed made: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeltaManifest {
    /// The revision to build on; none builds from nothing.
    pub base: Option<Digest>,
    /// The embedder's reference.
    pub model: String,
    /// The embedder's identity.
    pub embedder: Digest,
    /// The chunker's identity.
    pub chunker: Digest,
    /// Of a vector.
    pub dimensions: usize,
    /// Blob: what the revision is built from.
    pub corpus: Digest,
    /// Documents of `base` that are gone.
    pub remove: Vec<DocumentKey>,
    /// Blob: a JSON list of documents that are new or changed.
    pub documents: Digest,
    /// Blob: their passages' vectors in the same order, little-endian f32.
    pub vectors: Digest,
    /// The numbers.
    pub counts: EmbedOutput,
}

/// What Embed did, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbedOutput {
    /// The delta's manifest; absent only inside the manifest itself.
    pub delta: Option<Digest>,
    /// Documents that are new or changed.
    pub changed: u64,
    /// Documents that are gone.
    pub removed: u64,
    /// Passages of the changed documents.
    pub passages: u64,
    /// Passages that had to be embedded; the rest had vectors already.
    pub embedded: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Parts that could not be read.
    pub problems: u64,
    /// The first of them with its reason, for people.
    pub first_problem: Option<String>,
}

impl DeltaManifest {
    pub(super) fn identity(&self) -> Identity {
        Identity {
            embedder: self.embedder,
            chunker: self.chunker,
            dimensions: self.dimensions,
            rerank: None,
        }
    }

    /// Puts documents and vectors together again.
    pub(super) fn delta(&self, documents: &[u8], vectors: &[u8]) -> Result<Delta, StepError> {
        let documents: Vec<Document> = serde_json::from_slice(documents)?;
        let mut rows = vectors.chunks_exact(4 * self.dimensions);
        let upsert = documents
            .into_iter()
            .map(|document| {
                let vectors = rows
                    .by_ref()
                    .take(document.passages.len())
                    .flat_map(floats)
                    .collect();
                IndexedDocument { document, vectors }
            })
            .collect();
        Ok(Delta {
            remove: self.remove.clone(),
            upsert,
        })
    }
}

/// Little-endian bytes as floats.
pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))
}

/// Floats as little-endian bytes.
pub(super) fn bytes(vectors: &[f32]) -> Vec<u8> {
    vectors.iter().flat_map(|v| v.to_le_bytes()).collect()
}
