//! Opened revisions.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use tantivy::DocAddress;

use crate::bits::Bits;
use crate::document::DocumentKey;
use crate::documents::{Table, live};
use crate::draft::hashes;
use crate::error::{IndexError, Result};
use crate::manifest::{Manifest, RevisionInfo};
use crate::search::Fusion;
use crate::text::TextIndex;
use crate::vectors::VectorSet;

/// A document of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRecord {
    /// Names the document.
    pub key: DocumentKey,
    /// Where a person finds it.
    pub uri: String,
    /// Its version.
    pub version: String,
    /// Its memory class.
    pub memory: String,
    /// The hashes of its passages, in order.
    pub chunks: Vec<Digest>,
}

/// Stands for a row whose passage is gone and for a text document without a row.
pub(crate) const NONE: u32 = u32::MAX;

/// An immutable revision, memory-mapped. Searches may run on any number of threads.
pub struct Revision {
    dir: PathBuf,
    manifest: Manifest,
    pub(crate) text: TextIndex,
    pub(crate) vectors: VectorSet,
    /// Rows whose passage is live.
    pub(crate) live: Bits,
    /// By row: the passage in the text index.
    pub(crate) addresses: Vec<DocAddress>,
    /// By row: the position of its document among all, in the order of their keys.
    pub(crate) ranks: Vec<u32>,
    /// By text segment and document: the row, or [`NONE`].
    pub(crate) rows: Vec<Vec<u32>>,
    pub(crate) fusion: Fusion,
}

impl Revision {
    /// Opens the revision in `dir`: reads its manifest, checks that each file is there and as
    /// long as it should be, and that text and vectors agree on which passages there are.
    ///
    /// # Errors
    /// [`IndexError::NoRevision`], [`IndexError::Format`] or [`IndexError::Damaged`], which
    /// names the file.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::from_manifest(dir, Manifest::read(dir, false)?)
    }

    /// As [`Revision::open`], after comparing each file with its digest, which reads them all.
    ///
    /// # Errors
    /// As [`Revision::open`]; also for a file of the right length with other content.
    pub fn open_verified(dir: &Path) -> Result<Self> {
        Self::from_manifest(dir, Manifest::read(dir, true)?)
    }

    fn from_manifest(dir: &Path, manifest: Manifest) -> Result<Self> {
        let text = TextIndex::open(dir, &manifest.text)?;
        let vectors = VectorSet::open(dir, &manifest.segments, manifest.info.dimensions, true)?;
        let mut revision = Self {
            dir: dir.to_owned(),
            live: Bits::new(vectors.rows),
            addresses: vec![DocAddress::new(NONE, NONE); vectors.rows],
            ranks: vec![NONE; vectors.rows],
            rows: text
                .searcher
                .segment_readers()
                .iter()
                .map(|s| vec![NONE; s.max_doc() as usize])
                .collect(),
            fusion: manifest.fusion,
            manifest,
            text,
            vectors,
        };
        revision.link()?;
        Ok(revision)
    }

    /// Fills the tables between documents, rows and the text index.
    fn link(&mut self) -> Result<()> {
        let tables = self.tables()?;
        let documents = live(&tables);
        let mut passages = 0;
        for (rank, (_, entry)) in (0..).zip(documents.values()) {
            for uid in entry.uids() {
                let row = self.vectors.find(uid).ok_or_else(|| {
                    self.damaged(
                        "vectors",
                        format!("a passage of {} has no vector", entry.key),
                    )
                })?;
                self.live.insert(row);
                self.ranks[row] = rank;
                passages += 1;
            }
        }
        let mut found = 0;
        for (address, uid) in self.text.uids()? {
            let row = self
                .vectors
                .find(uid)
                .filter(|&row| self.live.contains(row));
            let row = row.ok_or_else(|| {
                self.damaged(
                    "text index",
                    format!("it holds passage {uid}, which no document has"),
                )
            })?;
            self.addresses[row] = address;
            self.rows[address.segment_ord as usize][address.doc_id as usize] = row as u32;
            found += 1;
        }
        let info = self.info();
        if (documents.len() as u64, passages, found)
            != (info.documents, info.passages, info.passages)
        {
            let reason = format!(
                "it promises {} documents and {} passages, but there are {} documents with {passages} passages, {found} of them in the text index",
                info.documents,
                info.passages,
                documents.len()
            );
            return Err(self.damaged(crate::manifest::MANIFEST, reason));
        }
        Ok(())
    }

    fn damaged(&self, file: &str, reason: String) -> IndexError {
        IndexError::Damaged {
            dir: self.dir.clone(),
            file: file.to_owned(),
            reason,
        }
    }

    fn tables(&self) -> Result<Vec<Table>> {
        self.manifest
            .segments
            .iter()
            .map(|segment| Table::read(&self.dir, &segment.documents))
            .collect()
    }

    /// How searches fuse: as the revision was made to, unless [`Revision::with_fusion`] says otherwise.
    pub fn fusion(&self) -> Fusion {
        self.fusion
    }

    /// Searches fuse as `fusion` says, for comparing.
    #[must_use]
    pub fn with_fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// The revision in short.
    pub fn info(&self) -> &RevisionInfo {
        &self.manifest.info
    }

    /// All documents, in the order of their keys.
    ///
    /// # Errors
    /// When a table of documents can no longer be read.
    pub fn documents(&self) -> Result<Vec<DocumentRecord>> {
        let tables = self.tables()?;
        let record = |(_, entry): (usize, &crate::documents::Entry)| {
            Ok(DocumentRecord {
                key: entry.key.clone(),
                uri: entry.uri.clone(),
                version: entry.version.clone(),
                memory: entry.memory.clone(),
                chunks: hashes(&self.vectors, entry).ok_or_else(|| {
                    self.damaged("vectors", format!("a passage of {} is missing", entry.key))
                })?,
            })
        };
        live(&tables).into_values().map(record).collect()
    }

    /// The vectors of the `wanted` chunk hashes that the revision holds, for use in the next.
    ///
    /// # Errors
    /// Never, as long as vectors are memory-mapped.
    pub fn vectors_of(&self, wanted: &HashSet<Digest>) -> Result<HashMap<Digest, Vec<f32>>> {
        let mut found = HashMap::new();
        for part in &self.vectors.parts {
            for row in 0..part.flat.rows() {
                let hash = part.flat.hash(row);
                if wanted.contains(&hash) && !found.contains_key(&hash) {
                    found.insert(hash, part.flat.vector(row).to_owned());
                }
            }
        }
        Ok(found)
    }
}
