//! Gates: whether a candidate holds what its pipeline asks on a suite.
//!
//! A floor is judged by the mean. A regression is judged by pairs: for each question the loss, what the
//! other release scored less what the candidate scores. The gate passes when the one-sided 95 % upper
//! bound of the mean loss lies inside the margin, fails when the lower bound lies beyond it, and cannot
//! tell otherwise (non-inferiority). When no question differs the gate passes whatever the margin: it
//! is what every refresh gives that does not touch the suite's documents, and the message says how
//! large a loss the suite could have missed.

mod bound;

use std::collections::BTreeMap;

use loci_crds::release::{GateResult, Outcome};
use serde::{Deserialize, Serialize};

pub use bound::{Bounds, bounds, detectable_effect, unseen_loss};

use crate::metrics::Metric;
use crate::spec::Gate;

/// Fewer questions than this cannot decide a regression.
pub const MIN_QUESTIONS: usize = 10;

/// The share of stale labels beyond which a suite cannot tell.
pub const MAX_STALE: f64 = 0.20;

/// The scores of one release on one suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteScores {
    /// The suite.
    pub suite: String,
    /// Its questions, the same for every release that is compared.
    pub questions: Vec<QuestionScore>,
}

/// The scores of one release on one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionScore {
    /// The question's id, unique in the suite.
    pub id: String,
    /// No labelled document is in the release's index.
    pub stale: bool,
    /// From 0 to 1.
    pub scores: BTreeMap<Metric, f64>,
}

/// What a gate judges by.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// The candidate's scores.
    pub candidate: &'a [SuiteScores],
    /// Those of the release that serves.
    pub serving: Option<&'a [SuiteScores]>,
    /// Those of the anchor.
    pub anchor: Option<&'a [SuiteScores]>,
}

/// Who a candidate must be compared with; scores that are missing then cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// A release serves.
    pub serving: bool,
    /// An older one is the anchor.
    pub anchor: bool,
}

/// The questions of a suite that count: not stale, and scored.
struct Counted {
    scores: BTreeMap<String, f64>,
    asked: usize,
    stale: usize,
}

/// How the candidate compares with another release.
struct Comparison {
    name: &'static str,
    /// The other's mean over the questions that count.
    mean: f64,
    outcome: Outcome,
    bound: f64,
    message: String,
}

/// What one gate says.
pub fn judge(gate: &Gate, scores: &Scores<'_>, compared: Compared) -> GateResult {
    let Some(counted) = count(gate, scores.candidate) else {
        return result(
            gate,
            Outcome::Inconclusive,
            "the suite was not asked".to_owned(),
            None,
            &[],
        );
    };
    let whole = counted.asked > 0 && counted.scores.len() + counted.stale == counted.asked;
    let stale = counted.stale as f64 / counted.asked.max(1) as f64;
    if !whole || counted.scores.is_empty() || stale > MAX_STALE {
        let why = if !whole {
            "not every question has a score".to_owned()
        } else {
            format!(
                "{} of {} labels are stale: the documents they name are gone; correct the suite",
                counted.stale, counted.asked
            )
        };
        return result(gate, Outcome::Inconclusive, why, Some(&counted), &[]);
    }
    let mut outcomes = Vec::new();
    let mut messages = Vec::new();
    if let Some(floor) = gate.floor {
        let (outcome, message) = at_floor(mean(&counted), floor);
        outcomes.push(outcome);
        messages.push(message);
    }
    let comparisons = compare_all(gate, &counted, scores, compared);
    if gate.max_regression.is_some() && comparisons.is_empty() {
        outcomes.push(Outcome::NotApplicable);
        messages.push("nothing serves yet to compare with".to_owned());
    }
    outcomes.extend(comparisons.iter().map(|c| c.outcome));
    messages.extend(comparisons.iter().map(|c| c.message.clone()));
    result(
        gate,
        worst(&outcomes),
        messages.join("; "),
        Some(&counted),
        &comparisons,
    )
}

/// What all gates of a release say together: `Passed` when each passed or does not apply.
pub fn overall(gates: &[GateResult]) -> Outcome {
    let outcomes: Vec<_> = gates.iter().map(|g| g.outcome).collect();
    match worst(&outcomes) {
        Outcome::NotApplicable => Outcome::Passed,
        outcome => outcome,
    }
}

fn worst(outcomes: &[Outcome]) -> Outcome {
    let has = |o| outcomes.contains(&o);
    if has(Outcome::Failed) {
        Outcome::Failed
    } else if has(Outcome::Inconclusive) {
        Outcome::Inconclusive
    } else if has(Outcome::Passed) {
        Outcome::Passed
    } else {
        Outcome::NotApplicable
    }
}

fn count(gate: &Gate, suites: &[SuiteScores]) -> Option<Counted> {
    let suite = suites.iter().find(|s| s.suite == gate.suite)?;
    let stale = suite.questions.iter().filter(|q| q.stale).count();
    let score = |q: &QuestionScore| {
        let value = *q.scores.get(&gate.metric)?;
        (0.0..=1.0).contains(&value).then(|| (q.id.clone(), value))
    };
    let scores = suite
        .questions
        .iter()
        .filter(|q| !q.stale)
        .filter_map(score)
        .collect();
    Some(Counted {
        scores,
        asked: suite.questions.len(),
        stale,
    })
}

fn mean(counted: &Counted) -> f64 {
    counted.scores.values().sum::<f64>() / counted.scores.len().max(1) as f64
}

fn at_floor(mean: f64, floor: f64) -> (Outcome, String) {
    // Sums of thirds and the like must not miss a floor that they meet.
    if mean + 1e-9 >= floor {
        (
            Outcome::Passed,
            format!("mean {mean:.4} holds the floor {floor:.4}"),
        )
    } else {
        (
            Outcome::Failed,
            format!("mean {mean:.4} is below the floor {floor:.4}"),
        )
    }
}

fn compare_all(
    gate: &Gate,
    candidate: &Counted,
    scores: &Scores<'_>,
    compared: Compared,
) -> Vec<Comparison> {
    let others = [
        ("the serving release", scores.serving, compared.serving),
        ("the anchor", scores.anchor, compared.anchor),
    ];
    let Some(margin) = gate.max_regression else {
        return Vec::new();
    };
    let needed = others.into_iter().filter(|(_, _, needed)| *needed);
    needed
        .map(|(name, other, _)| compare(name, gate, candidate, other, margin))
        .collect()
}

fn compare(
    name: &'static str,
    gate: &Gate,
    candidate: &Counted,
    other: Option<&[SuiteScores]>,
    margin: f64,
) -> Comparison {
    let cannot = |mean, message| Comparison {
        name,
        mean,
        outcome: Outcome::Inconclusive,
        bound: f64::NAN,
        message,
    };
    let scored = |q: &QuestionScore| Some((q.id.clone(), *q.scores.get(&gate.metric)?));
    let suite = other.and_then(|o| o.iter().find(|s| s.suite == gate.suite));
    let others: BTreeMap<_, _> = suite
        .map(|s| s.questions.iter().filter_map(scored).collect())
        .unwrap_or_default();
    let pairs: Option<Vec<(f64, f64)>> = candidate
        .scores
        .iter()
        .map(|(id, c)| Some((*c, *others.get(id)?)))
        .collect();
    let Some(pairs) = pairs else {
        return cannot(
            f64::NAN,
            format!("{name} has no score for some of the questions"),
        );
    };
    let mean = pairs.iter().map(|p| p.1).sum::<f64>() / pairs.len() as f64;
    let losses: Vec<f64> = pairs
        .iter()
        .map(|(candidate, other)| other - candidate)
        .collect();
    weigh(name, mean, &losses, margin)
}

fn weigh(name: &'static str, mean: f64, losses: &[f64], margin: f64) -> Comparison {
    let count = losses.len();
    if losses.iter().all(|l| l.abs() < 1e-12) {
        let unseen = unseen_loss(count);
        let message = format!(
            "every question scores as with {name}; a loss below {unseen:.4} could hide in {count} questions"
        );
        return Comparison {
            name,
            mean,
            outcome: Outcome::Passed,
            bound: 0.0,
            message,
        };
    }
    if count < MIN_QUESTIONS {
        let message = format!(
            "{count} questions are too few to compare with {name}: give at least {MIN_QUESTIONS}"
        );
        return Comparison {
            name,
            mean,
            outcome: Outcome::Inconclusive,
            bound: f64::NAN,
            message,
        };
    }
    let Bounds { lower, upper } = bounds(losses);
    let loss = losses.iter().sum::<f64>() / losses.len() as f64;
    let (outcome, bound, relation) = if upper <= margin {
        (Outcome::Passed, upper, "inside")
    } else if lower > margin {
        (Outcome::Failed, lower, "beyond")
    } else {
        (Outcome::Inconclusive, upper, "not surely inside")
    };
    let message = format!(
        "mean loss {loss:.4} against {name} (95% bounds {lower:.4} and {upper:.4}) is {relation} the margin {margin:.4}"
    );
    Comparison {
        name,
        mean,
        outcome,
        bound,
        message,
    }
}

fn result(
    gate: &Gate,
    outcome: Outcome,
    message: String,
    counted: Option<&Counted>,
    comparisons: &[Comparison],
) -> GateResult {
    let decimal = |v: f64| v.is_finite().then(|| format!("{v:.4}"));
    let of = |name: &str| {
        comparisons
            .iter()
            .find(|c| c.name == name)
            .and_then(|c| decimal(c.mean))
    };
    let deciding = comparisons
        .iter()
        .filter(|c| c.outcome == outcome)
        .map(|c| c.bound)
        .filter(|b| b.is_finite());
    let bound = deciding.fold(None, |most: Option<f64>, b| {
        Some(most.map_or(b, |m| m.max(b)))
    });
    GateResult {
        suite: gate.suite.clone(),
        metric: gate.metric.to_string(),
        outcome,
        message,
        questions: counted.map_or(0, |c| c.scores.len() as i64),
        stale: counted.map_or(0, |c| c.stale as i64),
        candidate: format!("{:.4}", counted.map_or(0.0, mean)),
        serving: of("the serving release"),
        anchor: of("the anchor"),
        bound: bound.and_then(decimal),
    }
}

#[cfg(test)]
mod tests;
