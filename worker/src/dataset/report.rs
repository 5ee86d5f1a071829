//! What became of all examples, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Located, Rejection, Why};

/// How many of a kind are quoted, and how much of each.
const QUOTED: usize = 5;
const CHARACTERS: usize = 300;

/// What became of all examples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Of all sources.
    pub total: Counts,
    /// Of each source. An example that stands in several counts for the first, and as a duplicate for the others.
    pub sources: BTreeMap<String, Counts>,
    /// Examples that were left out because a suite asks them, by suite.
    pub contaminated_by: BTreeMap<String, u64>,
    /// Runs of words that suites and too many examples share to be leaks.
    pub common: u64,
    /// The first that do not read, for people.
    pub first_malformed: Vec<String>,
    /// The first that suites ask, for people.
    pub first_contaminated: Vec<String>,
}

/// Numbers. `found` is the sum of all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Files.
    pub documents: u64,
    /// Lines and parts of files that are no examples.
    pub malformed: u64,
    /// Examples that read.
    pub found: u64,
    /// Those that others say, too.
    pub duplicates: u64,
    /// Those that others say, too, but for white space.
    pub near_duplicates: u64,
    /// Those that suites ask.
    pub contaminated: u64,
    /// Those to train on.
    pub train: u64,
    /// Those held out.
    pub held_out: u64,
}

impl Report {
    pub(super) fn of(documents: &BTreeMap<String, u64>, found: &[Located]) -> Self {
        let mut report = Self::default();
        for (source, documents) in documents {
            report.count(source, |counts| counts.documents += documents);
        }
        for located in found {
            report.count(&located.origin.source, |counts| counts.found += 1);
        }
        report
    }

    pub(super) fn count(&mut self, source: &str, add: impl Fn(&mut Counts)) {
        add(&mut self.total);
        add(self.sources.entry(source.to_owned()).or_default());
    }

    pub(super) fn asked_by(&mut self, suite: &str) {
        *self.contaminated_by.entry(suite.to_owned()).or_default() += 1;
    }

    /// Counts and quotes what was rejected; all of it, in order.
    pub(super) fn rejected(&mut self, rejected: &[Rejection]) {
        for Rejection { why, origin, .. } in rejected {
            self.count(&origin.source, |counts| match why {
                Why::Malformed => counts.malformed += 1,
                Why::Duplicate => counts.duplicates += 1,
                Why::NearDuplicate => counts.near_duplicates += 1,
                Why::Contaminated => counts.contaminated += 1,
            });
        }
        let quoted = |kind: Why| -> Vec<String> {
            let of_kind = rejected.iter().filter(|r| r.why == kind);
            of_kind.take(QUOTED).map(Rejection::quoted).collect()
        };
        self.first_malformed = quoted(Why::Malformed);
        self.first_contaminated = quoted(Why::Contaminated);
    }
}

impl Rejection {
    fn quoted(&self) -> String {
        let quoted = format!("{}: {}", self.origin, self.reason);
        quoted.chars().take(CHARACTERS).collect()
    }
}

/// `180 examples to train on and 20 held out, of 212 in 3 files; 8 duplicates; 2 contaminated, first: …`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = &self.total;
        write!(
            f,
            "{} examples to train on and {} held out, of {} in {} files",
            of.train, of.held_out, of.found, of.documents
        )?;
        let duplicates = of.duplicates + of.near_duplicates;
        if duplicates > 0 {
            write!(f, "; {duplicates} duplicates")?;
        }
        for (count, what, first) in [
            (of.contaminated, "contaminated", &self.first_contaminated),
            (of.malformed, "malformed", &self.first_malformed),
        ] {
            if let Some(first) = first.first() {
                write!(f, "; {count} {what}, first: {first}")?;
            }
        }
        Ok(())
    }
}
