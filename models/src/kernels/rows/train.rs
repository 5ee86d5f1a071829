//! The gradients of what decoders compute on rows, and what else training does to rows.

use super::{BASELINE_FMA, Isa, LANES, Level, exp, fold, madd};
use crate::random::{STEP, mix};

/// Which elements of a matrix are dropped: those whose number, drawn from the seed of their row, is below a limit.
#[derive(Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// A seed for each row.
    pub rows: &'a [u64],
    /// What tells this use of the rows from others.
    pub salt: u64,
    /// 2^32 times the share of elements that are dropped.
    pub limit: u32,
    /// What the others are multiplied by.
    pub scale: f32,
}

kernel! {
    /// Adds to `gradient` that of `x`, given `dy`, that of `x / rms(x) * gamma`, on each row.
    pub fn rms_norm_gradient(
        gradient: &mut [f32],
        dy: &[f32],
        x: &[f32],
        gamma: &[f32],
        epsilon: f32,
    ) {
        let width = gamma.len();
        let rows = gradient.chunks_exact_mut(width);
        for ((gradient, dy), x) in rows.zip(dy.chunks_exact(width)).zip(x.chunks_exact(width)) {
            let mean = fold(x, |v| v * v) / width as f32;
            let scale = 1.0 / (mean + epsilon).sqrt();
            let along = dot_of_three::<FMA>(dy, gamma, x);
            let back = along * scale * scale * scale / width as f32;
            for (((g, d), v), w) in gradient.iter_mut().zip(dy).zip(x).zip(gamma) {
                *g += madd::<FMA>(*d * *w, scale, -(*v * back));
            }
        }
    }
}

kernel! {
    /// Given in `gate_gradient` the gradient of `silu(gate) * up`: that of `gate` in its place, and that of `up`.
    pub fn swiglu_gradient(
        gate_gradient: &mut [f32],
        up_gradient: &mut [f32],
        gate: &[f32],
        up: &[f32],
    ) {
        let gradients = gate_gradient.iter_mut().zip(up_gradient);
        for (((dg, du), g), u) in gradients.zip(gate).zip(up) {
            let d = *dg;
            let sigmoid = 1.0 / (1.0 + exp::<FMA>(-*g));
            let silu = *g * sigmoid;
            *du = d * silu;
            *dg = d * *u * madd::<FMA>(silu, 1.0 - sigmoid, sigmoid);
        }
    }
}

kernel! {
    /// In place of the gradient of a row of probabilities: that of the scores that they are the softmax of.
    pub fn softmax_gradient(gradient: &mut [f32], probabilities: &[f32]) {
        let along = dot::<FMA>(gradient, probabilities);
        for (g, p) in gradient.iter_mut().zip(probabilities) {
            *g = (*g - along) * *p;
        }
    }
}

kernel! {
    /// In place of a row of logits, whose `ln Σ e^x` is `sum`: `weight` times their softmax.
    pub fn weighted_softmax(x: &mut [f32], sum: f32, weight: f32) {
        for v in x {
            *v = exp::<FMA>(*v - sum) * weight;
        }
    }
}

kernel! {
    /// Rows of `x` without the elements that are dropped.
    pub fn dropped(out: &mut [f32], x: &[f32], width: usize, mask: Mask<'_>) {
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((out, x), row) in rows.zip(mask.rows) {
            let seed = mix(*row ^ mask.salt);
            for (i, (o, v)) in out.iter_mut().zip(x).enumerate() {
                *o = kept(seed, i, mask) * *v;
            }
        }
    }
}

kernel! {
    /// Adds rows of `x` without the elements that are dropped.
    pub fn add_dropped(out: &mut [f32], x: &[f32], width: usize, mask: Mask<'_>) {
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((out, x), row) in rows.zip(mask.rows) {
            let seed = mix(*row ^ mask.salt);
            for (i, (o, v)) in out.iter_mut().zip(x).enumerate() {
                *o = madd::<FMA>(kept(seed, i, mask), *v, *o);
            }
        }
    }
}

kernel! {
    /// Columns of `source`, whose rows lie `stride` apart, as rows of `target`, which are `width` long. In blocks
    /// that fit the registers, because either side alone would miss the cache at every element.
    pub fn transpose(target: &mut [f32], width: usize, source: &[f32], stride: usize) {
        let rows = target.len() / width;
        let (blocked_rows, blocked_width) = (rows / BLOCK * BLOCK, width / BLOCK * BLOCK);
        for top in (0..blocked_rows).step_by(BLOCK) {
            for left in (0..blocked_width).step_by(BLOCK) {
                let mut block = [[0.0; BLOCK]; BLOCK];
                for (i, row) in block.iter_mut().enumerate() {
                    row.copy_from_slice(&source[(left + i) * stride + top..][..BLOCK]);
                }
                for j in 0..BLOCK {
                    let row = &mut target[(top + j) * width + left..][..BLOCK];
                    for (v, column) in row.iter_mut().zip(&block) {
                        *v = column[j];
                    }
                }
            }
        }
        for row in 0..rows {
            let first = if row < blocked_rows { blocked_width } else { 0 };
            for column in first..width {
                target[row * width + column] = source[column * stride + row];
            }
        }
    }
}

/// Rows and columns that are transposed at once.
const BLOCK: usize = 16;

/// What the element in column `i` is multiplied by: 0 if it is dropped.
#[inline(always)]
fn kept(seed: u64, i: usize, mask: Mask<'_>) -> f32 {
    let drawn = mix(seed.wrapping_add(STEP.wrapping_mul(i as u64 + 1)));
    if (drawn >> 32) as u32 >= mask.limit {
        mask.scale
    } else {
        0.0
    }
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = madd::<FMA>(*a, *b, *sum);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn dot_of_three<const FMA: bool>(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (c, c_rest) = c.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for (((sum, a), b), c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *sum = madd::<FMA>(*a * *b, *c, *sum);
        }
    }
    let rest = a_rest.iter().zip(b_rest).zip(c_rest);
    sums.iter().sum::<f32>() + rest.map(|((a, b), c)| a * b * c).sum::<f32>()
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
