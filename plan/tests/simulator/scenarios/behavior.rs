//! Suites of behaviour: they judge adapters, and nothing else.

use loci_crds::MemoryRelease;
use loci_crds::behavior::PromptContext;
use loci_crds::release::{GateResult, Outcome};

use super::tuning::*;
use super::*;
use crate::lookups::adapter;

/// With a suite that judges these adapters, or all.
fn judged(adapters: &[&str]) -> Shell {
    let mut shell = tuned(json!({"interval": "1h"}));
    let behavior = json!({"data": {"file": "cases.jsonl"}, "adapters": adapters});
    let suite = json!({"name": "protocol", "behavior": behavior});
    let gate = json!({
        "suite": "protocol", "metric": "exactMatch", "minGain": "0.50", "maxRegression": "0.05",
    });
    shell.edit(|r| {
        r.spec.suites.push(serde_json::from_value(suite).unwrap());
        r.spec.gates.push(serde_json::from_value(gate).unwrap());
    });
    shell
}

fn gate(release: &MemoryRelease) -> &GateResult {
    let verdict = release.status.as_ref().unwrap().verdict.as_ref().unwrap();
    let mut gates = verdict.gates.iter();
    gates.find(|g| g.suite == "protocol").unwrap()
}

fn anchor(release: &MemoryRelease) -> Option<&str> {
    release.status.as_ref().unwrap().anchor.as_deref()
}

#[test]
fn an_adapter_is_judged_beside_its_base_and_an_index_is_not() {
    let mut shell = judged(&[]);
    ask(&mut shell, "please");
    let release = serving_now(&shell);
    assert_eq!(release.spec.adapter.as_deref(), Some("escalation"));
    let said = gate(release);
    assert_eq!(said.outcome, Outcome::Passed, "{}", said.message);
    assert_eq!(
        (said.base.as_deref(), &*said.candidate),
        (Some("0.0000"), "1.0000")
    );
    assert_eq!(anchor(release), Some("support-2"));
    // The index that comes next keeps the adapter, and so its anchor.
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    let release = serving_now(&shell);
    assert_eq!(release.spec.number, 3);
    let said = gate(release);
    assert_eq!((said.outcome, said.questions), (Outcome::NotApplicable, 0));
    assert!(said.message.contains("no adapter is new"), "{said:?}");
    assert_eq!(anchor(release), Some("support-3"));
}

#[test]
fn what_an_index_finds_is_not_for_suites_of_behaviour_to_judge() {
    let mut shell = judged(&[]);
    shell.edit(|r| {
        let suite = r.spec.suites.last_mut().unwrap();
        suite.behavior.as_mut().unwrap().context = Some(PromptContext::Retrieved);
    });
    ask(&mut shell, "please");
    let said = gate(serving_now(&shell));
    assert_eq!(said.outcome, Outcome::Passed, "{}", said.message);
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    let said = gate(serving_now(&shell));
    assert_eq!(said.outcome, Outcome::NotApplicable);
    assert!(said.message.contains("what the index finds"), "{said:?}");
}

#[test]
fn an_adapter_that_gains_too_little_is_rejected() {
    let mut shell = judged(&["escalation"]);
    shell.edit(|r| {
        let retrieval = r.spec.gates.first_mut().unwrap();
        retrieval.max_regression = None;
        retrieval.floor = Some(loci_crds::values::Fraction("0.10".into()));
    });
    examples(&mut shell, 70);
    ask(&mut shell, "please");
    assert_eq!(
        phases(&shell),
        [ReleasePhase::Serving, ReleasePhase::Rejected]
    );
    let rejected = &shell.world.releases[1];
    let said = gate(rejected);
    assert_eq!(said.outcome, Outcome::Failed, "{}", said.message);
    assert!(said.message.contains("mean gain 0.3000"), "{said:?}");
}

#[test]
fn the_suite_of_another_adapter_stands_in_nobodys_way() {
    let mut shell = judged(&["tone"]);
    ask(&mut shell, "please");
    let release = serving_now(&shell);
    assert!(adapter(release, "escalation").is_some());
    let said = gate(release);
    assert_eq!(said.outcome, Outcome::NotApplicable, "{}", said.message);
    assert!(said.message.contains("escalation is not among"), "{said:?}");
}
