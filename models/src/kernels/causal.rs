//! Causal attention within packed sequences, and its gradients. Probabilities are computed again on the way back
//! instead of being kept (Dao et al., 2022), block by block of queries.

use std::ops::Range;

use rayon::prelude::*;

use super::product::{SERIAL, Target, View, multiply};
use super::rows::{self, Isa};
use super::{Columns, PARALLEL};

/// Queries whose scores are held at once.
const BLOCK: usize = 64;

/// Sequences one after another without padding; a token sees those before it in its sequence, and itself.
#[derive(Clone, Copy)]
pub(crate) struct Causal<'a> {
    /// `[tokens, width]`, the heads side by side.
    pub queries: &'a [f32],
    /// `[tokens, kept]`, the heads side by side.
    pub keys: &'a [f32],
    /// As the keys.
    pub values: &'a [f32],
    pub width: usize,
    /// Columns of keys and values: several heads of the queries may share one of theirs.
    pub kept: usize,
    /// Columns of a head.
    pub size: usize,
    /// Tokens of each sequence.
    pub lengths: &'a [usize],
}

/// Gradients as they lie in memory, of the attention's output and inputs.
#[derive(Clone, Copy)]
struct Flow<'a> {
    out: &'a [f32],
    queries: Columns,
    keys: Columns,
    values: Columns,
}

/// Some queries of a sequence with one head.
struct Block {
    /// The sequence's first token.
    start: usize,
    /// The queries, counted from there. The last of them sees as many keys as `rows.end`.
    rows: Range<usize>,
    head: usize,
}

#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
}

impl Causal<'_> {
    /// `softmax(q kᵀ / √size) v` of each head, into `[tokens, width]`.
    pub fn run(&self, out: &mut [f32]) {
        let target = self.columns(out, self.width);
        let isa = Isa::detect();
        self.each(self.width / self.size, |sequence, head, scratch| {
            for block in blocks(sequence, head) {
                self.attend(isa, &block, target, &mut scratch.probabilities);
            }
        });
    }

    /// The gradients of queries, keys and values, given that of the output.
    pub fn gradients(
        &self,
        out: &[f32],
        queries: &mut [f32],
        keys: &mut [f32],
        values: &mut [f32],
    ) {
        assert_eq!(out.len(), self.queries.len());
        keys.fill(0.0);
        values.fill(0.0);
        let flow = Flow {
            out,
            queries: self.columns(queries, self.width),
            keys: self.columns(keys, self.kept),
            values: self.columns(values, self.kept),
        };
        let (isa, group) = (Isa::detect(), self.width / self.kept);
        // All heads that share keys in one job, because they add to the same gradients.
        self.each(self.kept / self.size, |sequence, kept, scratch| {
            for head in kept * group..(kept + 1) * group {
                for block in blocks(sequence, head) {
                    self.attend_back(isa, &block, flow, scratch);
                }
            }
        });
    }

    /// A matrix that has a row for each token.
    fn columns(&self, matrix: &mut [f32], width: usize) -> Columns {
        let rows: usize = self.lengths.iter().sum();
        assert_eq!(matrix.len(), rows * width);
        Columns {
            start: matrix.as_mut_ptr(),
            stride: width,
            rows,
        }
    }

    /// Runs `f` for each sequence and each of `heads` heads, on several threads when that pays.
    fn each(&self, heads: usize, f: impl Fn(&Range<usize>, usize, &mut Scratch) + Sync) {
        let tokens: usize = self.lengths.iter().sum();
        assert_eq!(self.queries.len(), tokens * self.width);
        assert!(self.keys.len() == tokens * self.kept && self.values.len() == tokens * self.kept);
        let mut jobs = Vec::with_capacity(self.lengths.len() * heads);
        let mut start = 0;
        for length in self.lengths {
            let sequence = start..start + length;
            jobs.extend((0..heads).map(|head| (sequence.clone(), head)));
            start = sequence.end;
        }
        let scores: usize = self.lengths.iter().map(|length| length * length).sum();
        if scores * heads < PARALLEL {
            let mut scratch = Scratch::default();
            jobs.iter()
                .for_each(|(sequence, head)| f(sequence, *head, &mut scratch));
        } else {
            jobs.par_iter()
                .for_each_init(Scratch::default, |scratch, (sequence, head)| {
                    f(sequence, *head, scratch);
                });
        }
    }

    fn attend(&self, isa: Isa, block: &Block, out: Columns, scratch: &mut Vec<f32>) {
        self.probabilities(isa, block, scratch);
        let p = View::new(scratch, block.rows.len(), block.rows.end);
        let values = self.seen(self.values, block);
        // SAFETY: no other job writes this head's columns of this sequence's rows.
        unsafe {
            let target = self.queries_in(out, block);
            multiply(target, 1.0, p, values, SERIAL);
        }
    }

    fn attend_back(&self, isa: Isa, block: &Block, flow: Flow<'_>, scratch: &mut Scratch) {
        let Scratch {
            probabilities,
            gradients,
        } = scratch;
        self.probabilities(isa, block, probabilities);
        let (count, columns) = (block.rows.len(), block.rows.end);
        gradients.resize(count * columns, 0.0);
        let d = self.own(flow.out, block);
        let (queries, keys) = (self.own(self.queries, block), self.seen(self.keys, block));
        let values = self.seen(self.values, block);
        let whole = Target {
            start: gradients.as_mut_ptr(),
            stride: columns,
            keep: false,
        };
        // SAFETY: `gradients` has the size of the product.
        unsafe { multiply(whole, 1.0, d, values.transposed(), SERIAL) };
        let pairs = gradients.chunks_exact_mut(columns);
        for (i, (g, p)) in pairs.zip(probabilities.chunks_exact(columns)).enumerate() {
            let (seen, unseen) = g.split_at_mut(block.rows.start + i + 1);
            rows::train::softmax_gradient(isa, seen, &p[..block.rows.start + i + 1]);
            unseen.fill(0.0);
        }
        let p = View::new(probabilities, count, columns);
        let scores = View::new(gradients, count, columns);
        let scale = self.scale();
        // SAFETY: no other job writes these columns of this sequence's rows; for keys and values, no other job has this
        // sequence with these heads.
        unsafe {
            multiply(
                self.seen_in(flow.values, block),
                1.0,
                p.transposed(),
                d,
                SERIAL,
            );
            multiply(
                self.queries_in(flow.queries, block),
                scale,
                scores,
                keys,
                SERIAL,
            );
            multiply(
                self.seen_in(flow.keys, block),
                scale,
                scores.transposed(),
                queries,
                SERIAL,
            );
        }
    }

    /// What each query gives to each key: 0 to those that come after it.
    fn probabilities(&self, isa: Isa, block: &Block, out: &mut Vec<f32>) {
        let (count, columns) = (block.rows.len(), block.rows.end);
        out.resize(count * columns, 0.0);
        let whole = Target {
            start: out.as_mut_ptr(),
            stride: columns,
            keep: false,
        };
        let queries = self.own(self.queries, block);
        let keys = self.seen(self.keys, block).transposed();
        // SAFETY: `out` has the size of the product.
        unsafe { multiply(whole, self.scale(), queries, keys, SERIAL) };
        for (i, row) in out.chunks_exact_mut(columns).enumerate() {
            let (seen, unseen) = row.split_at_mut(block.rows.start + i + 1);
            let width = seen.len();
            rows::softmax(isa, seen, width);
            unseen.fill(0.0);
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }

    /// Where the block's queries begin in a matrix as wide as they are.
    fn first(&self, block: &Block) -> usize {
        (block.start + block.rows.start) * self.width + block.head * self.size
    }

    /// Where the keys that the block sees begin.
    fn first_seen(&self, block: &Block) -> usize {
        let head = block.head / (self.width / self.kept);
        block.start * self.kept + head * self.size
    }

    /// The block's rows of a matrix as wide as the queries.
    fn own<'a>(&self, matrix: &'a [f32], block: &Block) -> View<'a> {
        let rows = &matrix[self.first(block)..];
        View::strided(rows, block.rows.len(), self.size, self.width)
    }

    /// The rows of keys or values that the block sees.
    fn seen<'a>(&self, matrix: &'a [f32], block: &Block) -> View<'a> {
        let rows = &matrix[self.first_seen(block)..];
        View::strided(rows, block.rows.end, self.size, self.kept)
    }

    fn queries_in(&self, matrix: Columns, block: &Block) -> Target {
        Target {
            start: matrix.start.wrapping_add(self.first(block)),
            stride: matrix.stride,
            keep: false,
        }
    }

    fn seen_in(&self, matrix: Columns, block: &Block) -> Target {
        Target {
            start: matrix.start.wrapping_add(self.first_seen(block)),
            stride: matrix.stride,
            keep: true,
        }
    }
}

fn blocks(sequence: &Range<usize>, head: usize) -> impl Iterator<Item = Block> {
    let (start, length) = (sequence.start, sequence.len());
    (0..length).step_by(BLOCK).map(move |first| Block {
        start,
        rows: first..length.min(first + BLOCK),
        head,
    })
}

#[cfg(test)]
#[path = "causal_tests.rs"]
mod tests;
