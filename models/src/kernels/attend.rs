//! Attention of new tokens over the keys and values that a cache holds, their own included.

use rayon::prelude::*;

use super::decoder::Places;
use super::rows::{self, Isa};
use super::{Columns, PARALLEL};

/// Queries whose scores are held at once, so that memory does not grow with the square of a text's length.
const BLOCK: usize = 64;

pub(super) struct Attention<'a> {
    /// `[tokens, width]`, the heads side by side.
    pub queries: &'a [f32],
    /// `[sequences * room, kept]`, the heads side by side.
    pub keys: &'a [f32],
    /// As the keys.
    pub values: &'a [f32],
    pub width: usize,
    /// Columns of keys and values: several heads of the queries may share one of theirs.
    pub kept: usize,
    /// Columns of a head.
    pub size: usize,
}

impl Attention<'_> {
    /// `softmax(q kᵀ / √size) v` of each head, `[tokens, width]`; a token sees those before it and itself.
    pub fn run(&self, places: &Places) -> Vec<f32> {
        let mut out = vec![0.0; self.queries.len()];
        let jobs = self.jobs(places, out.as_mut_ptr());
        let isa = Isa::detect();
        let scores: usize = jobs.iter().map(|job| job.out.rows * job.columns()).sum();
        if scores < PARALLEL {
            let mut scratch = Vec::new();
            jobs.iter().for_each(|job| job.run(isa, &mut scratch));
        } else {
            jobs.par_iter()
                .for_each_init(Vec::new, |scratch, job| job.run(isa, scratch));
        }
        out
    }

    fn jobs(&self, places: &Places, out: *mut f32) -> Vec<Job<'_>> {
        let mut jobs = Vec::new();
        let mut token = 0;
        for (sequence, (&past, &new)) in places.past.iter().zip(&places.new).enumerate() {
            let area = places.room * self.kept;
            let own = sequence * area..(sequence + 1) * area;
            let (keys, values) = (&self.keys[own.clone()], &self.values[own]);
            let job = |token: usize, head: usize, stride: usize, rows: usize| {
                let start = token * self.width + head * self.size;
                let shared = head / (self.width / self.kept) * self.size;
                Job {
                    queries: &self.queries[start..],
                    keys: &keys[shared..],
                    values: &values[shared..],
                    out: Columns {
                        start: out.wrapping_add(start),
                        stride,
                        rows,
                    },
                    across: self.kept,
                    size: self.size,
                    seen: 0,
                    growth: 0,
                }
            };
            if new == 1 {
                let group = self.width / self.kept;
                let heads = (0..self.width / self.size).step_by(group);
                jobs.extend(heads.map(|head| Job {
                    seen: past + 1,
                    ..job(token, head, self.size, group)
                }));
            } else {
                for first in (0..new).step_by(BLOCK) {
                    let rows = BLOCK.min(new - first);
                    jobs.extend((0..self.width / self.size).map(|head| Job {
                        seen: past + first + 1,
                        growth: 1,
                        ..job(token + first, head, self.width, rows)
                    }));
                }
            }
            token += new;
        }
        jobs
    }
}

/// Some queries over one head of keys and values: a stretch of tokens with one head each, or one token with all the
/// heads that share these keys.
struct Job<'a> {
    /// From the first query's first column on; queries lie as far apart as the rows of `out`.
    queries: &'a [f32],
    /// From the sequence's first row and the head's first column on.
    keys: &'a [f32],
    values: &'a [f32],
    out: Columns,
    /// From one row of keys or values to the next.
    across: usize,
    size: usize,
    /// Keys that the first query sees.
    seen: usize,
    /// Keys that each further query sees more than the one before it.
    growth: usize,
}

impl Job<'_> {
    /// Keys that the last query sees.
    fn columns(&self) -> usize {
        self.seen + self.growth * (self.out.rows - 1)
    }

    fn run(&self, isa: Isa, scratch: &mut Vec<f32>) {
        let (count, size, columns) = (self.out.rows, self.size, self.columns());
        assert!(self.queries.len() >= (count - 1) * self.out.stride + size);
        let needed = (columns - 1) * self.across + size;
        assert!(self.keys.len() >= needed && self.values.len() >= needed);
        scratch.resize(count * columns, 0.0);
        let stride = self.out.stride as isize;
        let (across, row) = (self.across as isize, columns as isize);
        let scale = 1.0 / (size as f32).sqrt();
        let serial = gemm::Parallelism::None;
        // SAFETY: by the assertions, `count` rows of `size` columns lie inside `queries`, and `columns` such rows
        // inside `keys`; `scratch` has count x columns elements.
        unsafe {
            let (q, k) = (self.queries.as_ptr(), self.keys.as_ptr());
            let scores = scratch.as_mut_ptr();
            gemm::gemm(
                count, columns, size, scores, 1, row, false, q, 1, stride, k, across, 1, 0.0,
                scale, false, false, false, serial,
            );
        }
        for (i, scores) in scratch.chunks_exact_mut(columns).enumerate() {
            let (seen, unseen) = scores.split_at_mut(self.seen + self.growth * i);
            let width = seen.len();
            rows::softmax(isa, seen, width);
            unseen.fill(0.0);
        }
        // SAFETY: as above for `values`; `out` is laid out as `queries`, and no other job writes these columns of
        // these rows.
        unsafe {
            let (scores, v) = (scratch.as_ptr(), self.values.as_ptr());
            let out = self.out.start;
            gemm::gemm(
                count, size, columns, out, 1, stride, false, scores, 1, row, v, 1, across, 0.0,
                1.0, false, false, false, serial,
            );
        }
    }
}
