//! Medians, where they lie, percentiles, and bounds of means.

use super::draws::Draws;

/// Samples of a bootstrap.
const SAMPLES: u64 = 10_000;

/// The value below which a share `q` of the sorted values lies, by nearest rank; 0 of none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// The middle value; of an even number the lower one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// Where the median of all that the values are a sample of lies, with a confidence of 95 % or more, by their order alone
/// (the sign test, turned around). Fewer than six values cannot tell: then it is the smallest and the largest. 0 of none.
pub fn interval(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let sorted = sorted(values);
    let count = sorted.len();
    // The probability that exactly `cut` of the values lie below the median, and that at most as many do.
    let mut exactly = 0.5f64.powi(count as i32);
    let mut at_most = exactly;
    let mut cut = 0;
    for next in 1..count.div_ceil(2) {
        exactly *= (count - next + 1) as f64 / next as f64;
        at_most += exactly;
        if at_most > 0.025 {
            break;
        }
        cut = next;
    }
    let least = sorted.get(cut).copied();
    let most = sorted.iter().nth_back(cut).copied();
    (least.unwrap_or_default(), most.unwrap_or_default())
}

/// The one-sided 95 % lower bound of the mean of all that the values are a sample of, by the percentile bootstrap (Efron
/// and Tibshirani, 1993): the means of as many values drawn from these, with repetition, over and over, lie above it in 95
/// of 100 cases. The same values have the same bound. 0 of none.
pub fn bootstrap_lower(values: &[f64]) -> f64 {
    let mut draws = Draws::new(0);
    let count = values.len();
    let mut mean = || (0..count).map(|_| values[draws.below(count)]).sum::<f64>() / count as f64;
    if count == 0 {
        return 0.0;
    }
    quantile(&sorted((0..SAMPLES).map(|_| mean())), 0.05)
}

/// The smallest value.
pub fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

/// The values in order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let values = sorted((1..=100).rev().map(f64::from));
        assert_eq!(
            (quantile(&values, 0.5), quantile(&values, 0.99)),
            (50.0, 99.0)
        );
        assert_eq!(
            (quantile(&values, 0.0), quantile(&values, 1.0)),
            (1.0, 100.0)
        );
        assert_eq!(
            (median([3.0, 1.0, 2.0]), median([]), least([2.0, 1.0])),
            (2.0, 0.0, 1.0)
        );
    }

    #[test]
    fn a_bootstrap_bound_is_near_that_of_the_normal_distribution() {
        // 900 values of mean 0.1 and variance 0.09 have a mean that is hardly below 0.1 - 1.645 * 0.01.
        let values: Vec<f64> = (0..900).map(|i| f64::from(u8::from(i % 10 == 0))).collect();
        let lower = bootstrap_lower(&values);
        assert!((lower - 0.0836).abs() < 0.0015, "{lower}");
        assert_eq!(lower, bootstrap_lower(&values));
        assert_eq!((bootstrap_lower(&[]), bootstrap_lower(&[0.5])), (0.0, 0.5));
    }

    #[test]
    fn intervals_leave_out_what_the_sign_test_leaves_out() {
        // By the binomial distribution: of ten values one at either end, of twenty five.
        let of = |count: u32| interval((1..=count).rev().map(f64::from));
        assert_eq!(
            (of(10), of(20), of(9)),
            ((2.0, 9.0), (6.0, 15.0), (2.0, 8.0))
        );
        assert_eq!((of(6), of(5), of(1)), ((1.0, 6.0), (1.0, 5.0), (1.0, 1.0)));
        assert_eq!((of(0), of(1000)), ((0.0, 0.0), (469.0, 532.0)));
    }
}
