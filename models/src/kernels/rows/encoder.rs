//! What encoders compute on rows whose lines lie `step` lines apart, as the rows of a tile do.

use super::tile::{LINE, Line};
use super::{BASELINE_FMA, Isa, Level, exp, gelu, madd};

/// Scale, shift and epsilon of a layer norm over rows of `width` columns. Scale and shift are 0 in the columns that
/// fill the last line.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub gamma: &'a [Line],
    pub beta: &'a [Line],
    pub epsilon: f32,
    pub width: usize,
}

kernel! {
    /// `gelu(x)`, the exact form with the error function, to 1e-6 of max(1, |x|).
    pub fn gelu_lines(x: &mut [Line]) {
        for line in x {
            for v in &mut line.0 {
                *v = gelu::<FMA>(*v);
            }
        }
    }
}

kernel! {
    /// `layer_norm(x + y)` of the first `rows` rows of a tile of `step` rows, in place of `x`. What fills the last line
    /// is 0 in both.
    pub fn add_norm(x: &mut [Line], y: &[Line], step: usize, rows: usize, norm: Norm<'_>) {
        let lines = norm.gamma.len();
        for row in 0..rows {
            let mut sums = Line::ZERO;
            for at in (row..).step_by(step).take(lines) {
                for ((v, w), sum) in x[at].0.iter_mut().zip(&y[at].0).zip(&mut sums.0) {
                    *v += *w;
                    *sum += *v;
                }
            }
            normalize::<FMA>(&mut x[row..], total(sums), step, norm);
        }
    }
}

kernel! {
    /// `layer_norm(word + position)` into one row.
    pub fn embed(x: &mut [Line], step: usize, word: &[Line], position: &[Line], norm: Norm<'_>) {
        let mut sums = Line::ZERO;
        for (i, (word, position)) in word.iter().zip(position).enumerate() {
            let lanes = x[i * step].0.iter_mut().zip(&mut sums.0);
            for ((v, sum), (w, p)) in lanes.zip(word.0.iter().zip(&position.0)) {
                *v = *w + *p;
                *sum += *v;
            }
        }
        normalize::<FMA>(x, total(sums), step, norm);
    }
}

kernel! {
    /// `e^(x - max)` in the first `width` columns of the first rows of a tile of `step` rows, as many as `sums`, which
    /// get the sums of the rows. What fills the last line becomes 0.
    pub fn exp_rows(x: &mut [Line], step: usize, width: usize, sums: &mut [f32]) {
        let (full, tail) = (width / LINE, width % LINE);
        let lines = width.div_ceil(LINE);
        let greater = |a: f32, b: f32| if b > a { b } else { a };
        for (row, sum) in sums.iter_mut().enumerate() {
            if tail > 0 {
                x[full * step + row].0[tail..].fill(f32::NEG_INFINITY);
            }
            let mut maxima = Line([f32::NEG_INFINITY; LINE]);
            for at in (row..).step_by(step).take(lines) {
                for (m, v) in maxima.0.iter_mut().zip(&x[at].0) {
                    *m = greater(*m, *v);
                }
            }
            let max = maxima.0.iter().copied().fold(f32::NEG_INFINITY, greater);
            let mut totals = Line::ZERO;
            for at in (row..).step_by(step).take(full) {
                for (v, total) in x[at].0.iter_mut().zip(&mut totals.0) {
                    *v = exp::<FMA>(*v - max);
                    *total += *v;
                }
            }
            if tail > 0 {
                let last = &mut x[full * step + row].0;
                for v in last.iter_mut() {
                    *v = exp::<FMA>(*v - max);
                }
                last[tail..].fill(0.0);
                for (v, total) in last.iter().zip(&mut totals.0) {
                    *total += *v;
                }
            }
            *sum = total(totals);
        }
    }
}

/// Layer norm of one row whose elements have the sum `sum`.
#[inline(always)]
fn normalize<const FMA: bool>(x: &mut [Line], sum: f32, step: usize, norm: Norm<'_>) {
    let (full, tail) = (norm.width / LINE, norm.width % LINE);
    let mean = sum / norm.width as f32;
    let mut squares = Line::ZERO;
    for i in 0..full {
        for (v, square) in x[i * step].0.iter().zip(&mut squares.0) {
            let d = *v - mean;
            *square = madd::<FMA>(d, d, *square);
        }
    }
    if tail > 0 {
        let lanes = x[full * step].0.iter().zip(&mut squares.0);
        for (v, square) in lanes.take(tail) {
            let d = *v - mean;
            *square = madd::<FMA>(d, d, *square);
        }
    }
    let variance = total(squares) / norm.width as f32;
    let scale = 1.0 / (variance + norm.epsilon).sqrt();
    for (i, (gamma, beta)) in norm.gamma.iter().zip(norm.beta).enumerate() {
        let lanes = gamma.0.iter().zip(&beta.0);
        for (v, (g, b)) in x[i * step].0.iter_mut().zip(lanes) {
            *v = madd::<FMA>((*v - mean) * scale, *g, *b);
        }
    }
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn total(line: Line) -> f32 {
    let mut sums = line.0;
    let mut count = LINE;
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
    use proptest::prelude::*;

    use super::super::tests::{erf, levels};
    use super::*;

    const STEP: usize = 3;
    const MARK: Line = Line([9.0; LINE]);

    /// Rows of `width` columns as those of a tile of `STEP` rows; what fills the last lines is 0.
    fn tile(rows: &[Vec<f32>], width: usize) -> Vec<Line> {
        let mut tile = vec![MARK; width.div_ceil(LINE) * STEP];
        for (row, values) in rows.iter().enumerate() {
            for (i, part) in values.chunks(LINE).enumerate() {
                let line = &mut tile[i * STEP + row].0;
                line.fill(0.0);
                line[..part.len()].copy_from_slice(part);
            }
        }
        tile
    }

    /// The columns of a row, and what fills its last line.
    fn row(tile: &[Line], row: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
        let lines = tile[row..].iter().step_by(STEP);
        let mut values: Vec<f32> = lines.flat_map(|line| line.0).collect();
        let filling = values.split_off(width);
        (values, filling)
    }

    fn row_of_lines(values: &[f32]) -> Vec<Line> {
        let line =
            |part: &[f32]| Line(std::array::from_fn(|i| part.get(i).copied().unwrap_or(0.0)));
        values.chunks(LINE).map(line).collect()
    }

    fn sample(count: usize, seed: u64, magnitude: f32) -> Vec<f32> {
        let mut draws = crate::random::Draws::new(seed);
        let draw = |_| (draws.uniform() as f32 - 0.5) * magnitude;
        (0..count).map(draw).collect()
    }

    fn norm_by_definition(sums: &[f64], gamma: &[f32], beta: &[f32], epsilon: f64) -> Vec<f64> {
        let count = sums.len() as f64;
        let mean = sums.iter().sum::<f64>() / count;
        let variance = sums.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + epsilon).sqrt();
        let scaled = sums.iter().zip(gamma.iter().zip(beta));
        scaled
            .map(|(v, (g, b))| (v - mean) * scale * f64::from(*g) + f64::from(*b))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn norms_are_those_of_the_definition(
            width in 1usize..80,
            rows in 1usize..=STEP,
            seed in any::<u64>(),
            magnitude in prop::sample::select(vec![1e-3f32, 1.0, 1e6]),
        ) {
            let values = |salt: u64| -> Vec<Vec<f32>> {
                let row = |i| sample(width, seed ^ (salt + i), magnitude);
                (0..rows as u64).map(row).collect()
            };
            let (x, y) = (values(0x100), values(0x200));
            let (gamma, beta) = (sample(width, seed ^ 1, 4.0), sample(width, seed ^ 2, 4.0));
            let (scale, shift) = (row_of_lines(&gamma), row_of_lines(&beta));
            // Relative to the magnitudes: the variance of a row of one column is 0.
            let epsilon = 1e-3 * magnitude * magnitude;
            let norm = Norm { gamma: &scale, beta: &shift, epsilon, width };
            for isa in levels() {
                let (mut sum, other) = (tile(&x, width), tile(&y, width));
                add_norm(isa, &mut sum, &other, STEP, rows, norm);
                for (i, (a, b)) in x.iter().zip(&y).enumerate() {
                    let (got, filling) = row(&sum, i, width);
                    prop_assert!(filling.iter().all(|v| *v == 0.0));
                    let sums: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
                    let want = norm_by_definition(&sums, &gamma, &beta, f64::from(epsilon));
                    for (got, want) in got.iter().zip(&want) {
                        prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{} against {}", got, want);
                    }
                    let mut alone = tile(&[vec![0.0; width]], width);
                    embed(isa, &mut alone, STEP, &row_of_lines(a), &row_of_lines(b), norm);
                    prop_assert_eq!(row(&alone, 0, width).0, got);
                }
                for other in rows..STEP {
                    prop_assert!(row(&sum, other, width).0.iter().all(|v| *v == 9.0));
                }
            }
        }

        /// Off by no more than 1e-6 of the largest, whatever the values.
        #[test]
        fn exponentials_and_their_sums_are_those_of_the_definition(
            width in 1usize..80,
            rows in 1usize..=STEP,
            seed in any::<u64>(),
            magnitude in prop::sample::select(vec![0.0f32, 1.0, 300.0, 1e30]),
        ) {
            let x: Vec<Vec<f32>> = (0..rows as u64).map(|i| sample(width, seed ^ i, magnitude)).collect();
            for isa in levels() {
                let mut got = tile(&x, width);
                let mut sums = vec![0.0; rows];
                exp_rows(isa, &mut got, STEP, width, &mut sums);
                for (i, x) in x.iter().enumerate() {
                    let (values, filling) = row(&got, i, width);
                    prop_assert!(filling.iter().all(|v| *v == 0.0));
                    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let want: Vec<f64> = x.iter().map(|v| f64::from(v - max).exp()).collect();
                    for (got, want) in values.iter().zip(&want) {
                        prop_assert!((f64::from(*got) - want).abs() < 1e-6, "{} against {}", got, want);
                    }
                    let sum: f64 = want.iter().sum();
                    prop_assert!((f64::from(sums[i]) - sum).abs() < 2e-6 * sum);
                }
            }
        }

        #[test]
        fn gelu_is_the_exact_form(x in -6.0f32..6.0, other in -1e30f32..1e30) {
            let want = f64::from(x) / 2.0 * (1.0 + erf(f64::from(x) * 0.5f64.sqrt()));
            for isa in levels() {
                let mut lines = [Line([x; LINE]), Line([other; LINE])];
                gelu_lines(isa, &mut lines);
                for got in lines[0].0 {
                    let bound = 1e-6 * f64::from(x.abs().max(1.0));
                    prop_assert!((f64::from(got) - want).abs() <= bound, "{} against {}", got, want);
                }
                if other.abs() > 6.0 {
                    let want = other.max(0.0);
                    prop_assert!((lines[1].0[0] - want).abs() <= 1e-6 * other.abs());
                }
            }
        }
    }
}
