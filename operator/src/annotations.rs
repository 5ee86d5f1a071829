//! What people ask for, as annotations of a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use loci_digest::Digest;
use loci_plan::Intents;

/// Run now: each new value asks for one run.
pub const REFRESH: &str = "loci.dev/refresh";
/// The same, by Flux' convention (`flux reconcile` and its kin set it).
const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";
/// Train adapters now: `<adapter>=<token>`, separated by commas. Each new token asks for one run.
pub const FINETUNE: &str = "loci.dev/finetune";
/// Serve the release of this number and promote nothing, until the annotation is removed. Written by a field manager whose
/// name does not begin with `kubectl`: Flux takes those over, and drops what is not in Git.
pub const ROLLBACK: &str = "loci.dev/rollback";
/// Names of held runs, separated by commas, that may delete what they would delete.
pub const APPROVE: &str = "loci.dev/approve";
/// Names of runs, separated by commas, that should stop.
pub const CANCEL: &str = "loci.dev/cancel";

/// Adapters that start no runs, separated by commas.
pub const SUSPEND: &str = "loci.dev/suspend";

/// The longest request that a run can name; a longer one is named by its digest.
const REQUEST: usize = 256;

/// Reads them. A rollback to what is no number, and a request for a training that names no adapter, are told in the second
/// part.
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
    let no_number = hold.as_ref().and_then(|h| h.as_ref().err()).map(|v| {
        format!("the annotation {ROLLBACK} is \"{v}\": write the number of a release, or remove it")
    });
    let (tune, nameless) = tune(get(FINETUNE).unwrap_or_default());
    let nameless = nameless.map(|v| {
        format!("the annotation {FINETUNE} has \"{v}\": write <adapter>=<token>, or remove it")
    });
    let wrong: Vec<String> = no_number.into_iter().chain(nameless).collect();
    let wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
    // Either asks: a run for one must not hide the other's request.
    let refresh = [REFRESH, REQUESTED].into_iter().filter_map(get);
    let refresh = refresh.collect::<Vec<_>>().join(" ");
    let intents = Intents {
        refresh: (!refresh.is_empty()).then(|| request(&refresh)),
        tune,
        hold: hold.and_then(Result::ok),
        approved: names(APPROVE),
        cancelled: names(CANCEL),
        suspended: names(SUSPEND),
    };
    (intents, wrong)
}

/// The requests for trainings by adapter, and the first that names none.
fn tune(all: &str) -> (BTreeMap<String, String>, Option<&str>) {
    let (mut asked, mut wrong) = (BTreeMap::new(), None);
    for one in all.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        match one.split_once('=').map(|(a, t)| (a.trim(), t.trim())) {
            Some((adapter, token)) if !adapter.is_empty() && !token.is_empty() => {
                asked.insert(adapter.to_owned(), request(token));
            }
            _ => wrong = wrong.or(Some(one)),
        }
    }
    (asked, wrong)
}

/// As a run can name it.
fn request(token: &str) -> String {
    match token.len() > REQUEST {
        true => Digest::of(token).to_string(),
        false => token.to_owned(),
    }
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
    fn trainings_are_asked_for_by_adapter() {
        let (asked, wrong) = read(&[(FINETUNE, "escalation=1, tone = 2026-01-01 ,")]);
        let tune = [("escalation", "1"), ("tone", "2026-01-01")];
        let tune = tune.map(|(adapter, token)| (adapter.to_owned(), token.to_owned()));
        assert_eq!((asked.tune, wrong), (BTreeMap::from(tune), None));
        for bad in ["escalation", "=1", "escalation="] {
            let (asked, wrong) = read(&[(FINETUNE, &format!("tone=1,{bad}")), (ROLLBACK, "x")]);
            let wrong = wrong.unwrap();
            assert_eq!(asked.tune.len(), 1);
            assert!(wrong.contains(&format!("\"{bad}\"")), "{wrong}");
            assert!(wrong.contains("\"x\""), "{wrong}");
        }
    }

    #[test]
    fn adapters_are_suspended_by_their_names() {
        let (asked, wrong) = read(&[(SUSPEND, "tone, escalation,")]);
        let names = ["escalation", "tone"].map(str::to_owned);
        assert_eq!((asked.suspended, wrong), (names.into(), None));
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
