//! Documents and their passages, as they come from the chunker and the embedder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use loci_digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::error::{IndexError, Result};
use crate::value::{MetaValue, instant};

/// Longest text, in bytes, that can be matched as a whole (keys, URIs, metadata): the text
/// index keeps no longer terms.
pub const MAX_TERM_BYTES: usize = 60_000;

/// Names a document: a path, URL or id within a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentKey {
    /// The source's name.
    pub source: String,
    /// The document within the source.
    pub document: String,
}

impl DocumentKey {
    /// The key of `document` in `source`.
    pub fn new(source: impl Into<String>, document: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            document: document.into(),
        }
    }

    /// The term under which the text index knows the document: of a bounded length, and no
    /// two keys share one.
    pub(crate) fn term(&self) -> String {
        let mut hasher = Hasher::default();
        hasher
            .update((self.source.len() as u64).to_le_bytes())
            .update(&self.source)
            .update(&self.document);
        hasher.finish().to_hex()
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.document)
    }
}

/// A piece of a document: what is embedded, found and cited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Position among the passages of the document, from 0.
    pub ordinal: u32,
    /// The text itself.
    pub text: String,
    /// Bytes of the source document that the passage stands for.
    pub span: Range<u64>,
    /// Headings above the passage, outermost first.
    pub headings: Vec<String>,
}

impl Passage {
    /// What the embedder and the text search see: the document's title and the heading path,
    /// then the text.
    pub fn embedding_text(&self, title: Option<&str>) -> String {
        let mut path: Vec<&str> = self.headings.iter().map(String::as_str).collect();
        if let Some(title) = title.filter(|title| path.first() != Some(title)) {
            path.insert(0, title);
        }
        path.retain(|part| !part.is_empty());
        if path.is_empty() {
            return self.text.clone();
        }
        format!("{}\n{}", path.join(" > "), self.text)
    }

    /// Digest of [`Passage::embedding_text`]: equal hashes have equal vectors.
    pub fn chunk_hash(&self, title: Option<&str>) -> Digest {
        Digest::of(self.embedding_text(title))
    }
}

/// A document, cut into passages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Names the document.
    pub key: DocumentKey,
    /// Where a person finds it.
    pub uri: String,
    /// Its version: a content digest, a commit, an entity tag.
    pub version: String,
    /// Its memory class: `factual`, `procedural` and so on.
    pub memory: String,
    /// Its title, when it has one.
    pub title: Option<String>,
    /// Values to filter by; a field may have several.
    pub metadata: BTreeMap<String, Vec<MetaValue>>,
    /// Its passages in order. May be empty: the document is then known but never found.
    pub passages: Vec<Passage>,
}

impl Document {
    pub(crate) fn error(&self, field: impl Into<String>, reason: impl Into<String>) -> IndexError {
        IndexError::Document {
            source_name: self.key.source.clone(),
            document: self.key.document.clone(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    fn check(&self) -> Result<()> {
        let whole = [
            ("source", &self.key.source),
            ("document", &self.key.document),
            ("uri", &self.uri),
            ("version", &self.version),
            ("memory", &self.memory),
        ];
        for (field, text) in whole {
            self.check_length(field, text)?;
        }
        for (name, values) in &self.metadata {
            let field = format!("metadata.{name}");
            if name.is_empty() || name.chars().any(char::is_control) || name.len() > 256 {
                return Err(self.error(field, "a metadata field's name has 1 to 256 bytes and no control characters: rename the field"));
            }
            for value in values {
                match value {
                    MetaValue::Time(text) if instant(text).is_none() => {
                        return Err(self.error(
                            field,
                            format!(
                                "\"{text}\" is not an RFC 3339 time such as 2026-03-01T12:00:00Z"
                            ),
                        ));
                    }
                    MetaValue::Time(text) | MetaValue::Text(text) => {
                        self.check_length(&field, text)?
                    }
                    MetaValue::Integer(_) | MetaValue::Bool(_) => {}
                }
            }
        }
        Ok(())
    }

    fn check_length(&self, field: &str, text: &str) -> Result<()> {
        if text.len() > MAX_TERM_BYTES {
            return Err(self.error(field, format!("{} bytes are more than the {MAX_TERM_BYTES} that can be filtered by: shorten it", text.len())));
        }
        Ok(())
    }
}

/// A document with the vectors of its passages.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexedDocument {
    /// The document.
    pub document: Document,
    /// One row of the index's dimensions per passage, row-major.
    pub vectors: Vec<f32>,
}

/// The difference between two revisions.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Documents that are gone. Those that the previous revision does not hold are ignored.
    pub remove: Vec<DocumentKey>,
    /// Documents that are new or changed, whole; each takes the place of the one with its key.
    pub upsert: Vec<IndexedDocument>,
}

impl Delta {
    /// Refuses what could not be found, filtered or compared later.
    pub(crate) fn check(&self, dimensions: usize) -> Result<()> {
        let mut seen = BTreeSet::new();
        for IndexedDocument { document, vectors } in &self.upsert {
            document.check()?;
            if !seen.insert(&document.key) {
                return Err(document.error("key", "given twice in one delta: merge the two"));
            }
            let wanted = document.passages.len() * dimensions;
            if vectors.len() != wanted {
                let passages = document.passages.len();
                let reason = format!(
                    "{} numbers, but {passages} passages of {dimensions} dimensions need {wanted}",
                    vectors.len()
                );
                return Err(document.error("vectors", reason));
            }
            if vectors.iter().any(|x| !x.is_finite()) {
                return Err(document.error(
                    "vectors",
                    "a number is infinite or not a number: the embedder failed on this document",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(headings: &[&str]) -> Passage {
        Passage {
            ordinal: 0,
            text: "body".into(),
            span: 0..4,
            headings: headings.iter().map(|&h| h.into()).collect(),
        }
    }

    #[test]
    fn embedding_text_leads_with_the_path_once() {
        assert_eq!(passage(&[]).embedding_text(None), "body");
        assert_eq!(
            passage(&["A", "B"]).embedding_text(Some("T")),
            "T > A > B\nbody"
        );
        assert_eq!(
            passage(&["T", "B"]).embedding_text(Some("T")),
            "T > B\nbody"
        );
        assert_ne!(
            passage(&["A"]).chunk_hash(None),
            passage(&["B"]).chunk_hash(None)
        );
    }

    #[test]
    fn keys_that_read_alike_have_terms_of_their_own() {
        assert_ne!(
            DocumentKey::new("a", "b:c").term(),
            DocumentKey::new("a:b", "c").term()
        );
    }
}
