//! Intervals.

use serde::Serialize;

use crate::draws::Draws;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A mean with its two-sided 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// It is hardly less.
    pub low: f64,
    /// It is hardly more.
    pub high: f64,
}

/// The mean; 0 of none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of values from 0 to 1: Wilson's interval for a share (1927). It holds at 0 and 1 too, and is wider than need be for
/// values between, as means of several seeds are.
pub fn share(values: &[f64]) -> Interval {
    let (mean, n) = (mean(values), values.len().max(1) as f64);
    let below = 1.0 + Z * Z / n;
    let middle = (mean + Z * Z / (2.0 * n)) / below;
    let half = Z / below * (mean * (1.0 - mean) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval {
        mean,
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
    }
}

/// Of paired differences, by the percentile bootstrap over pairs (Efron, 1979).
pub fn paired(differences: &[f64]) -> Interval {
    let count = differences.len();
    let mut draws = Draws::new(0x5eed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..count).map(|_| differences[draws.below(count)]);
            drawn.sum::<f64>() / count.max(1) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Interval {
        mean: mean(differences),
        low: means[RESAMPLES / 40],
        high: means[RESAMPLES - 1 - RESAMPLES / 40],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(got: Interval, want: [f64; 3], within: f64) {
        for (got, want) in [got.mean, got.low, got.high].into_iter().zip(want) {
            assert!((got - want).abs() < within, "{got} is not {want}");
        }
    }

    #[test]
    fn shares_have_wilsons_interval() {
        let values = |ones: usize, count: usize| -> Vec<f64> {
            (0..count).map(|i| f64::from(u8::from(i < ones))).collect()
        };
        assert_close(share(&values(0, 10)), [0.0, 0.0, 0.2775], 1e-4);
        assert_close(share(&values(7, 10)), [0.7, 0.3968, 0.8922], 1e-4);
        assert_close(share(&values(180, 360)), [0.5, 0.4486, 0.5514], 1e-4);
    }

    #[test]
    fn differences_have_an_interval_of_the_normal_size() {
        // 400 pairs, half of them 0 and half of them 1: a standard error of 0.025.
        let differences: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        assert_close(paired(&differences), [0.5, 0.451, 0.549], 0.004);
        assert_eq!(paired(&differences), paired(&differences));
        assert_close(paired(&[0.25; 30]), [0.25; 3], 1e-12);
    }
}
