//! Behaviour suites as JSON Lines: what is asked, and by what an answer is judged.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use loci_plan::metrics::Metric;
use regex::Regex;

use super::line::case;
use crate::example::Message;

/// The most tokens that an answer may have.
pub const MAX_TOKENS: usize = 1024;
/// How many it may have when its case does not say.
pub const DEFAULT_TOKENS: usize = 64;
/// The most choices of a case.
pub const CHOICES: usize = 26;

/// Problems told of one suite.
const TOLD: usize = 5;

/// One case of a suite.
#[derive(Clone, Debug)]
pub struct Case {
    /// Names it in reports and pairs it between models; `L` and the line's number when its line does not say.
    pub id: String,
    /// What is asked.
    pub ask: Ask,
}

/// What a model is asked, and by what that is judged.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To answer.
    Answer {
        /// What is said before.
        messages: Vec<Message>,
        /// The most tokens of the answer.
        max_tokens: usize,
        /// Which answers are right.
        right: Right,
    },
    /// Which of some answers is the likeliest.
    Choice {
        /// What is said before.
        messages: Vec<Message>,
        /// The answers: at least two.
        choices: Vec<String>,
        /// The place of the right one.
        answer: usize,
    },
    /// How likely an answer is.
    Reference {
        /// What is said before.
        messages: Vec<Message>,
        /// The answer.
        reference: String,
    },
    /// How likely a text is.
    Text(String),
}

/// Which answers are right.
#[derive(Clone, Debug)]
pub enum Right {
    /// One of these, white space around it aside.
    Expected(Vec<String>),
    /// What this matches.
    Pattern(Regex),
    /// JSON that this allows, and nothing else.
    Schema(Arc<Validator>),
}

/// Why a suite cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// Lines are wrong.
    #[error("suite {suite}, {}", told(problems))]
    Lines {
        /// The suite.
        suite: String,
        /// What is wrong, in the order of the lines.
        problems: Vec<LineProblem>,
    },
    /// Nothing in it.
    #[error("suite {0} has no cases: add lines, or remove the suite and its gates")]
    Empty(String),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and the way out.
    pub reason: String,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

fn told(problems: &[LineProblem]) -> String {
    let mut told: Vec<String> = problems
        .iter()
        .take(TOLD)
        .map(ToString::to_string)
        .collect();
    if problems.len() > TOLD {
        told.push(format!("and {} lines more", problems.len() - TOLD));
    }
    told.join("; ")
}

/// Reads the lines of the suite called `suite`.
///
/// # Errors
/// Names every line that is wrong.
pub fn cases(suite: &str, jsonl: &str) -> Result<Vec<Case>, CasesError> {
    let jsonl = jsonl.strip_prefix('\u{feff}').unwrap_or(jsonl);
    let (mut cases, mut problems, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, text) in jsonl.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        match case(text, line) {
            Ok(case) if seen.insert(case.id.clone()) => cases.push(case),
            Ok(Case { id, .. }) => {
                let reason = format!("the id \"{id}\" stands on an earlier line already");
                problems.push(LineProblem { line, reason });
            }
            Err(reason) => problems.push(LineProblem { line, reason }),
        }
    }
    let suite = suite.to_owned();
    if !problems.is_empty() {
        return Err(CasesError::Lines { suite, problems });
    }
    if cases.is_empty() {
        return Err(CasesError::Empty(suite));
    }
    Ok(cases)
}

/// How many cases each metric has.
pub fn scored(cases: &[Case]) -> BTreeMap<Metric, usize> {
    let mut counts = BTreeMap::new();
    for metric in cases.iter().flat_map(Case::metrics) {
        *counts.entry(*metric).or_default() += 1;
    }
    counts
}

impl Ask {
    /// What is said before the answer; none of a text.
    pub fn messages(&self) -> Option<&[Message]> {
        match self {
            Self::Answer { messages, .. }
            | Self::Choice { messages, .. }
            | Self::Reference { messages, .. } => Some(messages),
            Self::Text(_) => None,
        }
    }
}

impl Case {
    /// The metrics that the case has. They score alike: which one a gate names says which cases it means.
    pub fn metrics(&self) -> &'static [Metric] {
        match &self.ask {
            Ask::Answer { right, .. } => match right {
                Right::Expected(_) => &[Metric::ExactMatch, Metric::Accuracy],
                Right::Pattern(_) => &[Metric::RegexMatch, Metric::Accuracy],
                Right::Schema(_) => &[Metric::SchemaValid, Metric::Accuracy],
            },
            Ask::Choice { .. } => &[Metric::Accuracy],
            Ask::Reference { .. } => &[Metric::Likelihood],
            Ask::Text(_) => &[Metric::Perplexity],
        }
    }

    /// What guessing scores.
    pub fn chance(&self) -> f64 {
        match &self.ask {
            Ask::Choice { choices, .. } => 1.0 / choices.len() as f64,
            _ => 0.0,
        }
    }
}
