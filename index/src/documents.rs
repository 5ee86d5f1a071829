//! Which documents a revision holds.
//!
//! Each segment carries a table of the documents that its assemble removed and added. Later
//! tables win over earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::document::{Document, DocumentKey};
use crate::error::{IndexError, Result, io_at};

/// A document and where its passages are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) key: DocumentKey,
    pub(crate) uri: String,
    pub(crate) version: String,
    pub(crate) memory: String,
    /// The uid of its first passage; the others follow.
    pub(crate) uid: u64,
    /// Its number of passages.
    pub(crate) passages: u64,
}

impl Entry {
    pub(crate) fn new(document: &Document, uid: u64) -> Self {
        Self {
            key: document.key.clone(),
            uri: document.uri.clone(),
            version: document.version.clone(),
            memory: document.memory.clone(),
            uid,
            passages: document.passages.len() as u64,
        }
    }

    pub(crate) fn uids(&self) -> Range<u64> {
        self.uid..self.uid + self.passages
    }
}

/// The table of one segment, a JSON file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Documents of earlier segments that are gone.
    pub(crate) removed: BTreeSet<DocumentKey>,
    /// Documents of this segment; they replace those of earlier ones.
    pub(crate) documents: Vec<Entry>,
}

impl Table {
    pub(crate) fn read(dir: &Path, file: &str) -> Result<Self> {
        let path = dir.join(file);
        let bytes = std::fs::read(&path).map_err(io_at("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|e| IndexError::Damaged {
            dir: dir.to_owned(),
            file: file.to_owned(),
            reason: e.to_string(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.documents.is_empty()
    }
}

/// The live documents of `tables`, oldest first, each with the position of its table.
pub(crate) fn live(tables: &[Table]) -> BTreeMap<&DocumentKey, (usize, &Entry)> {
    let mut live = BTreeMap::new();
    for (position, table) in tables.iter().enumerate() {
        for key in &table.removed {
            live.remove(key);
        }
        live.extend(
            table
                .documents
                .iter()
                .map(|entry| (&entry.key, (position, entry))),
        );
    }
    live
}

/// The tables at `run` as one: only documents that are live in the end, and only the removals
/// that earlier tables still need.
pub(crate) fn merged(tables: &[Table], run: Range<usize>) -> Table {
    let known = live(&tables[..run.start]);
    let replaced = tables[run.clone()].iter().flat_map(|table| {
        table
            .removed
            .iter()
            .chain(table.documents.iter().map(|entry| &entry.key))
    });
    let removed = replaced
        .filter(|key| known.contains_key(key))
        .cloned()
        .collect();
    let alive = live(tables)
        .into_values()
        .filter(|(position, _)| run.contains(position));
    let mut documents: Vec<Entry> = alive.map(|(_, entry)| entry.clone()).collect();
    documents.sort_unstable_by_key(|entry| (entry.uid, entry.passages));
    Table { removed, documents }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(removed: &[&str], documents: &[(&str, u64)]) -> Table {
        let entry = |&(name, uid): &(&str, u64)| Entry {
            key: DocumentKey::new("s", name),
            uri: String::new(),
            version: uid.to_string(),
            memory: String::new(),
            uid,
            passages: 1,
        };
        Table {
            removed: removed.iter().map(|&k| DocumentKey::new("s", k)).collect(),
            documents: documents.iter().map(entry).collect(),
        }
    }

    #[test]
    fn merging_any_run_leaves_the_same_documents() {
        let tables = [
            table(&[], &[("a", 0), ("b", 1), ("c", 2)]),
            table(&["a"], &[("b", 3), ("d", 4)]),
            table(&["b"], &[("a", 5)]),
            table(&["d", "c"], &[]),
            table(&[], &[("d", 6)]),
        ];
        let seen = |tables: &[Table]| {
            live(tables)
                .into_values()
                .map(|(_, e)| (e.key.clone(), e.uid))
                .collect::<Vec<_>>()
        };
        let expected = seen(&tables);
        assert_eq!(
            expected.iter().map(|(_, uid)| *uid).collect::<Vec<_>>(),
            [5, 6]
        );
        for start in 0..tables.len() {
            for end in start + 1..=tables.len() {
                let mut shorter = tables.to_vec();
                shorter.splice(start..end, [merged(&tables, start..end)]);
                assert_eq!(seen(&shorter), expected, "{start}..{end}");
            }
        }
        assert!(merged(&tables, 0..5).removed.is_empty());
    }
}
