//! Filters that pass a wanted share of the passages: at random, and by topic, as which packages pass whose documents lie
//! side by side.

use std::ops::Range;

use loci_index::{Bounds, Filter, MetaValue};
use serde::{Deserialize, Serialize};

/// The shares that filters pass, in percent.
pub const SHARES: [f64; 8] = [0.1, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 90.0];

/// The metadata field with the random samples that a document is in.
pub const SAMPLE: &str = "sample";
/// The metadata field with a document's place among all, in the order of their paths.
pub const PLACE: &str = "place";

/// A filter, in the words that all sides translate into their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// What is drawn, and the share that it is to pass.
    pub kind: String,
    pub share: f64,
    /// Documents in this sample.
    pub sample: Option<String>,
    /// Documents at these places: from, and before.
    pub place: Option<(i64, i64)>,
    /// All others instead.
    pub not: bool,
}

impl Condition {
    fn new(kind: &str, share: f64) -> Self {
        Self {
            kind: kind.to_owned(),
            share,
            sample: None,
            place: None,
            not: false,
        }
    }

    /// As a filter of the index.
    pub fn filter(&self) -> Filter {
        let sample = self
            .sample
            .as_ref()
            .map(|name| Filter::Equals(SAMPLE.to_owned(), MetaValue::Text(name.clone())));
        let place = self.place.map(|(from, before)| {
            let bounds = Bounds {
                gte: Some(from.into()),
                lt: Some(before.into()),
                ..Bounds::default()
            };
            Filter::Range(PLACE.to_owned(), bounds)
        });
        let mut all: Vec<Filter> = sample.into_iter().chain(place).collect();
        let filter = match (all.len(), all.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                all.extend(last);
                Filter::And(all)
            }
        };
        match self.not {
            true => Filter::Not(Box::new(filter)),
            false => filter,
        }
    }

    /// Whether a document passes.
    pub fn passes(&self, samples: &[String], place: usize) -> bool {
        let sampled = self.sample.as_ref().is_none_or(|s| samples.contains(s));
        let within = |(from, before): (i64, i64)| (from..before).contains(&(place as i64));
        (sampled && self.place.is_none_or(within)) != self.not
    }
}

/// What was drawn.
pub struct Drawn {
    pub conditions: Vec<Condition>,
    /// By document: the samples that it is in.
    pub samples: Vec<Vec<String>>,
}

/// Filters for all [`SHARES`]: a random sample, neighbouring documents, both at once, and either negated. `sizes` are the
/// documents' passages, in the order of their paths.
pub fn filters(sizes: &[usize]) -> Drawn {
    let mut samples: Vec<Vec<String>> = vec![Vec::new(); sizes.len()];
    let mut draw = |share: f64| -> String {
        let name = format!("percent-{share:.3}");
        let seed = (1000.0 * share) as u64;
        for (drawn, samples) in sample(sizes, share, seed).iter().zip(&mut samples) {
            // A share may be drawn for more than one filter.
            if *drawn && !samples.contains(&name) {
                samples.push(name.clone());
            }
        }
        name
    };
    let lying = |share: f64| {
        let range = window(sizes, share);
        (range.start as i64, range.end as i64)
    };
    let mut conditions = Vec::new();
    for share in SHARES {
        let mut condition = Condition::new("random", share);
        condition.sample = Some(draw(share));
        conditions.push(condition);
    }
    for share in SHARES {
        let mut condition = Condition::new("topic", share);
        condition.place = Some(lying(share));
        conditions.push(condition);
    }
    for share in SHARES {
        // Of two conditions that have nothing to do with one another, each passes the root.
        let root = 100.0 * (share / 100.0).sqrt();
        let mut condition = Condition::new("random and topic", share);
        (condition.sample, condition.place) = (Some(draw(root)), Some(lying(root)));
        conditions.push(condition);
    }
    for share in SHARES {
        let mut condition = Condition::new("not random", share);
        (condition.sample, condition.not) = (Some(draw(100.0 - share)), true);
        conditions.push(condition);
    }
    for share in SHARES {
        let mut condition = Condition::new("not topic", share);
        (condition.place, condition.not) = (Some(lying(100.0 - share)), true);
        conditions.push(condition);
    }
    Drawn {
        conditions,
        samples,
    }
}

/// Documents in a random order, each taken that fits into `share` percent of all passages; at least the smallest one.
fn sample(sizes: &[usize], share: f64, seed: u64) -> Vec<bool> {
    let wanted = part(sizes, share);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    shuffle(&mut order, seed);
    let mut drawn = vec![false; sizes.len()];
    let mut taken = 0;
    for document in order {
        if sizes[document] > 0 && taken + sizes[document] <= wanted {
            taken += sizes[document];
            drawn[document] = true;
        }
    }
    if taken == 0 {
        let filled = (0..sizes.len()).filter(|i| sizes[*i] > 0);
        if let Some(smallest) = filled.min_by_key(|i| sizes[*i]) {
            drawn[smallest] = true;
        }
    }
    drawn
}

/// The run of neighbours that comes nearest to `share` percent of all passages, without being all of them.
fn window(sizes: &[usize], share: f64) -> Range<usize> {
    let (wanted, all) = (part(sizes, share), sizes.iter().sum::<usize>());
    let (mut best, mut end, mut sum) = (0..sizes.len().min(1), 0, 0);
    let mut nearest = usize::MAX;
    for start in 0..sizes.len() {
        // The run that reaches what is wanted, and the one that stops before.
        while end < sizes.len() && sum < wanted {
            sum += sizes[end];
            end += 1;
        }
        let shorter = end.checked_sub(1).map(|last| (last, sum - sizes[last]));
        for (end, sum) in [Some((end, sum)), shorter].into_iter().flatten() {
            let apart = sum.abs_diff(wanted);
            if sum > 0 && sum < all && apart < nearest {
                (nearest, best) = (apart, start..end);
            }
        }
        sum -= sizes[start];
    }
    best
}

/// How many passages a share is; at least one.
fn part(sizes: &[usize], share: f64) -> usize {
    let all = sizes.iter().sum::<usize>() as f64;
    ((all * share / 100.0).round() as usize).max(1)
}

/// Puts values into an order that depends on the seed alone (Fisher and Yates, by SplitMix64).
pub fn shuffle<T>(values: &mut [T], seed: u64) {
    let mut state = seed;
    for i in (1..values.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        values.swap(i, (z % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_pass_about_the_share_that_is_wanted() {
        let sizes: Vec<usize> = (0..4000).map(|i| 1 + i % 7).collect();
        let all: usize = sizes.iter().sum();
        let drawn = filters(&sizes);
        assert_eq!(drawn.conditions.len(), 5 * SHARES.len());
        for condition in &drawn.conditions {
            let documents = sizes.iter().zip(&drawn.samples).enumerate();
            let passing = documents.filter(|(i, (_, samples))| condition.passes(samples, *i));
            let passing: usize = passing.map(|(_, (size, _))| size).sum();
            let share = 100.0 * passing as f64 / all as f64;
            let both = condition.sample.is_some() && condition.place.is_some();
            // Where two conditions meet, chance has its part.
            let bound = if both {
                0.2 + 0.3 * condition.share
            } else {
                0.05
            };
            let apart = (share - condition.share).abs();
            assert!(apart <= bound, "{condition:?} {share}");
        }
    }

    #[test]
    fn samples_are_the_same_for_the_same_seed_and_never_empty() {
        let sizes = [5, 3, 0, 9];
        assert_eq!(sample(&sizes, 0.1, 1), [false, true, false, false]);
        assert_eq!(sample(&sizes, 50.0, 7), sample(&sizes, 50.0, 7));
        let taken = |share| -> usize {
            let drawn = sample(&sizes, share, 3);
            drawn
                .iter()
                .zip(sizes)
                .filter(|(d, _)| **d)
                .map(|(_, s)| s)
                .sum()
        };
        assert!(taken(50.0) <= 9 && taken(50.0) > 0);
    }

    #[test]
    fn windows_are_the_nearest_run_but_never_all() {
        let sizes = [40, 10, 10, 30, 10];
        assert_eq!(window(&sizes, 20.0), 1..3);
        assert_eq!(window(&sizes, 50.0), 0..2);
        assert_eq!(window(&sizes, 99.9), 0..4);
        assert_eq!(window(&sizes, 0.1), 1..2);
    }

    #[test]
    fn a_shuffle_keeps_all_values() {
        let mut values: Vec<u32> = (0..100).collect();
        shuffle(&mut values, 1);
        assert_ne!(values, (0..100).collect::<Vec<_>>());
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn conditions_are_filters_of_the_index() {
        let mut condition = Condition::new("both", 1.0);
        condition.place = Some((3, 5));
        assert!(matches!(condition.filter(), Filter::Range(..)));
        condition.sample = Some("percent-1".to_owned());
        assert!(matches!(condition.filter(), Filter::And(all) if all.len() == 2));
        assert!(condition.passes(&["percent-1".to_owned()], 4));
        assert!(!condition.passes(&["percent-1".to_owned()], 5));
        assert!(!condition.passes(&[], 4));
        condition.not = true;
        assert!(matches!(condition.filter(), Filter::Not(_)));
        assert!(condition.passes(&[], 4));
    }
}
