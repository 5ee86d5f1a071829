//! Medians and percentiles.

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
}
