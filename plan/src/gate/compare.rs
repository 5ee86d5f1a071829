//! How a candidate compares with another, question by question.

use std::collections::BTreeMap;

use loci_crds::release::Outcome;

use super::bound::{Bounds, bounds, unseen_loss};
use super::{Counted, MIN_QUESTIONS, SuiteScores};
use crate::spec::Gate;

/// Who a candidate is compared with.
pub(super) const SERVING: &str = "the serving release";
pub(super) const ANCHOR: &str = "the anchor";
pub(super) const BASE: &str = "the base model";

/// How the candidate compares with another.
pub(super) struct Comparison {
    pub name: &'static str,
    /// The other's mean over the questions that count.
    pub mean: f64,
    pub outcome: Outcome,
    /// The bound of the loss that decided; not a number where none did.
    pub bound: f64,
    pub message: String,
}

/// What one question scores.
struct Pair {
    candidate: f64,
    other: f64,
    /// What guessing scores.
    chance: f64,
}

impl Comparison {
    fn undecided(name: &'static str, mean: f64, message: String) -> Self {
        Self {
            name,
            mean,
            outcome: Outcome::Inconclusive,
            bound: f64::NAN,
            message,
        }
    }
}

/// Whether the candidate falls by no more than `margin` against `other`. With `guard`, only a suite that the other surely
/// does better than by chance can tell.
pub(super) fn regression(
    name: &'static str,
    gate: &Gate,
    candidate: &Counted,
    other: Option<&[SuiteScores]>,
    (margin, guard): (f64, bool),
) -> Comparison {
    let Some(pairs) = pairs(gate, candidate, other) else {
        return unscored(name);
    };
    let mean = mean(&pairs);
    if guard && !above_chance(&pairs) {
        return unable(name, mean, gate.min_gain.is_some());
    }
    weigh(name, mean, &losses(&pairs), margin)
}

/// Whether the candidate is above the base model by `least`.
pub(super) fn gain(
    gate: &Gate,
    candidate: &Counted,
    base: Option<&[SuiteScores]>,
    least: f64,
) -> Comparison {
    let Some(pairs) = pairs(gate, candidate, base) else {
        return unscored(BASE);
    };
    let mean = mean(&pairs);
    if pairs.len() < MIN_QUESTIONS {
        return too_few(BASE, mean, pairs.len());
    }
    win(mean, &losses(&pairs), least)
}

/// Each question that counts with what the other scores on it; none when the other lacks one.
fn pairs(gate: &Gate, candidate: &Counted, other: Option<&[SuiteScores]>) -> Option<Vec<Pair>> {
    let suite = other.and_then(|o| o.iter().find(|s| s.suite == gate.suite));
    let questions = suite.map(|s| &s.questions[..]).unwrap_or_default();
    let others: BTreeMap<&str, _> = questions.iter().map(|q| (q.id.as_str(), q)).collect();
    let pair = |(id, score): (&String, &f64)| {
        let other = others.get(id.as_str())?;
        Some(Pair {
            candidate: *score,
            other: *other.scores.get(&gate.metric)?,
            chance: other.chance,
        })
    };
    candidate.scores.iter().map(pair).collect()
}

fn mean(pairs: &[Pair]) -> f64 {
    pairs.iter().map(|p| p.other).sum::<f64>() / pairs.len() as f64
}

fn losses(pairs: &[Pair]) -> Vec<f64> {
    pairs.iter().map(|p| p.other - p.candidate).collect()
}

/// Whether the other surely does better than guessing would: the lower bound of what it scores above chance is above 0.
fn above_chance(pairs: &[Pair]) -> bool {
    let excess: Vec<f64> = pairs.iter().map(|p| p.other - p.chance).collect();
    bounds(&excess).lower > 0.0
}

fn unscored(name: &'static str) -> Comparison {
    let message = format!("{name} has no score for some of the questions");
    Comparison::undecided(name, f64::NAN, message)
}

fn too_few(name: &'static str, mean: f64, count: usize) -> Comparison {
    let message = format!(
        "{count} questions are too few to compare with {name}: give at least {MIN_QUESTIONS}"
    );
    Comparison::undecided(name, mean, message)
}

/// What guessing does as well cannot guard. Where a gain is asked for besides, there is nothing to lose yet, and the gain
/// decides.
fn unable(name: &'static str, mean: f64, gained: bool) -> Comparison {
    let (outcome, follows) = if gained {
        let follows = "so that there is nothing to lose yet";
        (Outcome::NotApplicable, follows)
    } else {
        let follows = "so that a loss could not be told: take easier questions, or more of them";
        (Outcome::Inconclusive, follows)
    };
    let message = format!("{name} (mean {mean:.4}) is not surely better than guessing, {follows}");
    Comparison {
        outcome,
        ..Comparison::undecided(name, mean, message)
    }
}

pub(super) fn weigh(name: &'static str, mean: f64, losses: &[f64], margin: f64) -> Comparison {
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
        return too_few(name, mean, count);
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

/// A gain is a loss of the other sign, and its bounds change places.
pub(super) fn win(mean: f64, losses: &[f64], least: f64) -> Comparison {
    let Bounds { lower, upper } = bounds(losses);
    let gain = -losses.iter().sum::<f64>() / losses.len() as f64;
    let (outcome, bound, relation) = if -upper >= least {
        (Outcome::Passed, upper, "surely at least")
    } else if -lower < least {
        (Outcome::Failed, lower, "surely less than")
    } else {
        (Outcome::Inconclusive, upper, "not surely at least")
    };
    let message = format!(
        "mean gain {gain:.4} over {BASE} (95% bounds {:.4} and {:.4}) is {relation} {least:.4}",
        -upper, -lower
    );
    Comparison {
        name: BASE,
        mean,
        outcome,
        bound,
        message,
    }
}
