//! What a source holds, as of some commit.

use std::collections::BTreeMap;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::change::Document;

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The document.
    pub id: String,
    /// What it is from now on; none deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<Document>,
}

/// A document with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As it was put.
    pub document: Document,
    /// [`Document::version`].
    pub version: Digest,
}

impl From<Document> for Kept {
    fn from(document: Document) -> Self {
        let version = document.version();
        Self { document, version }
    }
}

/// All documents of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last commit.
    pub commit: u64,
    /// By id.
    pub documents: BTreeMap<String, Kept>,
}

impl State {
    /// The version of a document.
    pub fn version(&self, id: &str) -> Option<Digest> {
        self.documents.get(id).map(|kept| kept.version)
    }

    /// Digest of what is in it: the same for the same documents, however they came there.
    pub fn content(&self) -> Digest {
        let versions: BTreeMap<&str, &Digest> = self
            .documents
            .iter()
            .map(|(id, kept)| (id.as_str(), &kept.version))
            .collect();
        // Strings alone: JSON cannot fail on them.
        Digest::of_json(&versions).unwrap_or_else(|_| Digest::of(""))
    }

    /// Makes one change.
    pub(crate) fn apply(&mut self, op: Op) {
        match op.put {
            Some(document) => _ = self.documents.insert(op.id, document.into()),
            None => _ = self.documents.remove(&op.id),
        }
    }
}
