//! From what a model said, or holds for likely, to scores from 0 to 1.

use std::collections::BTreeMap;

use loci_plan::gate::{QuestionScore, SuiteScores};
use loci_plan::metrics::Metric;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cases::{Case, Right};

/// How a case went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseRecord {
    /// The case.
    pub id: String,
    /// What the model said, where it was to say something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The place of the choice that it holds for the likeliest, where it had a choice; none when two are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<usize>,
    /// How many passages stood before the question, where they were looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passages: Option<usize>,
    /// What guessing scores.
    pub chance: f64,
    /// By metric, of those that the case has.
    pub scores: BTreeMap<Metric, f64>,
}

impl CaseRecord {
    pub(super) fn new(case: &Case, score: f64) -> Self {
        Self {
            id: case.id.clone(),
            said: None,
            chosen: None,
            passages: None,
            chance: case.chance(),
            scores: case.metrics().iter().map(|m| (*m, score)).collect(),
        }
    }
}

/// The scores of the suite called `suite`, by some metrics.
pub fn scores(suite: &str, records: &[CaseRecord], metrics: &[Metric]) -> SuiteScores {
    let question = |record: &CaseRecord| {
        let scores = record.scores.iter().filter(|(m, _)| metrics.contains(m));
        QuestionScore {
            id: record.id.clone(),
            stale: false,
            chance: record.chance,
            scores: scores.map(|(metric, score)| (*metric, *score)).collect(),
        }
    };
    SuiteScores {
        suite: suite.to_owned(),
        questions: records.iter().map(question).collect(),
    }
}

/// Whether an answer is right. White space around it does not count.
pub fn is_right(right: &Right, said: &str) -> bool {
    let said = said.trim();
    match right {
        Right::Expected(texts) => texts.iter().any(|text| text.trim() == said),
        Right::Pattern(pattern) => pattern.is_match(said),
        Right::Schema(schema) => {
            let json: Result<Value, _> = serde_json::from_str(said);
            json.is_ok_and(|json| schema.is_valid(&json))
        }
    }
}

/// The likeliest of some answers, given the logarithms of the probabilities of each one's tokens, the token that ends it
/// included: so the numbers are probabilities of whole answers, and a short one has no advantage over a longer one that
/// begins with it. None when no answer is likelier than all others.
pub fn choose(log_probabilities: &[Vec<f32>]) -> Option<usize> {
    let sums = log_probabilities.iter().map(|all| sum(all));
    let sums: Vec<f64> = sums.collect();
    let best = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut bests = sums.iter().enumerate().filter(|(_, sum)| **sum == best);
    let (place, _) = bests.next()?;
    bests.next().is_none().then_some(place)
}

/// The geometric mean of probabilities, given their logarithms: 1 over the perplexity.
pub fn likelihood(log_probabilities: &[f32]) -> f64 {
    let count = log_probabilities.len().max(1) as f64;
    (sum(log_probabilities) / count).exp()
}

fn sum(log_probabilities: &[f32]) -> f64 {
    log_probabilities.iter().map(|p| f64::from(*p)).sum()
}
