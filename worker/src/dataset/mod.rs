//! From examples to a dataset: none twice, none that a suite asks, parted into what is trained on and what is held out.
//!
//! Pure: the same examples give the same bytes, in whatever order they are found. `docs/training-data.md` has the rules.

mod cases;
mod identity;
mod overlap;
mod report;
#[cfg(test)]
mod tests;
mod words;
mod written;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

pub use cases::{Case, CaseError, cases};
pub use overlap::{Overlap, Thresholds};
pub use report::{Counts, Report};
pub use written::{Lineage, Part, Written, examples, lineage};

use crate::example::Example;
use overlap::Protected;

/// Where an example stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The source.
    pub source: String,
    /// The file within the source.
    pub document: String,
    /// The file's version.
    pub version: String,
    /// The line, from 1; absent where it is about the file as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The `id` that it states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.document)?;
        match self.line {
            Some(line) => write!(f, ", line {line}"),
            None => Ok(()),
        }
    }
}

/// An example with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// Where it stands.
    pub origin: Origin,
    /// What it says.
    pub example: Example,
}

/// What sources hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Files by source.
    pub documents: BTreeMap<String, u64>,
    /// Examples that can be used.
    pub found: Vec<Located>,
    /// What cannot be used.
    pub malformed: Vec<Rejection>,
}

/// Something that is not in the dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// What kind of reason it is.
    pub why: Why,
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// The reason, for people.
    pub reason: String,
}

/// Why something is not in a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// It does not read, or is no conversation that can be learnt from.
    Malformed,
    /// Another example says the same.
    Duplicate,
    /// Another example says the same but for white space.
    NearDuplicate,
    /// A suite asks it.
    Contaminated,
}

/// By what rules a dataset is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How many of a hundred examples are held out.
    pub held_out: u8,
    /// What counts as asked by a suite.
    pub thresholds: Thresholds,
}

/// An example of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The digest of what it says, whatever its white space.
    pub identity: Digest,
    /// What it says, as it stands at the first of its places.
    pub example: Example,
    /// That place.
    pub origin: Origin,
    /// The others, in order.
    pub others: Vec<Origin>,
}

/// Examples to train on and to hold out, each in the order of their identities, and what became of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// What is trained on.
    pub train: Vec<Member>,
    /// What is never trained on.
    pub held_out: Vec<Member>,
    /// What is in neither.
    pub rejected: Vec<Rejection>,
    /// All that in numbers.
    pub report: Report,
}

/// Makes a dataset of what was read, without what `cases` ask.
pub fn build(read: Read, cases: &[Case], rules: &Rules) -> Dataset {
    let Read {
        documents,
        mut found,
        malformed,
    } = read;
    found.sort();
    let mut report = Report::of(&documents, &found);
    let mut rejected = malformed;
    let members = distinct(found, &mut rejected);
    let examples: Vec<&Example> = members.iter().map(|m| &m.example).collect();
    let checked = Protected::new(cases, rules.thresholds).check(&examples);
    report.common = checked.common;
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (member, overlap) in members.into_iter().zip(checked.overlaps) {
        if let Some(overlap) = overlap {
            report.asked_by(&overlap.suite);
            rejected.push(Rejection {
                why: Why::Contaminated,
                origin: member.origin,
                reason: overlap.to_string(),
            });
        } else if identity::held_out(&member.example, rules.held_out) {
            report.count(&member.origin.source, |counts| counts.held_out += 1);
            held_out.push(member);
        } else {
            report.count(&member.origin.source, |counts| counts.train += 1);
            train.push(member);
        }
    }
    rejected.sort();
    report.rejected(&rejected);
    Dataset {
        train,
        held_out,
        rejected,
        report,
    }
}

/// Each example once, at the first of its places, in the order of identities. `found` is in order.
fn distinct(found: Vec<Located>, rejected: &mut Vec<Rejection>) -> Vec<Member> {
    let mut members: BTreeMap<Digest, Member> = BTreeMap::new();
    for Located { origin, example } in found {
        let identity = identity::identity(&example);
        match members.entry(identity) {
            Entry::Vacant(free) => {
                free.insert(Member {
                    identity,
                    example,
                    origin,
                    others: Vec::new(),
                });
            }
            Entry::Occupied(taken) => {
                let member = taken.into_mut();
                let (why, but) = match member.example == example {
                    true => (Why::Duplicate, ""),
                    false => (Why::NearDuplicate, ", but for white space"),
                };
                rejected.push(Rejection {
                    why,
                    origin: origin.clone(),
                    reason: format!("says the same as {}{but}", member.origin),
                });
                member.others.push(origin);
            }
        }
    }
    members.into_values().collect()
}
