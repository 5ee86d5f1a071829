//! A revision in the making: its vector segments and document tables.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use loci_digest::Digest;

use crate::document::IndexedDocument;
use crate::documents::{Entry, Table, live, merged};
use crate::error::{IndexError, Result, io_at};
use crate::manifest::{FileState, Segment, file_state};
use crate::tiers::{Merging, Size};
use crate::vectors::{self, FlatRow, GRAPH_MIN, VectorSet};

/// Segments with their tables, position by position, and what is known of their files.
pub(crate) struct Draft<'a> {
    pub(crate) out: &'a Path,
    pub(crate) dimensions: usize,
    pub(crate) segments: Vec<Segment>,
    pub(crate) tables: Vec<Table>,
    pub(crate) files: BTreeMap<String, FileState>,
}

impl Draft<'_> {
    /// Adds a segment with `table` and the vectors of `documents`, which are those of the
    /// table in its order.
    pub(crate) fn push(&mut self, table: Table, documents: &[IndexedDocument]) -> Result<()> {
        let mut rows = Vec::new();
        for (entry, IndexedDocument { document, vectors }) in table.documents.iter().zip(documents)
        {
            let title = document.title.as_deref();
            for ((uid, passage), vector) in entry
                .uids()
                .zip(&document.passages)
                .zip(vectors.chunks_exact(self.dimensions))
            {
                rows.push(FlatRow {
                    uid,
                    hash: passage.chunk_hash(title),
                    vector,
                });
            }
        }
        let segment = self.write(&table, &rows)?;
        self.segments.push(segment);
        self.tables.push(table);
        Ok(())
    }

    fn write(&mut self, table: &Table, rows: &[FlatRow<'_>]) -> Result<Segment> {
        let path = self.out.join("documents.partial");
        let json = serde_json::to_vec(table).map_err(|e| IndexError::Io {
            action: "write",
            path: path.clone(),
            source: e.into(),
        })?;
        fs::write(&path, json).map_err(io_at("write", &path))?;
        let documents = self.seal(&path, "docs")?;
        let mut vectors = None;
        if !rows.is_empty() {
            let path = self.out.join("vectors.partial");
            vectors::write(&path, self.dimensions, rows)?;
            vectors = Some(self.seal(&path, "vec")?);
        }
        Ok(Segment {
            documents,
            vectors,
            graph: None,
        })
    }

    /// Gives a finished file a name that follows from its content.
    fn seal(&mut self, partial: &Path, extension: &str) -> Result<String> {
        let state = file_state(partial)?;
        let name = format!("{}.{extension}", &state.digest.to_hex()[..32]);
        fs::rename(partial, self.out.join(&name)).map_err(io_at("rename", partial))?;
        self.files.insert(name.clone(), state);
        Ok(name)
    }

    /// Merges segments. `progress` is told the entries written and to write.
    pub(crate) fn compact(
        &mut self,
        merging: Merging,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let sizes = self.sizes();
        let runs = merging.runs(&sizes);
        let total = runs
            .iter()
            .flat_map(|run| &sizes[run.clone()])
            .map(|size| size.live)
            .sum();
        let mut done = 0;
        for run in runs.into_iter().rev() {
            done += sizes[run.clone()].iter().map(|size| size.live).sum::<u64>();
            self.merge(run)?;
            if progress(done, total).is_break() {
                return Err(IndexError::Cancelled);
            }
        }
        Ok(())
    }

    fn sizes(&self) -> Vec<Size> {
        let weight = |entry: &Entry| 1 + entry.passages;
        let total = |table: &Table| table.documents.iter().map(weight).sum();
        let mut sizes: Vec<Size> = self
            .tables
            .iter()
            .map(|table| Size {
                live: table.removed.len() as u64,
                dead: total(table),
            })
            .collect();
        for (position, entry) in live(&self.tables).into_values() {
            sizes[position].live += weight(entry);
            sizes[position].dead -= weight(entry);
        }
        sizes
    }

    fn merge(&mut self, run: Range<usize>) -> Result<()> {
        let table = merged(&self.tables, run.clone());
        let set = VectorSet::open(
            self.out,
            &self.segments[run.clone()],
            self.dimensions,
            false,
        )?;
        let mut rows = Vec::new();
        for entry in &table.documents {
            for uid in entry.uids() {
                let row = set.find(uid).ok_or_else(|| self.no_vector(entry))?;
                let (flat, row) = set.locate(row);
                rows.push(FlatRow {
                    uid,
                    hash: flat.hash(row),
                    vector: flat.vector(row),
                });
            }
        }
        if table.is_empty() {
            self.segments.drain(run.clone());
            self.tables.drain(run);
        } else {
            let segment = self.write(&table, &rows)?;
            self.segments.splice(run.clone(), [segment]);
            self.tables.splice(run, [table]);
        }
        Ok(())
    }

    /// Gives every large segment its graph. `progress` is told the rows added and to add.
    pub(crate) fn grow_graphs(
        &mut self,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        for position in 0..self.segments.len() {
            let Segment {
                vectors: Some(file),
                graph: None,
                ..
            } = &self.segments[position]
            else {
                continue;
            };
            let flat = vectors::Flat::open(self.out, file, self.dimensions)?;
            if flat.rows() >= GRAPH_MIN {
                let path = self.out.join("graph.partial");
                vectors::build(&path, &flat, self.dimensions, &mut |done| {
                    progress(done, flat.rows() as u64)
                })?;
                self.segments[position].graph = Some(self.seal(&path, "hnsw")?);
            }
        }
        Ok(())
    }

    /// Live documents in the order of their keys, each with its chunk hashes.
    pub(crate) fn contents(&self) -> Result<Vec<(&Entry, Vec<Digest>)>> {
        let set = VectorSet::open(self.out, &self.segments, self.dimensions, false)?;
        let documents = live(&self.tables).into_values();
        documents
            .map(|(_, entry)| {
                Ok((
                    entry,
                    hashes(&set, entry).ok_or_else(|| self.no_vector(entry))?,
                ))
            })
            .collect()
    }

    fn no_vector(&self, entry: &Entry) -> IndexError {
        IndexError::Damaged {
            dir: self.out.to_owned(),
            file: "vectors".into(),
            reason: format!("a passage of {} has no vector", entry.key),
        }
    }
}

/// The chunk hashes of a document, in order; `None` when a passage is missing.
pub(crate) fn hashes(set: &VectorSet, entry: &Entry) -> Option<Vec<Digest>> {
    entry
        .uids()
        .map(|uid| {
            let (flat, row) = set.locate(set.find(uid)?);
            Some(flat.hash(row))
        })
        .collect()
}
