//! What decoders compute on rows.

use super::{BASELINE_FMA, Isa, LANES, Level, exp, fold, madd, max};

kernel! {
    /// `x / rms(x) * gamma` on each row of `x`.
    pub fn rms_norm(x: &mut [f32], gamma: &[f32], epsilon: f32) {
        for row in x.chunks_exact_mut(gamma.len()) {
            let mean = fold(row, |v| v * v) / gamma.len() as f32;
            let scale = 1.0 / (mean + epsilon).sqrt();
            for (v, g) in row.iter_mut().zip(gamma) {
                *v = *v * scale * g;
            }
        }
    }
}

kernel! {
    /// Turns the heads of each row of `x`: element `i` of a head and element `i + size/2` by one angle. A row of
    /// `table` holds the cosines of the angles of a row of `x`, then their sines.
    pub fn rotate(x: &mut [f32], width: usize, table: &[f32], size: usize) {
        for (row, table) in x.chunks_exact_mut(width).zip(table.chunks_exact(size)) {
            let (cosines, sines) = table.split_at(size / 2);
            for head in row.chunks_exact_mut(size) {
                let (low, high) = head.split_at_mut(size / 2);
                for (((a, b), c), s) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                    let (x, y) = (*a, *b);
                    *a = madd::<FMA>(x, *c, -(y * s));
                    *b = madd::<FMA>(y, *c, x * s);
                }
            }
        }
    }
}

kernel! {
    /// `silu(gate) * up`, in place of `gate`.
    pub fn swiglu(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp::<FMA>(-*g)) * u;
        }
    }
}

kernel! {
    /// Adds `x weight` to `out`. `weight` begins at the first of the columns that `out` has; its rows lie `stride`
    /// apart. Four rows at once, so that `out` is read and written a quarter as often.
    pub fn accumulate(out: &mut [f32], x: &[f32], weight: &[f32], stride: usize) {
        let width = out.len();
        let row = |i: usize| &weight[i * stride..][..width];
        let (fours, rest) = x.as_chunks::<4>();
        for (i, [a, b, c, d]) in fours.iter().enumerate() {
            let (first, second) = (row(4 * i), row(4 * i + 1));
            let (third, fourth) = (row(4 * i + 2), row(4 * i + 3));
            let columns = out.iter_mut().zip(first).zip(second).zip(third).zip(fourth);
            for ((((o, p), q), r), s) in columns {
                let sum = madd::<FMA>(*b, *q, madd::<FMA>(*a, *p, *o));
                *o = madd::<FMA>(*d, *s, madd::<FMA>(*c, *r, sum));
            }
        }
        for (i, v) in rest.iter().enumerate() {
            for (o, w) in out.iter_mut().zip(row(4 * fours.len() + i)) {
                *o = madd::<FMA>(*v, *w, *o);
            }
        }
    }
}

kernel! {
    /// The products of `x` with each row of `weight`.
    pub fn dots(out: &mut [f32], x: &[f32], weight: &[f32]) {
        let (blocks, rest) = x.as_chunks::<LANES>();
        for (o, row) in out.iter_mut().zip(weight.chunks_exact(x.len())) {
            let (row_blocks, row_rest) = row.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for (a, b) in blocks.iter().zip(row_blocks) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum = madd::<FMA>(*a, *b, *sum);
                }
            }
            let tail: f32 = rest.iter().zip(row_rest).map(|(a, b)| a * b).sum();
            *o = total(sums) + tail;
        }
    }
}

kernel! {
    /// `ln Σ e^x` over a row.
    pub fn log_sum_exp(x: &[f32], out: &mut f32) {
        let max = max(x);
        let (blocks, rest) = x.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for block in blocks {
            for (sum, v) in sums.iter_mut().zip(block) {
                *sum += exp::<FMA>(*v - max);
            }
        }
        let tail: f32 = rest.iter().map(|v| exp::<FMA>(*v - max)).sum();
        *out = max + (total(sums) + tail).ln();
    }
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn total(mut sums: [f32; LANES]) -> f32 {
    let mut count = LANES;
    while count > 1 {
        count /= 2;
        let (low, high) = sums.split_at_mut(count);
        for (l, h) in low.iter_mut().zip(high) {
            *l += *h;
        }
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;

    fn sample(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 - 1.0)
            .collect()
    }

    fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
        assert_eq!(got.len(), want.len());
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!(
                (f64::from(*g) - w).abs() <= tolerance,
                "element {i}: {g} against {w}"
            );
        }
    }

    #[test]
    fn products_with_a_vector_are_those_of_the_definition() {
        let (inputs, outputs) = (77, 45);
        let (x, weight) = (sample(inputs, 1), sample(inputs * outputs, 2));
        let column = |j: usize| {
            (0..inputs)
                .map(|i| f64::from(x[i]) * f64::from(weight[i * outputs + j]))
                .sum::<f64>()
        };
        let want: Vec<f64> = (0..outputs).map(column).collect();
        let mut across = vec![0.0; inputs * outputs];
        crate::matrix::transpose(&weight, outputs, &mut across, inputs, 0);
        for isa in levels() {
            let mut got = vec![0.0; outputs];
            accumulate(isa, &mut got[..20], &x, &weight, outputs);
            accumulate(isa, &mut got[20..], &x, &weight[20..], outputs);
            assert_close(&got, &want, 2e-5);
            dots(isa, &mut got, &x, &across);
            assert_close(&got, &want, 2e-5);
        }
    }

    #[test]
    fn rotation_turns_pairs_half_a_head_apart() {
        let (angle, other) = (0.3f64, 1.1f64);
        let table = [angle.cos(), other.cos(), angle.sin(), other.sin()].map(|v| v as f32);
        for isa in levels() {
            let mut x = [1.0, 0.0, 0.0, 2.0, 0.0, 1.0, 1.0, 0.0];
            rotate(isa, &mut x, 8, &table, 4);
            let want = [
                angle.cos(),
                -2.0 * other.sin(),
                angle.sin(),
                2.0 * other.cos(),
                -angle.sin(),
                other.cos(),
                angle.cos(),
                other.sin(),
            ];
            assert_close(&x, &want, 1e-6);
        }
    }

    #[test]
    fn norm_gate_and_log_sum_exp_are_those_of_the_definition() {
        let (x, y) = (sample(100, 3), sample(100, 4));
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let (a, b) = (wide(&x), wide(&y));
        let rms = (a.iter().map(|v| v * v).sum::<f64>() / 100.0 + 1e-5).sqrt();
        let norm: Vec<f64> = a.iter().zip(&b).map(|(v, g)| v / rms * g).collect();
        let gate: Vec<f64> = a
            .iter()
            .zip(&b)
            .map(|(v, u)| v / (1.0 + (-v).exp()) * u)
            .collect();
        let sum = a.iter().map(|v| v.exp()).sum::<f64>().ln();
        for isa in levels() {
            let mut got = x.clone();
            rms_norm(isa, &mut got, &y, 1e-5);
            assert_close(&got, &norm, 1e-6);
            let mut got = x.clone();
            swiglu(isa, &mut got, &y);
            assert_close(&got, &gate, 1e-6);
            let mut got = 0.0;
            log_sum_exp(isa, &x, &mut got);
            assert_close(&[got], &[sum], 1e-5);
        }
    }
}
