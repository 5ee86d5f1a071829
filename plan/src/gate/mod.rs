//! Gates: whether a candidate holds what its pipeline asks on a suite.
//!
//! A floor is judged by the mean. A regression is judged by pairs: for each question the loss, what the
//! other release scored less what the candidate scores. The gate passes when the one-sided 95 % upper
//! bound of the mean loss lies inside the margin, fails when the lower bound lies beyond it, and cannot
//! tell otherwise (non-inferiority). When no question differs the gate passes whatever the margin: it
//! is what every refresh gives that does not touch the suite's documents, and the message says how
//! large a loss the suite could have missed.
//!
//! Behaviour is compared in the same way, and with the base model without adapter, too: the gain over it is judged by
//! the same bounds. A suite of behaviour that the other does not do surely better than by guessing cannot guard.

mod bound;
mod compare;

use std::collections::BTreeMap;

use loci_crds::release::{GateResult, Outcome};
use serde::{Deserialize, Serialize};

pub use bound::{Bounds, bounds, detectable_effect, unseen_loss};

use crate::metrics::{Kind, Metric};
use crate::spec::Gate;
use compare::{ANCHOR, BASE, Comparison, SERVING, gain, regression};

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
    /// What guessing scores.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub chance: f64,
    /// From 0 to 1. Of behaviour, a question has those that its kind has.
    pub scores: BTreeMap<Metric, f64>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
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
    /// Those of the base model without adapter.
    pub base: Option<&'a [SuiteScores]>,
}

/// Who a candidate must be compared with; scores that are missing then cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// A release serves.
    pub serving: bool,
    /// An older one is the anchor.
    pub anchor: bool,
    /// The candidate brings an adapter that does not serve yet. Only then is a gain over the base model judged, and
    /// whether a suite of behaviour can guard: without a new adapter all behaves as it did.
    pub base: bool,
}

/// The questions of a suite that count: not stale, and scored.
struct Counted {
    scores: BTreeMap<String, f64>,
    asked: usize,
    stale: usize,
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
        let why = if counted.asked == 0 {
            "no question of the suite has this metric".to_owned()
        } else if !whole {
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
    for message in beside_the_point(gate, compared) {
        outcomes.push(Outcome::NotApplicable);
        messages.push(message.to_owned());
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

/// What a gate says whose suite was not asked, because there is nothing that it would judge.
pub fn unasked(gate: &Gate, why: String) -> GateResult {
    result(gate, Outcome::NotApplicable, why, None, &[])
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
    // A suite of behaviour may have questions of several kinds.
    let concerned = |q: &&QuestionScore| {
        gate.metric.kind() == Kind::Retrieval || q.scores.contains_key(&gate.metric)
    };
    let questions: Vec<_> = suite.questions.iter().filter(concerned).collect();
    let stale = questions.iter().filter(|q| q.stale).count();
    let score = |q: &&QuestionScore| {
        let value = *q.scores.get(&gate.metric)?;
        (0.0..=1.0).contains(&value).then(|| (q.id.clone(), value))
    };
    let scores = questions
        .iter()
        .filter(|q| !q.stale)
        .filter_map(score)
        .collect();
    Some(Counted {
        scores,
        asked: questions.len(),
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
    let mut comparisons = Vec::new();
    if let Some(margin) = gate.max_regression {
        let guard = compared.base && gate.metric.kind() == Kind::Behavior;
        let others = [
            (SERVING, scores.serving, compared.serving),
            (ANCHOR, scores.anchor, compared.anchor),
        ];
        let needed = others.into_iter().filter(|(_, _, needed)| *needed);
        comparisons.extend(
            needed
                .map(|(name, other, _)| regression(name, gate, candidate, other, (margin, guard))),
        );
    }
    if let Some(least) = gate.min_gain.filter(|_| compared.base) {
        comparisons.push(gain(gate, candidate, scores.base, least));
    }
    comparisons
}

/// Why what a gate asks for does not apply.
fn beside_the_point(gate: &Gate, compared: Compared) -> impl Iterator<Item = &'static str> {
    let alone = gate.max_regression.is_some() && !compared.serving && !compared.anchor;
    let same = gate.min_gain.is_some() && !compared.base;
    let reasons = [
        (alone, "nothing serves yet to compare with"),
        (same, "no adapter is new, so that nothing is gained"),
    ];
    reasons
        .into_iter()
        .filter_map(|(applies, reason)| applies.then_some(reason))
}

fn result(
    gate: &Gate,
    outcome: Outcome,
    message: String,
    counted: Option<&Counted>,
    comparisons: &[Comparison],
) -> GateResult {
    let written = |v: f64| decimal(gate.metric, v);
    let finite = |v: f64| v.is_finite().then(|| written(v));
    let of = |name: &str| {
        comparisons
            .iter()
            .find(|c| c.name == name)
            .and_then(|c| finite(c.mean))
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
        candidate: written(counted.map_or(0.0, mean)),
        serving: of(SERVING),
        anchor: of(ANCHOR),
        base: of(BASE),
        bound: bound.and_then(finite),
    }
}

/// Probabilities of tokens may be small.
fn decimal(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Likelihood | Metric::Perplexity => format!("{value:.6}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod behavior_tests;
#[cfg(test)]
mod tests;
