//! What an answer is worth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is right in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// It is the line, and nothing else but white space around it. This is what is compared.
    pub exact: bool,
    /// It holds the line somewhere, in whatever case: for who knows the answer and not the form.
    pub anywhere: bool,
    /// The severity that it names first.
    pub severity: bool,
    /// The team that it names first.
    pub team: bool,
    /// The deadline that it names first.
    pub within: bool,
    /// Whether it escalates.
    pub decision: bool,
}

/// The parts of a line, or of what looks like one; in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    severity: Option<String>,
    team: Option<String>,
    within: Option<String>,
    decision: Option<&'static str>,
}

impl Parts {
    fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        let places = ["escalate", "resolve"].map(|word| (text.find(word), word));
        let named = places.into_iter().filter(|(at, _)| at.is_some());
        Self {
            severity: after(&text, "sev", |word| {
                word.starts_with(|c: char| c.is_ascii_digit())
            }),
            team: after(&text, "team=", |word| !word.is_empty()),
            within: after(&text, "within=", |word| !word.is_empty()),
            decision: named.min().map(|(_, word)| word),
        }
    }
}

/// The first word, of letters and digits, that stands right after a `mark` and is as it should be.
fn after(text: &str, mark: &str, is_meant: impl Fn(&str) -> bool) -> Option<String> {
    let mut words = text.split(mark).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    });
    words.find(|word| is_meant(word)).map(str::to_owned)
}

/// Compares an answer with the line that is right.
pub fn score(answer: &str, expected: &str) -> Score {
    let (got, want) = (Parts::of(answer), Parts::of(expected));
    let anywhere = answer.to_lowercase().contains(&expected.to_lowercase());
    Score {
        exact: answer.trim() == expected,
        anywhere,
        severity: got.severity == want.severity,
        team: got.team == want.team,
        within: got.within == want.within,
        decision: got.decision == want.decision,
    }
}

/// What who always says the same has right, for each column the best that there is: the commonest line, the commonest
/// severity, and so on. It knows the suite, so that no constant answer does better.
pub fn majority(expected: &[&str]) -> Vec<Score> {
    let parts: Vec<Parts> = expected.iter().map(|line| Parts::of(line)).collect();
    let line = commonest(expected.iter().copied());
    let severity = commonest(parts.iter().map(|p| &p.severity));
    let team = commonest(parts.iter().map(|p| &p.team));
    let within = commonest(parts.iter().map(|p| &p.within));
    let decision = commonest(parts.iter().map(|p| p.decision));
    let scores = expected.iter().zip(&parts).map(|(expected, parts)| {
        let exact = Some(*expected) == line;
        Score {
            exact,
            anywhere: exact,
            severity: Some(&parts.severity) == severity,
            team: Some(&parts.team) == team,
            within: Some(&parts.within) == within,
            decision: Some(parts.decision) == decision,
        }
    });
    scores.collect()
}

/// What comes up most often; of equals, the last in order.
fn commonest<T: Ord>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_insert(0_usize) += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(item, _)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "SEV2 team=payments within=4h ESCALATE lead";

    #[test]
    fn only_the_line_alone_is_exact() {
        let right = score(" SEV2 team=payments within=4h ESCALATE lead\n", LINE);
        let all = Score {
            exact: true,
            anywhere: true,
            severity: true,
            team: true,
            within: true,
            decision: true,
        };
        assert_eq!(right, all);
        let talkative = score(&format!("The line is: {}.", LINE.to_lowercase()), LINE);
        let but_exact = Score {
            exact: false,
            ..all
        };
        assert_eq!(talkative, but_exact);
        let other = score("SEV2 team=payments within=4h ESCALATE duty", LINE);
        assert_eq!((other.exact, other.decision), (false, true));
    }

    #[test]
    fn parts_are_judged_one_by_one() {
        let half = score("SEV1 team=payments within=15m RESOLVE, or ESCALATE?", LINE);
        assert_eq!(
            half,
            Score {
                exact: false,
                anywhere: false,
                severity: false,
                team: true,
                within: false,
                decision: false,
            }
        );
        let nothing = score("The severity is several, I am sorry.", LINE);
        assert!(
            ![
                nothing.severity,
                nothing.team,
                nothing.within,
                nothing.decision
            ]
            .contains(&true)
        );
        assert_eq!(Parts::of("SEV= team=?"), Parts::default());
        let late = Parts::of("Severity: SEV3, because it is severe");
        assert_eq!(late.severity.as_deref(), Some("3"));
    }

    #[test]
    fn a_constant_answer_is_as_good_as_it_can_be_in_each_column() {
        let expected = [
            LINE,
            "SEV4 team=access within=3d RESOLVE",
            "SEV4 team=payments within=3d RESOLVE",
            "SEV3 team=devices within=1d RESOLVE",
            "SEV4 team=access within=3d RESOLVE",
        ];
        let scores = majority(&expected);
        let count = |of: fn(&Score) -> bool| scores.iter().filter(|s| of(s)).count();
        assert_eq!((count(|s| s.exact), count(|s| s.severity)), (2, 3));
        assert_eq!((count(|s| s.within), count(|s| s.decision)), (3, 4));
    }
}
