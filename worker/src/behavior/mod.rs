//! Behaviour suites: what a model is asked, how its answers are judged, and the suites that come with Loci.
//!
//! [`cases()`] reads lines, [`ask()`] asks a decoder, [`CaseRecord`]s say how it went; each score is from 0 to 1.
//! `docs/behavior.md` has the lines and the metrics.

mod ask;
mod cases;
mod line;
#[cfg(test)]
mod schema_tests;
mod score;
mod shown;
#[cfg(test)]
mod tests;

pub use ask::{AskError, ask};
pub use cases::{
    Ask, CHOICES, Case, CasesError, DEFAULT_TOKENS, LineProblem, MAX_TOKENS, Right, cases, scored,
};
pub use score::{CaseRecord, choose, is_right, likelihood, scores};
pub(crate) use shown::shown;

/// Sums, differences and products of one and two digits, in multiple choice. `scripts/make-suites.py` writes the lines.
pub const ARITHMETIC: &str = include_str!("../../suites/arithmetic.jsonl");

/// Facts, plain language, and instructions that are easy to follow. `scripts/make-suites.py` writes the lines.
pub const ABILITY: &str = include_str!("../../suites/ability.jsonl");
