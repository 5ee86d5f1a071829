//! HNSW graphs (Malkov and Yashunin, 2016) over large segments, by usearch.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::Flat;
use crate::error::{IndexError, Result};

/// Links per passage and level.
const CONNECTIVITY: usize = 16;
/// Candidates kept while building.
const EXPANSION_ADD: usize = 128;
/// Queries that may walk one graph at a time; further ones scan.
const MAX_SEARCHES: usize = 64;
/// Passages added between two looks at the caller's wish to stop.
const BATCH: usize = 1024;

/// An opened graph. Keys are rows of its segment.
pub(crate) struct Graph(Index);

/// Vectors are held in half precision, enough to find candidates; they are scored in full.
fn options(dimensions: usize) -> IndexOptions {
    IndexOptions {
        dimensions,
        metric: MetricKind::IP,
        quantization: ScalarKind::F16,
        connectivity: CONNECTIVITY,
        expansion_add: EXPANSION_ADD,
        expansion_search: 1,
        multi: false,
    }
}

/// Builds the graph of `flat` on all of rayon's threads and writes it to `path`. `progress`
/// is told the rows added so far.
pub(crate) fn build(
    path: &Path,
    flat: &Flat,
    dimensions: usize,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<()> {
    let failed = |e: String| IndexError::Graph {
        file: path.display().to_string(),
        reason: e,
    };
    let index = Index::new(&options(dimensions)).map_err(|e| failed(e.to_string()))?;
    index
        .reserve_capacity_and_threads(flat.rows(), rayon::current_num_threads())
        .map_err(|e| failed(e.to_string()))?;
    for start in (0..flat.rows()).step_by(BATCH) {
        let end = (start + BATCH).min(flat.rows());
        (start..end)
            .into_par_iter()
            .try_for_each(|row| index.add(row as u64, flat.vector(row)))
            .map_err(|e| failed(e.to_string()))?;
        if progress(end as u64).is_break() {
            return Err(IndexError::Cancelled);
        }
    }
    index.save(utf8(path)?).map_err(|e| failed(e.to_string()))
}

impl Graph {
    /// Maps the graph `file` of `dir`, which has `rows` rows.
    pub(crate) fn open(dir: &Path, file: &str, dimensions: usize, rows: usize) -> Result<Self> {
        let damaged = |reason: String| IndexError::Damaged {
            dir: dir.to_owned(),
            file: file.to_owned(),
            reason,
        };
        let path = dir.join(file);
        let path = utf8(&path)?;
        let found = Index::metadata(path).map_err(|e| damaged(e.to_string()))?;
        if (found.dimensions, found.count_present) != (dimensions as u64, rows as u64) {
            return Err(damaged(format!(
                "it has {} vectors of {} dimensions, its segment {rows} of {dimensions}",
                found.count_present, found.dimensions
            )));
        }
        let index = Index::new(&options(dimensions)).map_err(|e| damaged(e.to_string()))?;
        index
            .reserve_capacity_and_threads(0, MAX_SEARCHES)
            .map_err(|e| damaged(e.to_string()))?;
        index.view(path).map_err(|e| damaged(e.to_string()))?;
        index.change_expansion_search(1);
        Ok(Self(index))
    }

    /// Up to `wanted` rows near `query` that `passes`; as many candidates are kept on the walk, which goes through rows
    /// that do not pass as well. Fewer when it does not reach more. `None` when it would look at more than `most` rows,
    /// as it does where nothing near `query` passes, and when [`MAX_SEARCHES`] are under way.
    pub(crate) fn search(
        &self,
        query: &[f32],
        wanted: usize,
        most: usize,
        passes: impl Fn(u64) -> bool,
    ) -> Option<Vec<usize>> {
        let looks = Cell::new(0);
        let passes = |row| {
            looks.set(looks.get() + 1);
            // The library has no way to stop a walk: it ends by itself once all pass.
            looks.get() > most || passes(row)
        };
        let matches = self.0.filtered_search(query, wanted, passes).ok()?;
        (looks.get() <= most).then(|| matches.keys.iter().map(|&row| row as usize).collect())
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| IndexError::Graph {
        file: path.display().to_string(),
        reason: "the vector library takes UTF-8 paths only: move the directory".into(),
    })
}
