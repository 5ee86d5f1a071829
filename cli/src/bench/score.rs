//! Scores of ranked answers, question by question.

use serde::Serialize;

/// The metrics, in the order of [`Scores`].
pub const METRICS: [&str; 3] = ["recall@1", "recall@5", "MRR"];

/// For each question 1 or 0 by recall@1 and recall@5, and one over the rank.
pub struct Scores(Vec<[f64; 3]>);

/// The means.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    pub name: String,
    pub recall_at1: f64,
    pub recall_at5: f64,
    pub mrr: f64,
}

impl Scores {
    /// By the ranks, from 0, of what answers each question; none when it was not found.
    pub fn new(ranks: Vec<Option<usize>>) -> Self {
        let within = |rank: Option<usize>, k| f64::from(u8::from(rank.is_some_and(|r| r < k)));
        let reciprocal = |rank: Option<usize>| rank.map_or(0.0, |r| 1.0 / (r as f64 + 1.0));
        let score = |rank| [within(rank, 1), within(rank, 5), reciprocal(rank)];
        Self(ranks.into_iter().map(score).collect())
    }

    /// The means, by metric.
    pub fn means(&self) -> [f64; 3] {
        let count = self.0.len().max(1) as f64;
        [0, 1, 2].map(|i| self.0.iter().map(|scores| scores[i]).sum::<f64>() / count)
    }

    /// What each question gains over `other` by the metric at `i`.
    pub fn differences(&self, other: &Self, i: usize) -> Vec<f64> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(own, other)| own[i] - other[i]).collect()
    }

    /// The means with a name.
    pub fn figure(&self, name: &str) -> Figure {
        let [recall_at1, recall_at5, mrr] = self.means();
        Figure {
            name: name.to_owned(),
            recall_at1,
            recall_at5,
            mrr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_differences_are_those_of_hand() {
        let one = Scores::new(vec![Some(0), Some(1), Some(7), None]);
        assert_eq!(one.means(), [0.25, 0.5, (1.0 + 0.5 + 0.125) / 4.0]);
        let other = Scores::new(vec![Some(1), Some(0), None, None]);
        assert_eq!(one.differences(&other, 0), [1.0, -1.0, 0.0, 0.0]);
        assert_eq!(one.differences(&other, 2), [0.5, -0.5, 0.125, 0.0]);
        assert_eq!(Scores::new(Vec::new()).means(), [0.0; 3]);
    }
}
