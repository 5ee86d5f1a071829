//! Runs and releases stay small by construction: texts are cut, and gate results that decided nothing are left out when
//! there are too many. As JSON, a run has at most 16 KiB and a release 8 KiB, and 704 bytes more for each adapter,
//! 512 more for a cross-encoder.

use loci_crds::release::{GateResult, Outcome};
use loci_crds::{MemoryReleaseSpec, MemoryReleaseStatus, MemoryRunStatus};
use serde::Serialize;

/// The most bytes of a release without adapters.
const RELEASE: usize = 8 << 10;
/// The most bytes of an adapter in it: of its name, its base and its digests, each as long as it may be.
const ADAPTER: usize = 704;
/// The most bytes of a cross-encoder in it: of its reference and its digest, each as long as it may be.
const CROSS_ENCODER: usize = 512;
/// Names, labels, owner, and what the API server keeps of who wrote which field.
const METADATA: usize = 3 << 10;
/// What becomes of a release later: times and a sentence.
const LATER: usize = 512;

/// The most bytes of the message of a run or of a condition.
pub(crate) const MESSAGE: usize = 2048;
/// Of a condition that repeats what its run says.
pub(crate) const IN_SHORT: usize = 512;
pub(crate) const REASON: usize = 256;
pub(crate) const SOURCE_ERROR: usize = 512;
const SUMMARY: usize = 768;
/// The most bytes of a gate's message: the first with which all results fit.
const GATE_MESSAGES: [usize; 3] = [512, 160, 64];

const ELLIPSIS: char = '…';

/// The text, cut where its JSON would be longer than `limit` bytes.
pub(crate) fn clip(text: &str, limit: usize) -> String {
    if text.chars().map(cost).sum::<usize>() <= limit {
        return text.to_owned();
    }
    let mut left = limit.saturating_sub(ELLIPSIS.len_utf8());
    let fits = |c: &char| match left.checked_sub(cost(*c)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).chain([ELLIPSIS]).collect()
}

/// The bytes of a character in JSON as API servers write it.
fn cost(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    }
}

/// A run's status in bounds.
pub(crate) fn run(mut status: MemoryRunStatus) -> MemoryRunStatus {
    let clipped = |text: &mut Option<String>, limit| {
        if let Some(text) = text {
            *text = clip(text, limit);
        }
    };
    clipped(&mut status.reason, REASON);
    clipped(&mut status.message, MESSAGE);
    for step in &mut status.steps {
        clipped(&mut step.summary, SUMMARY);
    }
    status
}

/// Cuts the gate results of a new release to what there is room for beside its spec.
pub(crate) fn release(spec: &MemoryReleaseSpec, status: &mut MemoryReleaseStatus) {
    let crosses = usize::from(spec.index.cross_encoder.is_some());
    let most = RELEASE + ADAPTER * spec.adapters.len() + CROSS_ENCODER * crosses;
    let room = most.saturating_sub(METADATA + LATER + size(spec));
    for limit in GATE_MESSAGES {
        if let Some(verdict) = &mut status.verdict {
            for gate in &mut verdict.gates {
                gate.message = clip(&gate.message, limit);
            }
        }
        if size(status) <= room {
            return;
        }
    }
    let Some(verdict) = &mut status.verdict else {
        return;
    };
    let gates = std::mem::take(&mut verdict.gates);
    // As if none were left out, which is the longest.
    verdict.omitted = gates.len() as i64;
    let room = room.saturating_sub(size(status));
    let (kept, omitted) = fitting(gates, room);
    if let Some(verdict) = &mut status.verdict {
        (verdict.gates, verdict.omitted) = (kept, omitted);
    }
}

/// The results that fit, those against the release first, in the order of the gates; and how many do not.
fn fitting(gates: Vec<GateResult>, mut room: usize) -> (Vec<GateResult>, i64) {
    let mut order: Vec<usize> = (0..gates.len()).collect();
    order.sort_by_key(|i| gates.get(*i).map(|g| severity(g.outcome)));
    let mut keep = vec![false; gates.len()];
    for i in order {
        let Some(rest) = gates.get(i).and_then(|g| room.checked_sub(size(g) + 1)) else {
            break;
        };
        room = rest;
        if let Some(keep) = keep.get_mut(i) {
            *keep = true;
        }
    }
    let omitted = keep.iter().filter(|k| !**k).count() as i64;
    let kept = gates.into_iter().zip(keep);
    (kept.filter(|(_, k)| *k).map(|(g, _)| g).collect(), omitted)
}

fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Failed => 0,
        Outcome::Inconclusive => 1,
        Outcome::Passed => 2,
        Outcome::NotApplicable => 3,
    }
}

/// The bytes of a value as JSON. The values here are plain structs, which always have one.
fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_its_json_would_be_too_long() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("longer", 5), "lo…");
        for text in ["\u{1}\u{2}\"\\", "ééééééé", "a\n\n\n\n", "日本語日本語"] {
            for limit in 3..20 {
                let json = serde_json::to_string(&clip(text, limit)).unwrap();
                assert!(json.len() - 2 <= limit, "{limit}: {json}");
            }
        }
    }
}
