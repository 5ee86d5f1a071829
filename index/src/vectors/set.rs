//! The vector segments of a revision, addressed as one sequence of rows.

use std::path::Path;

use super::{Flat, Graph};
use crate::error::{IndexError, Result};
use crate::manifest::Segment;

/// A segment that has vectors.
pub(crate) struct Part {
    /// The number of rows in the parts before.
    pub(crate) start: usize,
    pub(crate) flat: Flat,
    pub(crate) graph: Option<Graph>,
}

/// Rows are numbered through all segments, in the order of their uids.
#[derive(Default)]
pub(crate) struct VectorSet {
    pub(crate) parts: Vec<Part>,
    pub(crate) rows: usize,
}

impl VectorSet {
    pub(crate) fn open(
        dir: &Path,
        segments: &[Segment],
        dimensions: usize,
        graphs: bool,
    ) -> Result<Self> {
        let mut set = Self::default();
        let mut last = None;
        for segment in segments {
            let Some(file) = &segment.vectors else {
                continue;
            };
            let flat = Flat::open(dir, file, dimensions)?;
            if last.is_some() && flat.uids().first().copied() <= last {
                return Err(IndexError::Damaged {
                    dir: dir.to_owned(),
                    file: file.clone(),
                    reason: "its uids overlap those of an earlier segment".into(),
                });
            }
            last = flat.uids().last().copied().or(last);
            let graph = segment.graph.as_ref().filter(|_| graphs);
            let graph = graph
                .map(|file| Graph::open(dir, file, dimensions, flat.rows()))
                .transpose()?;
            let rows = flat.rows();
            set.parts.push(Part {
                start: set.rows,
                flat,
                graph,
            });
            set.rows += rows;
        }
        Ok(set)
    }

    /// The row of `uid`.
    pub(crate) fn find(&self, uid: u64) -> Option<usize> {
        let after = self
            .parts
            .partition_point(|part| part.flat.uids().first().is_some_and(|&first| first <= uid));
        let part = self.parts.get(after.checked_sub(1)?)?;
        Some(part.start + part.flat.find(uid)?)
    }

    /// The part that holds `row`, and the row within it.
    pub(crate) fn locate(&self, row: usize) -> (&Flat, usize) {
        let after = self.parts.partition_point(|part| part.start <= row);
        let part = &self.parts[after - 1];
        (&part.flat, row - part.start)
    }

    pub(crate) fn vector(&self, row: usize) -> &[f32] {
        let (flat, row) = self.locate(row);
        flat.vector(row)
    }
}
