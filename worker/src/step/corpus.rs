//! What a revision was built from: each entry of each source, and the documents that came of it.

use std::collections::BTreeMap;

use loci_index::DocumentKey;
use serde::{Deserialize, Serialize};

/// The entries of a revision by source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Corpus {
    pub(super) sources: BTreeMap<String, SourceCorpus>,
}

/// The entries of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SourceCorpus {
    pub(super) memory: String,
    pub(super) entries: BTreeMap<String, EntryCorpus>,
}

/// One entry: a file, a page. It may hold several documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EntryCorpus {
    pub(super) version: String,
    pub(super) uri: String,
    /// Document -> version.
    pub(super) documents: BTreeMap<String, String>,
    /// Parts that could not be read, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// The same content may be readable another time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) passing: bool,
}

impl Corpus {
    /// All documents with their versions.
    pub(super) fn documents(&self) -> BTreeMap<DocumentKey, &str> {
        let mut all = BTreeMap::new();
        for (source, corpus) in &self.sources {
            for entry in corpus.entries.values() {
                for (document, version) in &entry.documents {
                    all.insert(
                        DocumentKey::new(source.clone(), document.clone()),
                        version.as_str(),
                    );
                }
            }
        }
        all
    }

    /// The entry, when it is the same in content, place and class, and reading it again would change nothing.
    pub(super) fn unchanged(
        &self,
        source: &str,
        memory: &str,
        entry: &str,
        version: &str,
        uri: &str,
    ) -> Option<&EntryCorpus> {
        self.entry(source, memory, entry)
            .filter(|e| e.version == version && e.uri == uri && !e.passing)
    }

    /// The entry as it was, in the same class.
    pub(super) fn entry(&self, source: &str, memory: &str, entry: &str) -> Option<&EntryCorpus> {
        let corpus = self.sources.get(source).filter(|c| c.memory == memory)?;
        corpus.entries.get(entry)
    }
}
