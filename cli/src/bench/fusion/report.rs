//! What a measurement of fusion came to.

use loci_index::{Fusion, Normalization};
use serde::Serialize;

use crate::bench::score::{self, Figure, Scores};
use crate::bench::stats;
use crate::output::{self, count, say};

/// A way to fuse, and what it scores on the half by which it is chosen.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    pub normalization: Normalization,
    pub dense_weight: f32,
    pub recall_at1: f64,
    pub recall_at5: f64,
    pub mrr: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub passages: usize,
    /// Questions by which the settings were chosen, and by which they are judged.
    pub chosen_by: usize,
    pub judged_by: usize,
    /// The best weight of each normalisation on the first half.
    pub tried: Vec<Tried>,
    pub chosen: Tried,
    /// On the other half.
    pub figures: Vec<Figure>,
    /// What the chosen fusion gains over the better side, by metric.
    pub gains: Vec<Gain>,
}

/// The gain of one metric, paired by question.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gain {
    pub metric: &'static str,
    /// The side that is better by this metric.
    pub over: &'static str,
    pub mean: f64,
    /// The one-sided 95 % bootstrap lower bound.
    pub lower: f64,
}

impl Tried {
    /// What a fusion scored.
    pub fn new(fusion: Fusion, scores: &Scores) -> Self {
        let [recall_at1, recall_at5, mrr] = scores.means();
        Self {
            normalization: fusion.normalization(),
            dense_weight: fusion.dense_weight(),
            recall_at1,
            recall_at5,
            mrr,
        }
    }

    /// By recall@1; among equals by MRR, then the more even weight.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let even = |tried: &Self| -(tried.dense_weight - 0.5).abs();
        let by_recall = self.recall_at1.total_cmp(&other.recall_at1);
        by_recall
            .then(self.mrr.total_cmp(&other.mrr))
            .then(even(self).total_cmp(&even(other)))
    }
}

/// The best of all.
pub fn best(tried: &[Tried]) -> Option<Tried> {
    tried.iter().copied().max_by(Tried::order)
}

/// The best of each normalisation.
pub fn of_each(tried: &[Tried]) -> Vec<Tried> {
    let of = |normalization| {
        let mut of: Vec<Tried> = tried.to_vec();
        of.retain(|tried| tried.normalization == normalization);
        best(&of)
    };
    Normalization::ALL.into_iter().filter_map(of).collect()
}

/// What the fusion gains over the side that is better by each metric.
pub fn gains(sides: &[(&'static str, Scores); 2], hybrid: &Scores) -> Vec<Gain> {
    let gain = |(i, metric): (usize, &'static str)| {
        let [one, other] = sides;
        let better = if one.1.means()[i] >= other.1.means()[i] {
            one
        } else {
            other
        };
        let differences = hybrid.differences(&better.1, i);
        Gain {
            metric,
            over: better.0,
            mean: differences.iter().sum::<f64>() / differences.len().max(1) as f64,
            lower: stats::bootstrap_lower(&differences),
        }
    };
    score::METRICS.into_iter().enumerate().map(gain).collect()
}

impl Report {
    /// What is less than so much of a gain, or more than so much of a loss.
    pub fn missed(&self, gain: Option<f64>, loss: Option<f64>) -> Vec<String> {
        let of = |metric: &str| self.gains.iter().find(|gain| gain.metric == metric);
        let mut missed = Vec::new();
        if let Some((wanted, got)) = gain.zip(of("recall@1"))
            && (got.mean < wanted || got.lower <= 0.0)
        {
            missed.push(format!(
                "recall@1 is {:+.4} over {}, surely {:+.4}: not {wanted} and surely more than 0",
                got.mean, got.over, got.lower
            ));
        }
        if let Some((allowed, got)) = loss.zip(of("recall@5"))
            && got.mean < -allowed
        {
            missed.push(format!(
                "recall@5 is {:+.4} over {}: not at least -{allowed}",
                got.mean, got.over
            ));
        }
        missed
    }

    /// Prints all, for people.
    pub fn show(&self) {
        let cell = |value: f64| format!("{value:.4}");
        let mut table =
            output::table(&["chosen by", "dense weight", "recall@1", "recall@5", "mrr"]);
        for tried in &self.tried {
            table.add_row([
                tried.normalization.name().to_owned(),
                format!("{:.2}", tried.dense_weight),
                cell(tried.recall_at1),
                cell(tried.recall_at5),
                cell(tried.mrr),
            ]);
        }
        output::print(&table, "nothing was tried");
        say!(
            "\nby {} questions: {} with a dense weight of {:.2}. On {} questions of other articles, {} passages:\n",
            count(self.chosen_by as u64),
            self.chosen.normalization.name(),
            self.chosen.dense_weight,
            count(self.judged_by as u64),
            count(self.passages as u64)
        );
        let mut table = output::table(&["judged", "recall@1", "recall@5", "mrr"]);
        for figure in &self.figures {
            let name = figure.name.clone();
            table.add_row([
                name,
                cell(figure.recall_at1),
                cell(figure.recall_at5),
                cell(figure.mrr),
            ]);
        }
        output::print(&table, "nothing was judged");
        say!();
        for gain in &self.gains {
            say!(
                "{}: {:+.4} over {}, surely {:+.4}",
                gain.metric,
                gain.mean,
                gain.over,
                gain.lower
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(normalization: Normalization, dense_weight: f32, recall: f64, mrr: f64) -> Tried {
        Tried {
            normalization,
            dense_weight,
            recall_at1: recall,
            recall_at5: 1.0,
            mrr,
        }
    }

    #[test]
    fn the_best_recall_is_chosen_then_mrr_then_the_even_weight() {
        let all = [
            tried(Normalization::MinMax, 0.5, 0.90, 0.95),
            tried(Normalization::MinMax, 0.8, 0.91, 0.94),
            tried(Normalization::ZScore, 0.9, 0.91, 0.95),
            tried(Normalization::ZScore, 0.6, 0.91, 0.95),
        ];
        let chosen = best(&all).unwrap();
        assert_eq!(
            (chosen.normalization, chosen.dense_weight),
            (Normalization::ZScore, 0.6)
        );
        let each: Vec<f32> = of_each(&all).iter().map(|t| t.dense_weight).collect();
        assert_eq!(each, [0.8, 0.6]);
    }

    #[test]
    fn a_gain_is_over_the_better_side_and_a_missed_one_is_named() {
        // Of 100 questions dense has 50 first, BM25 60, and the fusion 80.
        let first = |n: usize| Scores::new((0..100).map(|i| (i < n).then_some(0)).collect());
        let sides = [("dense", first(50)), ("BM25", first(60))];
        let report = Report {
            passages: 100,
            chosen_by: 1,
            judged_by: 100,
            tried: Vec::new(),
            chosen: tried(Normalization::MinMax, 0.5, 1.0, 1.0),
            figures: Vec::new(),
            gains: gains(&sides, &first(80)),
        };
        let gain = &report.gains[0];
        assert_eq!((gain.metric, gain.over), ("recall@1", "BM25"));
        assert!(
            (gain.mean - 0.2).abs() < 1e-9 && gain.lower > 0.1,
            "{}",
            gain.lower
        );
        assert!(report.missed(Some(0.15), Some(0.005)).is_empty());
        let missed = report.missed(Some(0.25), None).remove(0);
        assert!(missed.contains("+0.2000 over BM25"), "{missed}");
    }
}
