//! From what was measured to rows and verdicts.

use std::collections::BTreeSet;

use loci_plan::gate::bounds;
use serde::Serialize;

use crate::arithmetic::CHANCE;
use crate::bench::{Asked, Control, Run};
use crate::data::{Story, answer};
use crate::options::{Arm, Options};
use crate::score::Score;
use crate::stats::{Interval, mean, paired, share};

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What the model does without an adapter.
    pub controls: Vec<Control>,
    /// Which sums it does without one; none when no adapter was wanted.
    pub guard: Vec<bool>,
    /// What it does with one.
    pub runs: Vec<Run>,
}

/// What an adapter must hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The least gain over the best control.
    pub min_gain: f64,
    /// The largest loss of the guard.
    pub max_regression: f64,
}

impl From<&Options> for Limits {
    fn from(options: &Options) -> Self {
        Self {
            min_gain: options.min_gain,
            max_regression: options.max_regression,
        }
    }
}

/// What becomes of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It gains enough, and forgets too little to matter.
    Promoted,
    /// It forgets too much, or gains too little.
    Rejected,
    /// The suites cannot tell.
    Held,
    /// There is none that computes numbers: its training diverged.
    Diverged,
}

impl Verdict {
    /// As tables have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Rejected => "rejected",
            Self::Held => "held",
            Self::Diverged => "diverged",
        }
    }
}

/// A mean loss with its one-sided 95 % bounds, as gates have them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// What the model did without the adapter less what it does with it.
    pub mean: f64,
    /// It is hardly less.
    pub lower: f64,
    /// It is hardly more.
    pub upper: f64,
}

/// A line of the table. Shares are means over cases, and over seeds where a row has several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was asked.
    pub name: String,
    /// The share of cases that are answered by the line alone; absent when nothing was asked, as all that follows.
    pub exact: Option<Interval>,
    /// The share that is answered by the line with something around it, at least.
    pub anywhere: Option<f64>,
    /// The share with the right severity.
    pub severity: Option<f64>,
    /// The share with the right team.
    pub team: Option<f64>,
    /// The share with the right deadline.
    pub within: Option<f64>,
    /// The share that is rightly escalated or not.
    pub decision: Option<f64>,
    /// The share of exact answers among cases whose answer no example has.
    pub new_answers: Option<f64>,
    /// What `exact` gains over the best control.
    pub gain: Option<Interval>,
    /// The share of sums that are right.
    pub arithmetic: Option<f64>,
    /// What that is less than without the adapter.
    pub loss: Option<Loss>,
    /// What becomes of the adapter; of several, how many are promoted.
    pub verdict: Option<String>,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The control that gains are counted from.
    pub best: Option<&'static str>,
    /// All rows.
    pub rows: Vec<Row>,
    /// Of each adapter that is not promoted, why.
    pub reasons: Vec<String>,
}

/// What rows are made by.
struct Frame<'a> {
    /// By case, whether no example has its answer.
    new: Vec<bool>,
    /// By case, how often the best control was exact.
    best: Option<Vec<f64>>,
    guard: &'a [bool],
    limits: Limits,
}

impl Report {
    pub fn of(measured: &Measured, story: &Story, limits: Limits) -> Self {
        let known: BTreeSet<&str> = story.examples.iter().map(|chat| answer(chat)).collect();
        let is_new = |line: &str| !known.contains(line);
        let best = measured.controls.iter().max_by(|a, b| {
            let exact = |control: &Control| mean(&exact_by_case(&trials(control)));
            exact(a).total_cmp(&exact(b))
        });
        let frame = Frame {
            new: story.cases.iter().map(|c| is_new(&c.expected)).collect(),
            best: best.map(|control| exact_by_case(&trials(control))),
            guard: &measured.guard,
            limits,
        };
        let mut report = Self {
            best: best.map(|control| control.arm.label()),
            rows: Vec::new(),
            reasons: Vec::new(),
        };
        for control in &measured.controls {
            let mut row = frame.asked(control.arm.label(), &trials(control));
            if control.arm == Arm::Base {
                row.arithmetic = frame.base();
            }
            report.rows.push(row);
        }
        for arm in [Arm::Adapter, Arm::Aggressive] {
            let runs: Vec<&Run> = measured.runs.iter().filter(|run| run.arm == arm).collect();
            report.arm(&frame, arm, &runs);
        }
        report
    }

    /// A row for each run, and one for all of them together.
    fn arm(&mut self, frame: &Frame<'_>, arm: Arm, runs: &[&Run]) {
        let mut promoted = 0;
        for &run in runs {
            let name = format!("{} {}", arm.label(), run.seed);
            let mut row = frame.trained(&name, &[run]);
            let (verdict, reason) = frame.judge(run, &row);
            row.verdict = Some(verdict.label().to_owned());
            self.rows.push(row);
            match verdict {
                Verdict::Promoted => promoted += 1,
                other => self
                    .reasons
                    .push(format!("{name} {}: {reason}", other.label())),
            }
        }
        if runs.len() > 1 {
            let mut row = frame.trained(&format!("{}, mean", arm.label()), runs);
            row.verdict = Some(format!("{promoted} of {}", runs.len()));
            self.rows.push(row);
        }
    }
}

impl Frame<'_> {
    fn base(&self) -> Option<f64> {
        (!self.guard.is_empty()).then(|| mean(&ones(self.guard)))
    }

    /// What was asked of the suite.
    fn asked(&self, name: &str, trials: &[&Asked]) -> Row {
        let name = name.to_owned();
        let exact = exact_by_case(trials);
        if exact.is_empty() {
            return Row {
                name,
                ..Row::default()
            };
        }
        let share_of = |of: fn(&Score) -> bool| Some(mean(&by_case(trials, of)));
        let new = exact.iter().zip(&self.new).filter(|(_, new)| **new);
        let new: Vec<f64> = new.map(|(exact, _)| *exact).collect();
        Row {
            name,
            exact: Some(share(&exact)),
            anywhere: share_of(|s| s.anywhere),
            severity: share_of(|s| s.severity),
            team: share_of(|s| s.team),
            within: share_of(|s| s.within),
            decision: share_of(|s| s.decision),
            new_answers: (!new.is_empty()).then(|| mean(&new)),
            ..Row::default()
        }
    }

    /// What was asked of adapters, and of the guard, beside the best control and the model alone.
    fn trained(&self, name: &str, runs: &[&Run]) -> Row {
        let finished: Vec<&Run> = runs
            .iter()
            .copied()
            .filter(|r| r.stopped.is_none())
            .collect();
        let trials: Vec<&Asked> = finished.iter().map(|run| &run.asked).collect();
        let mut row = self.asked(name, &trials);
        if finished.is_empty() {
            return row;
        }
        let exact = exact_by_case(&trials);
        row.gain = self.best.as_ref().map(|best| {
            let pairs = exact.iter().zip(best);
            paired(&pairs.map(|(run, best)| run - best).collect::<Vec<_>>())
        });
        let right: Vec<f64> = (0..self.guard.len())
            .map(|item| mean(&ones(finished.iter().map(|run| &run.right[item]))))
            .collect();
        let base = ones(self.guard);
        let losses: Vec<f64> = base
            .iter()
            .zip(&right)
            .map(|(base, run)| base - run)
            .collect();
        let within = bounds(&losses);
        row.arithmetic = Some(mean(&right));
        row.loss = Some(Loss {
            mean: mean(&losses),
            lower: within.lower,
            upper: within.upper,
        });
        row
    }

    /// What becomes of an adapter, and why.
    fn judge(&self, run: &Run, row: &Row) -> (Verdict, String) {
        if let Some(why) = &run.stopped {
            return (Verdict::Diverged, why.clone());
        }
        let (Some(gain), Some(loss)) = (row.gain, row.loss) else {
            let reason = "no control was measured to compare with".to_owned();
            return (Verdict::Held, reason);
        };
        let base = share(&ones(self.guard));
        if base.low <= CHANCE {
            let reason = format!(
                "arithmetic cannot guard: without an adapter {:.3} of it is right, by chance {CHANCE}",
                base.mean
            );
            return (Verdict::Held, reason);
        }
        let Limits {
            min_gain,
            max_regression,
        } = self.limits;
        let lost = format!(
            "arithmetic lost {:.3} (bounds {:.3}, {:.3}), and {max_regression} is allowed",
            loss.mean, loss.lower, loss.upper
        );
        if loss.lower > max_regression {
            return (Verdict::Rejected, lost);
        }
        if gain.mean < min_gain || gain.low <= 0.0 {
            let reason = format!(
                "it gained {:.3} ({:.3} to {:.3}), and {min_gain} is asked for",
                gain.mean, gain.low, gain.high
            );
            return (Verdict::Rejected, reason);
        }
        if loss.upper > max_regression {
            return (Verdict::Held, lost);
        }
        (Verdict::Promoted, String::new())
    }
}

fn trials(control: &Control) -> Vec<&Asked> {
    control.trials.iter().collect()
}

fn exact_by_case(trials: &[&Asked]) -> Vec<f64> {
    by_case(trials, |score| score.exact)
}

/// By case, in what share of the trials something holds.
fn by_case(trials: &[&Asked], of: fn(&Score) -> bool) -> Vec<f64> {
    let cases = trials.first().map_or(0, |trial| trial.scores.len());
    let holds = |case: usize| -> Vec<bool> {
        let scores = trials.iter().map(|trial| &trial.scores[case]);
        scores.map(of).collect()
    };
    (0..cases).map(|case| mean(&ones(&holds(case)))).collect()
}

fn ones<'a>(values: impl IntoIterator<Item = &'a bool>) -> Vec<f64> {
    let values = values.into_iter();
    values.map(|value| f64::from(u8::from(*value))).collect()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
