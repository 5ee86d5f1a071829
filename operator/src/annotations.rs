//! What people ask for, as annotations of a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use loci_digest::Digest;
use loci_plan::Intents;

/// Run now: each new value asks for one run.
pub const REFRESH: &str = "loci.dev/refresh";
/// The same, by Flux' convention (`flux reconcile` and its kin set it).
const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";
/// Serve the release of this number and promote nothing, until the annotation is removed. Written by a field manager whose
/// name does not begin with `kubectl`: Flux takes those over, and drops what is not in Git.
pub const ROLLBACK: &str = "loci.dev/rollback";
/// Names of held runs, separated by commas, that may delete what they would delete.
pub const APPROVE: &str = "loci.dev/approve";
/// Names of runs, separated by commas, that should stop.
pub const CANCEL: &str = "loci.dev/cancel";

/// The longest request that a run can name; a longer one is named by its digest.
const REQUEST: usize = 256;

/// Reads them. A rollback to what is no number is told in the second part.
pub fn intents(annotations: &BTreeMap<String, String>) -> (Intents, Option<String>) {
    let get = |key: &str| {
        annotations
            .get(key)
            .map(|v| v.trim())
            .filter(|v| !v.is_empty())
    };
    let names = |key: &str| -> BTreeSet<String> {
        let all = get(key).unwrap_or_default().split(',').map(str::trim);
        all.filter(|n| !n.is_empty()).map(str::to_owned).collect()
    };
    let hold = get(ROLLBACK).map(|v| v.parse::<i64>().map_err(|_| v));
    let wrong = match hold {
        Some(Err(v)) => Some(format!(
            "the annotation {ROLLBACK} is \"{v}\": write the number of a release, or remove it"
        )),
        _ => None,
    };
    // Either asks: a run for one must not hide the other's request.
    let refresh = [REFRESH, REQUESTED].into_iter().filter_map(get);
    let mut refresh = refresh.collect::<Vec<_>>().join(" ");
    if refresh.len() > REQUEST {
        refresh = Digest::of(&refresh).to_string();
    }
    let intents = Intents {
        refresh: (!refresh.is_empty()).then_some(refresh),
        hold: hold.and_then(Result::ok),
        approved: names(APPROVE),
        cancelled: names(CANCEL),
        ..Intents::default()
    };
    (intents, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Intents, Option<String>) {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        intents(&pairs.collect())
    }

    #[test]
    fn annotations_say_what_people_ask_for() {
        assert_eq!(read(&[("other", "3")]), (Intents::default(), None));
        let (asked, wrong) = read(&[(ROLLBACK, " 3 "), (APPROVE, "a, b,"), (CANCEL, "c")]);
        assert_eq!((asked.hold, wrong), (Some(3), None));
        assert_eq!(asked.approved, ["a".to_owned(), "b".to_owned()].into());
        assert_eq!(asked.cancelled, ["c".to_owned()].into());
        let (asked, wrong) = read(&[(ROLLBACK, "last")]);
        assert_eq!(asked.hold, None);
        assert!(wrong.unwrap().contains("\"last\""));
    }

    #[test]
    fn a_request_of_either_kind_is_a_new_one() {
        let token = |pairs| read(pairs).0.refresh;
        let ours = token(&[(REFRESH, "1")]);
        let both = token(&[(REFRESH, "1"), (REQUESTED, "1")]);
        assert!(ours.is_some() && both.is_some() && ours != both);
        assert_eq!(token(&[(REFRESH, "")]), None);
        let long = |end: &str| {
            let value = format!("{}{end}", "x".repeat(300));
            read(&[(REFRESH, &value)]).0.refresh
        };
        assert!(long("a").unwrap().len() <= REQUEST && long("a") != long("b"));
    }
}
