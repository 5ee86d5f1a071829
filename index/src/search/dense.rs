//! Search by vector.

use std::cmp::Ordering;

use crate::bits::Bits;
use crate::revision::Revision;
use crate::vectors::{GRAPH_MIN, Part, dot};

/// Candidates that a walk keeps when all passages pass.
const EXPANSION: usize = 128;
/// A walk for more results than one in so many of those that pass costs more than a scan.
const WALK_SHARE: usize = 16;
/// A walk may look at so many rows for each candidate. Seen in any order, about `ln` of the number seen would be nearer
/// than all before, some 4 for each candidate; those that do not pass come on top, at most as many again for the shares
/// that [`worth_walking`] admits. Where what passes lies far from the query, any number would be looked at.
const LOOKS: usize = 16;
/// A look costs about as much as scanning so many rows: a walk is given up when it has cost as much as a scan.
const LOOK_COST: usize = 8;

impl Revision {
    /// The `wanted` best live rows by inner product among those in `passing`, with how they were found.
    pub(crate) fn nearest(
        &self,
        vector: &[f32],
        wanted: usize,
        passing: Option<&Bits>,
        exact: bool,
    ) -> (Vec<(f32, usize)>, &'static str) {
        let passing = passing.unwrap_or(&self.live);
        let (mut walked, mut scanned) = (false, false);
        let mut best = Vec::new();
        for part in &self.vectors.parts {
            let rows = part.start..part.start + part.flat.rows();
            let count = passing.count(rows.start, rows.end);
            let score = |row: usize| (dot(vector, part.flat.vector(row - part.start)), row);
            let found = (!exact)
                .then(|| walk(part, vector, wanted, count, passing))
                .flatten();
            match found {
                Some(found) => {
                    walked = true;
                    best.extend(found.into_iter().map(score));
                }
                None if count > 0 => {
                    scanned = true;
                    best.extend(passing.range(rows.start, rows.end).map(score));
                }
                None => {}
            }
        }
        self.keep_best(&mut best, wanted);
        let strategy = match (walked, scanned) {
            (true, true) => "graph+scan",
            (true, false) => "graph",
            (false, true) => "scan",
            (false, false) => "none",
        };
        (best, strategy)
    }

    fn keep_best(&self, scored: &mut Vec<(f32, usize)>, wanted: usize) {
        let order = |a: &(f32, usize), b: &(f32, usize)| -> Ordering {
            b.0.total_cmp(&a.0)
                .then_with(|| (self.ranks[a.1], a.1).cmp(&(self.ranks[b.1], b.1)))
        };
        if wanted == 0 {
            scored.clear();
        } else if wanted < scored.len() {
            scored.select_nth_unstable_by(wanted - 1, order);
            scored.truncate(wanted);
        }
        scored.sort_unstable_by(order);
    }
}

/// Whether a walk is cheaper than scanning the `passing` of a part. A walk through all costs
/// about as much as scanning [`GRAPH_MIN`] passages. One that skips what does not pass needs
/// more candidates for the same recall (see [`walk`]) and more steps for each: both in inverse
/// proportion to the share that passes.
fn worth_walking(part: &Part, passing: usize, wanted: usize) -> bool {
    let (rows, passing_rows) = (part.flat.rows() as f64, passing as f64);
    passing_rows.powi(3) > GRAPH_MIN as f64 * rows.powi(2) && wanted < passing / WALK_SHARE
}

/// At least as many rows as are `wanted` among the `count` of `part` that pass; `None` when a
/// walk is not worth it, goes too far or finds fewer: then they are scanned.
fn walk(
    part: &Part,
    vector: &[f32],
    wanted: usize,
    count: usize,
    passing: &Bits,
) -> Option<Vec<usize>> {
    let graph = part
        .graph
        .as_ref()
        .filter(|_| worth_walking(part, count, wanted))?;
    let candidates = wanted.max(EXPANSION * part.flat.rows() / count);
    let most = (LOOKS * candidates).max(count / LOOK_COST);
    let found = graph.search(vector, candidates, most, |row| {
        passing.contains(part.start + row as usize)
    })?;
    (found.len() >= wanted).then(|| found.into_iter().map(|row| part.start + row).collect())
}
