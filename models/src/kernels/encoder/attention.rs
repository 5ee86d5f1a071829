//! Attention within packed sequences. The scores of a tile of queries with all keys of their sequence stay in the cache
//! (a tile of 12 with 512 keys is 24 KB), so the softmax needs no second pass over keys and memory does not grow with the
//! square of a text's length.

use std::sync::{Mutex, PoisonError};

use super::buffer::{Matrix, Shared};
use super::team::Team;
use crate::kernels::rows::Isa;
use crate::kernels::rows::encoder::exp_rows;
use crate::kernels::rows::tile::{LINE, Line, Target};

/// The biases of products without.
const NO_BIAS: [Line; 2] = [Line::ZERO; 2];

pub(crate) struct Attention<'a> {
    pub isa: Isa,
    /// Queries, keys and values of all tokens side by side, row after row.
    pub qkv: &'a Matrix,
    /// Tokens of each sequence.
    pub lengths: &'a [usize],
    /// Columns of the queries, the heads side by side; as many of keys and of values.
    pub width: usize,
    pub heads: usize,
}

/// What one thread needs for a head of a sequence.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    queries: Vec<Line>,
    keys: Vec<Line>,
    scores: Vec<Line>,
    values: Vec<Line>,
    mixed: Vec<Line>,
    sums: Vec<f32>,
}

/// One head of a sequence.
#[derive(Clone, Copy)]
struct Head {
    /// The sequence's first row, and how many it has.
    start: usize,
    length: usize,
    /// The head's first column, and how many it has.
    first: usize,
    size: usize,
}

impl Attention<'_> {
    /// `softmax(q kᵀ / √size) v` of each head of each sequence, the heads side by side, into `out`. Each thread of the
    /// team has a scratch.
    pub fn run(&self, team: &Team, scratch: &[Mutex<Scratch>], out: &mut Matrix) {
        let size = self.width / self.heads;
        let mut jobs = Vec::with_capacity(self.lengths.len() * self.heads);
        let mut start = 0;
        for &length in self.lengths {
            jobs.extend((0..self.heads).map(|head| Head {
                start,
                length,
                first: head * size,
                size,
            }));
            start += length;
        }
        assert!(out.lines * LINE >= self.width && out.height == self.isa.shape().rows);
        assert!(out.data.len() >= start.div_ceil(out.height) * out.tile());
        let target = out.shared();
        team.each(jobs.len(), |range, thread| {
            // Nobody else has this thread's scratch; what a part that failed left in it is written over.
            let mut scratch = scratch[thread]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for job in &jobs[range] {
                self.head(*job, &mut scratch, target);
            }
        });
    }

    fn head(&self, job: Head, scratch: &mut Scratch, target: Shared) {
        let (isa, shape) = (self.isa, self.isa.shape());
        let no_bias = &NO_BIAS[..shape.lines];
        let lines = job.size.div_ceil(LINE);
        scratch.sums.resize(shape.rows, 0.0);
        clear(&mut scratch.queries, lines * shape.rows);
        let panel_of_keys = lines * LINE * shape.lines;
        self.pack_keys(job, panel_of_keys, &mut scratch.keys);
        let weighted = job.length.div_ceil(LINE);
        let panel_of_values = weighted * LINE * shape.lines;
        self.pack_values(job, panel_of_values, &mut scratch.values);
        let step = shape.lines * shape.rows;
        // Every line that is read is written before.
        let panels = job.length.div_ceil(shape.columns());
        scratch.scores.resize(panels * step, Line::ZERO);
        let panels = job.size.div_ceil(shape.columns());
        scratch.mixed.resize(panels * step, Line::ZERO);
        let tile = |start: *mut Line| Target {
            start,
            row: 1,
            line: shape.rows,
        };
        for first in (0..job.length).step_by(shape.rows) {
            let count = shape.rows.min(job.length - first);
            self.pack_queries(job, first, count, &mut scratch.queries);
            let keys = scratch.keys.chunks_exact(panel_of_keys);
            for (part, keys) in scratch.scores.chunks_exact_mut(step).zip(keys) {
                // SAFETY: the part has a line for each row of the tile and line of the panel.
                unsafe {
                    isa.product(
                        count,
                        &scratch.queries,
                        keys,
                        no_bias,
                        tile(part.as_mut_ptr()),
                    )
                };
            }
            let sums = &mut scratch.sums[..count];
            exp_rows(isa, &mut scratch.scores, shape.rows, job.length, sums);
            let values = scratch.values.chunks_exact(panel_of_values);
            for (part, values) in scratch.mixed.chunks_exact_mut(step).zip(values) {
                // SAFETY: as above.
                unsafe {
                    isa.product(
                        count,
                        &scratch.scores,
                        values,
                        no_bias,
                        tile(part.as_mut_ptr()),
                    )
                };
            }
            for (row, sum) in sums.iter().enumerate() {
                let own = scratch.mixed[row..].iter().step_by(shape.rows).take(lines);
                // SAFETY: `run` has seen that the rows and columns exist; nobody else has this head of this sequence.
                unsafe { store(target, job.start + first + row, job, own, 1.0 / *sum) };
            }
        }
    }

    /// The head's columns of a row of queries (0), keys (1) or values (2).
    fn part(&self, job: Head, row: usize, part: usize) -> &[f32] {
        &self.qkv.row(job.start + row)[part * self.width + job.first..][..job.size]
    }

    /// The transpose of the keys, in panels.
    fn pack_keys(&self, job: Head, panel: usize, keys: &mut Vec<Line>) {
        let shape = self.isa.shape();
        clear(keys, job.length.div_ceil(shape.columns()) * panel);
        for key in 0..job.length {
            let (line, lane) = (key % shape.columns() / LINE, key % LINE);
            let own = &mut keys[key / shape.columns() * panel + line..];
            let rows = own.iter_mut().step_by(shape.lines);
            for (row, value) in rows.zip(self.part(job, key, 1)) {
                row.0[lane] = *value;
            }
        }
    }

    /// The values, in panels.
    fn pack_values(&self, job: Head, panel: usize, values: &mut Vec<Line>) {
        let shape = self.isa.shape();
        clear(values, job.size.div_ceil(shape.columns()) * panel);
        for key in 0..job.length {
            let parts = self.part(job, key, 2).chunks(LINE).enumerate();
            for (i, part) in parts {
                let at = i / shape.lines * panel + key * shape.lines + i % shape.lines;
                values[at].0[..part.len()].copy_from_slice(part);
            }
        }
    }

    /// A tile of `count` queries, scaled.
    fn pack_queries(&self, job: Head, first: usize, count: usize, queries: &mut [Line]) {
        let scale = 1.0 / (job.size as f32).sqrt();
        let height = self.isa.shape().rows;
        for row in 0..count {
            let parts = self.part(job, first + row, 0).chunks(LINE).enumerate();
            for (i, part) in parts {
                for (q, v) in queries[i * height + row].0.iter_mut().zip(part) {
                    *q = *v * scale;
                }
            }
        }
    }
}

/// Writes a head of a row, `scale` times.
///
/// # Safety
/// The row must exist in `target` and have the head's columns, and nothing else may use these meanwhile.
unsafe fn store<'a>(
    target: Shared,
    row: usize,
    job: Head,
    lines: impl Iterator<Item = &'a Line>,
    scale: f32,
) {
    let start = target.line(row, 0);
    let columns = (job.first..job.first + job.size).step_by(LINE);
    for (column, line) in columns.zip(lines) {
        let count = LINE.min(job.first + job.size - column);
        if count == LINE && column % LINE == 0 {
            // SAFETY: the line exists by the caller's word, and is the head's as a whole.
            let own = unsafe { &mut *start.add(column / LINE * target.along) };
            for (o, v) in own.0.iter_mut().zip(&line.0) {
                *o = *v * scale;
            }
        } else {
            for (column, v) in (column..).zip(&line.0[..count]) {
                // SAFETY: the line exists by the caller's word; of it, this column is the head's.
                unsafe {
                    let own: *mut f32 = start.add(column / LINE * target.along).cast();
                    *own.add(column % LINE) = *v * scale;
                }
            }
        }
    }
}

/// `count` lines of zeros.
fn clear(lines: &mut Vec<Line>, count: usize) {
    lines.clear();
    lines.resize(count, Line::ZERO);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::rows::tests::levels;
    use crate::random::Draws;

    fn matrix(isa: Isa, rows: &[Vec<f32>], width: usize) -> Matrix {
        let mut matrix = Matrix::plain(isa.shape(), width.div_ceil(LINE));
        matrix.fit(rows.len());
        for (i, row) in rows.iter().enumerate() {
            for (line, part) in row.chunks(LINE).enumerate() {
                let at = matrix.at(i, line);
                matrix.data[at].0[..part.len()].copy_from_slice(part);
            }
        }
        matrix
    }

    /// What attention makes of the rows, and whether it left what fills the last lines at 0.
    fn attended(
        isa: Isa,
        rows: &[Vec<f32>],
        lengths: &[usize],
        width: usize,
        heads: usize,
        team: &Team,
    ) -> Vec<Vec<f32>> {
        let qkv = matrix(isa, rows, 3 * width);
        let mut out = Matrix::tiled(isa.shape(), width.div_ceil(LINE));
        out.fit(rows.len());
        let scratch: Vec<Mutex<Scratch>> = (0..team.threads()).map(|_| Mutex::default()).collect();
        let attention = Attention {
            isa,
            qkv: &qkv,
            lengths,
            width,
            heads,
        };
        attention.run(team, &scratch, &mut out);
        let row = |row: usize| {
            let lines = (0..out.lines).map(|line| out.data[out.at(row, line)]);
            let mut values: Vec<f32> = lines.flat_map(|line| line.0).collect();
            assert!(values.split_off(width).iter().all(|v| *v == 0.0));
            values
        };
        (0..rows.len()).map(row).collect()
    }

    fn by_definition(
        rows: &[Vec<f32>],
        query: usize,
        width: usize,
        first: usize,
        size: usize,
    ) -> Vec<f64> {
        let part = |row: &Vec<f32>, part: usize| -> Vec<f64> {
            let own = &row[part * width + first..][..size];
            own.iter().map(|v| f64::from(*v)).collect()
        };
        let q = part(&rows[query], 0);
        let dot = |k: Vec<f64>| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
        let scores: Vec<f64> = rows
            .iter()
            .map(|row| dot(part(row, 1)) / (size as f64).sqrt())
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut out = vec![0.0; size];
        for (weight, row) in weights.iter().zip(rows) {
            for (o, v) in out.iter_mut().zip(part(row, 2)) {
                *o += weight / sum * v;
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// A score is off by a unit of roundoff of the magnitude of its products for each of them, which a weight is off
        /// by relative to itself; exponentials and sums add 1e-5. Each sequence is the same to the bit alone.
        #[test]
        fn attention_is_that_of_the_definition(
            lengths in prop::collection::vec(prop::sample::select(vec![0usize, 1, 2, 11, 12, 13, 16, 17, 33, 70]), 1..5),
            size in prop::sample::select(vec![1usize, 12, 16, 31, 32, 64]),
            heads in 1usize..4,
            magnitude in prop::sample::select(vec![0.0f32, 1.0, 20.0]),
            seed in any::<u64>(),
        ) {
            let width = size * heads;
            let mut draws = Draws::new(seed);
            let mut row = || -> Vec<f32> {
                (0..3 * width).map(|_| (draws.uniform() as f32 - 0.5) * magnitude).collect()
            };
            let tokens: usize = lengths.iter().sum();
            let rows: Vec<Vec<f32>> = (0..tokens).map(|_| row()).collect();
            let score = f64::from(magnitude).powi(2) / 4.0 * (size as f64).sqrt();
            let off = 2.0 * (size + 3) as f64 * f64::from(f32::EPSILON) * score + 1e-5;
            for isa in levels() {
                let got = attended(isa, &rows, &lengths, width, heads, &Team::gather());
                let mut start = 0;
                for length in &lengths {
                    let own = start..start + length;
                    let alone = attended(isa, &rows[own.clone()], &[*length], width, heads, &Team::alone());
                    prop_assert_eq!(&alone, &got[own.clone()]);
                    for (query, got) in alone.iter().enumerate() {
                        for head in 0..heads {
                            let want = by_definition(&rows[own.clone()], query, width, head * size, size);
                            for (got, want) in got[head * size..].iter().zip(&want) {
                                let off = off * f64::from(magnitude);
                                prop_assert!((f64::from(*got) - want).abs() <= off, "{} against {}", got, want);
                            }
                        }
                    }
                    start = own.end;
                }
            }
        }
    }
}
