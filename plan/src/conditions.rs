//! Conditions that keep the time of their last transition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::clock::stamp;
use crate::limits::{MESSAGE, REASON, clip};

/// The three statuses of a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

impl From<bool> for Truth {
    fn from(b: bool) -> Self {
        if b { Self::True } else { Self::False }
    }
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says now.
pub(crate) struct Finding {
    pub kind: &'static str,
    pub truth: Truth,
    pub reason: String,
    pub message: String,
}

impl Finding {
    pub fn new(
        kind: &'static str,
        truth: impl Into<Truth>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            truth: truth.into(),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The findings as conditions. One whose status is as it was in `before` keeps its transition time.
pub(crate) fn conditions(
    now: Timestamp,
    generation: Option<i64>,
    before: &[Condition],
    findings: impl IntoIterator<Item = Finding>,
) -> Vec<Condition> {
    let condition = |finding: Finding| {
        let status = finding.truth.as_str();
        let same = before
            .iter()
            .find(|c| c.type_ == finding.kind && c.status == status);
        Condition {
            type_: finding.kind.to_owned(),
            status: status.to_owned(),
            reason: clip(&finding.reason, REASON),
            message: clip(&finding.message, MESSAGE),
            observed_generation: generation,
            last_transition_time: same
                .map_or_else(|| stamp(now), |c| c.last_transition_time.clone()),
        }
    };
    findings.into_iter().map(condition).collect()
}
