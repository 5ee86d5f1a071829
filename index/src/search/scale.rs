//! Scores of one side of a hybrid search, brought to a scale that the other side's share.

use serde::{Deserialize, Serialize};

/// How many of a side's best passages its scale is taken from; with [`Normalization::MinMax`], the rank that counts 0.
pub(super) const FLOOR: usize = 100;
/// What reciprocal ranks are damped by; the constant of Cormack, Clarke and Büttcher (2009).
const DAMPING: f32 = 60.0;

/// How the scores of one side are brought to a scale that the other side's share, so that they can be weighed and added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Normalization {
    /// The best score is 1 and that of the hundredth passage 0; where a side finds fewer, no word in common is 0, and so
    /// is the furthest vector.
    #[default]
    MinMax,
    /// The best score is 1 and the least that is possible 0: a cosine of -1, no word in common (Bruch, Gai and Ingber,
    /// 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"). For embedders that normalise.
    TheoreticalMinMax,
    /// Standard deviations above the mean of the best hundred. May be negative.
    ZScore,
    /// 1 / (60 + rank), and 0 for what a side does not find (Cormack, Clarke and Büttcher, 2009, "Reciprocal Rank Fusion
    /// outperforms Condorcet and individual Rank Learning Methods"). Equal scores have one rank.
    ReciprocalRank,
}

impl Normalization {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::MinMax,
        Self::TheoreticalMinMax,
        Self::ZScore,
        Self::ReciprocalRank,
    ];

    /// Its name, as manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "minMax",
            Self::TheoreticalMinMax => "theoreticalMinMax",
            Self::ZScore => "zScore",
            Self::ReciprocalRank => "reciprocalRank",
        }
    }
}

/// Whose scores they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dense,
    Bm25,
}

/// Brings the scores of one side to the common scale.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale<'a> {
    /// The score `floor` is 0, and `floor + span` 1.
    Linear { floor: f32, span: f32 },
    /// What the side found, the best first.
    Ranks(&'a [(f32, usize)]),
}

impl<'a> Scale<'a> {
    /// The scale of what a side found, the best first.
    pub(super) fn new(normalization: Normalization, side: Side, best: &'a [(f32, usize)]) -> Self {
        let score = |found: Option<&(f32, usize)>| found.map_or(0.0, |(score, _)| *score);
        let floor = match (normalization, side) {
            (Normalization::ReciprocalRank, _) => return Self::Ranks(best),
            (Normalization::ZScore, _) => return Self::standard(best),
            (Normalization::TheoreticalMinMax, Side::Dense) => -1.0,
            (Normalization::TheoreticalMinMax, Side::Bm25) => 0.0,
            (Normalization::MinMax, _) if best.len() >= FLOOR => score(best.get(FLOOR - 1)),
            (Normalization::MinMax, Side::Dense) => score(best.last()),
            (Normalization::MinMax, Side::Bm25) => 0.0,
        };
        let span = score(best.first()) - floor;
        Self::Linear { floor, span }
    }

    /// Mean and standard deviation of the best [`FLOOR`].
    fn standard(best: &[(f32, usize)]) -> Self {
        let best = best.get(..FLOOR).unwrap_or(best);
        let count = best.len().max(1) as f64;
        let scores = || best.iter().map(|(score, _)| f64::from(*score));
        let mean = scores().sum::<f64>() / count;
        let variance = scores().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
        Self::Linear {
            floor: mean as f32,
            span: variance.sqrt() as f32,
        }
    }

    /// A score on the common scale; 0 where all scores are the same.
    pub(super) fn apply(self, score: f32) -> f32 {
        match self {
            Self::Linear { floor, span } if span > 0.0 => (score - floor) / span,
            Self::Linear { .. } => 0.0,
            Self::Ranks(best) => {
                let found = best.last().is_some_and(|(least, _)| score >= *least);
                let better = best.partition_point(|(other, _)| *other > score);
                if found {
                    1.0 / (DAMPING + 1.0 + better as f32)
                } else {
                    0.0
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falling(count: usize) -> Vec<(f32, usize)> {
        (0..count).map(|i| (0.9 - 0.001 * i as f32, i)).collect()
    }

    #[test]
    fn min_max_counts_the_best_one_and_the_hundredth_zero() {
        let best = falling(200);
        for side in [Side::Dense, Side::Bm25] {
            let scale = Scale::new(Normalization::MinMax, side, &best);
            assert_eq!(
                (scale.apply(best[0].0), scale.apply(best[99].0)),
                (1.0, 0.0)
            );
            assert!(scale.apply(best[150].0) < 0.0);
            let none = Scale::new(Normalization::MinMax, side, &[]);
            assert_eq!(none.apply(0.0), 0.0);
        }
        let few = Scale::new(Normalization::MinMax, Side::Bm25, &best[..2]);
        assert_eq!((few.apply(0.9), few.apply(0.0)), (1.0, 0.0));
        let one = Scale::new(Normalization::MinMax, Side::Dense, &best[..1]);
        assert_eq!(one.apply(0.9), 0.0);
    }

    #[test]
    fn theoretical_min_max_starts_at_the_least_that_is_possible() {
        let best = [(0.5, 0), (0.2, 1)];
        let dense = Scale::new(Normalization::TheoreticalMinMax, Side::Dense, &best);
        let bm25 = Scale::new(Normalization::TheoreticalMinMax, Side::Bm25, &best);
        assert_eq!((dense.apply(0.5), dense.apply(-1.0)), (1.0, 0.0));
        assert_eq!((bm25.apply(0.5), bm25.apply(0.0)), (1.0, 0.0));
    }

    #[test]
    fn z_scores_are_of_the_best_hundred() {
        let scale = Scale::new(Normalization::ZScore, Side::Bm25, &[(3.0, 0), (1.0, 1)]);
        assert_eq!(
            (scale.apply(3.0), scale.apply(2.0), scale.apply(1.0)),
            (1.0, 0.0, -1.0)
        );
        let best = falling(500);
        let scale = Scale::new(Normalization::ZScore, Side::Dense, &best);
        assert!(scale.apply(best[49].0) > 0.0 && scale.apply(best[50].0) < 0.0);
        for none in [&[][..], &[(0.7, 0)]] {
            let scale = Scale::new(Normalization::ZScore, Side::Dense, none);
            assert_eq!(scale.apply(0.7), 0.0);
        }
    }

    #[test]
    fn ranks_count_from_one_and_equals_share_theirs() {
        let best = [(5.0, 0), (4.0, 1), (4.0, 2), (1.0, 3)];
        let scale = Scale::new(Normalization::ReciprocalRank, Side::Bm25, &best);
        let of = |rank: f32| 1.0 / (60.0 + rank);
        assert_eq!(
            [5.0, 4.0, 1.0, 0.5].map(|score| scale.apply(score)),
            [of(1.0), of(2.0), of(4.0), 0.0]
        );
        let none = Scale::new(Normalization::ReciprocalRank, Side::Bm25, &[]);
        assert_eq!(none.apply(0.0), 0.0);
    }

    #[test]
    fn names_are_those_of_manifests() {
        for normalization in Normalization::ALL {
            let json = serde_json::to_value(normalization).unwrap();
            assert_eq!(json, normalization.name());
        }
    }
}
