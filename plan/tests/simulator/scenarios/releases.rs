//! Releases: verdicts, promotion, rollback, history.

use loci_crds::release::Outcome;
use loci_crds::run::{RunTrigger, StepName};
use loci_crds::values::Fraction;
use loci_plan::{FieldError, refused};

use super::*;
use crate::lookups::rollback_target;

#[test]
fn the_same_candidate_gets_the_same_verdict() {
    let mut shell = serving();
    change(&mut shell, 30);
    shell.sleep(2 * HOUR);
    assert_eq!(
        phases(&shell),
        [ReleasePhase::Serving, ReleasePhase::Rejected]
    );
    is(&shell, "GatePassed", "False", "Failed");
    is(&shell, "Ready", "True", "Serving");
    shell.world.intents.refresh = Some("again".into());
    shell.sleep(HOUR);
    assert_eq!(
        (shell.world.releases.len(), reason(newest(&shell))),
        (2, "AlreadyJudged")
    );
    assert_eq!(newest(&shell).spec.request.as_deref(), Some("again"));
    // Other gates are another question.
    let runs = shell.world.runs.len();
    shell.checks.may_lose = Some(30);
    shell.edit(|r| r.spec.gates[0].max_regression = Some(Fraction("0.60".into())));
    shell.sleep(HOUR);
    assert_eq!((shell.world.runs.len(), served(&shell)), (runs + 1, 3));
    assert_eq!(newest(&shell).spec.trigger, RunTrigger::SpecChanged);
    // And so are other questions.
    shell
        .world
        .suite_data
        .insert("faq".into(), loci_digest::Digest::of("more questions"));
    shell.sleep(HOUR);
    assert_eq!(
        shell.world.runs.len(),
        runs + 1,
        "what serves is not judged again"
    );
}

#[test]
fn small_losses_do_not_add_up() {
    let mut shell = serving();
    change(&mut shell, 1);
    shell.sleep(2 * HOUR);
    assert_eq!(
        (served(&shell), shell.world.status.anchor_release.as_deref()),
        (2, Some("support-1"))
    );
    change(&mut shell, 2);
    shell.sleep(2 * HOUR);
    assert_eq!(
        phases(&shell)[2],
        ReleasePhase::Inconclusive,
        "one more than what serves, two more than the anchor"
    );
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(
        (served(&shell), shell.world.status.anchor_release.as_deref()),
        (4, Some("support-4"))
    );
}

#[test]
fn a_rollback_holds_until_resumed() {
    let mut shell = serving();
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    shell.world.intents.hold = rollback_target(&shell.world);
    shell.sleep(HOUR);
    assert_eq!(
        (served(&shell), phases(&shell)),
        (1, vec![ReleasePhase::Serving, ReleasePhase::Withdrawn])
    );
    is(&shell, "Serving", "True", "Held");
    assert_eq!(shell.world.status.held_on.as_deref(), Some("support-1"));
    shell.world.intents.refresh = Some("please".into());
    shell.sleep(HOUR);
    assert_eq!(
        (served(&shell), reason(newest(&shell))),
        (1, "ContentWithdrawn")
    );
    // Newer content is judged and waits.
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(
        (served(&shell), phases(&shell)[2]),
        (1, ReleasePhase::Candidate)
    );
    shell.world.intents.hold = None;
    shell.checks.resumed();
    shell.sleep(HOUR);
    assert_eq!(
        phases(&shell),
        [
            ReleasePhase::Retired,
            ReleasePhase::Retired,
            ReleasePhase::Serving
        ]
    );
}

#[test]
fn what_was_rolled_back_returns_as_a_new_release_when_resumed() {
    let mut shell = serving();
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    shell.edit(|r| r.spec.rollout.pin = Some(1));
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), 1);
    shell.edit(|r| r.spec.rollout.pin = None);
    shell.checks.resumed();
    shell.sleep(HOUR);
    assert_eq!(
        (served(&shell), newest(&shell).spec.trigger),
        (3, RunTrigger::Requested)
    );
    // A release that is not kept, and one that was rejected, cannot be served.
    change(&mut shell, 30);
    shell.sleep(2 * HOUR);
    for pin in [4, 9] {
        shell.edit(|r| r.spec.rollout.pin = Some(pin));
        shell.sleep(HOUR);
        is(&shell, "Stalled", "True", "HoldNotPossible");
        assert_eq!(served(&shell), 3);
    }
}

#[test]
fn a_candidate_that_does_not_load_waits() {
    let mut shell = serving();
    shell.trouble.prepare = 1;
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(
        (served(&shell), phases(&shell)[1]),
        (1, ReleasePhase::Candidate)
    );
    let tries = shell.world.serving.failures["support-2"].count;
    assert!((4..40).contains(&tries), "{tries} tries in two hours");
    // A person sees why, and what serves is as ready as before.
    let message = shell.world.releases[1].status.as_ref().unwrap();
    let message = message.message.as_deref().unwrap();
    assert!(message.starts_with("support-2 is held"), "{message}");
    assert!(message.ends_with("out of memory"), "{message}");
    is(&shell, "Serving", "True", "CandidateHeld");
    is(&shell, "Ready", "True", "Serving");
    is(&shell, "Stalled", "False", "Progressing");
    // A newer one overtakes it.
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(
        phases(&shell)[1..],
        [ReleasePhase::Superseded, ReleasePhase::Candidate]
    );
    shell.trouble.prepare = 0;
    shell.sleep(HOUR);
    assert_eq!(served(&shell), 3);
    is(&shell, "Serving", "True", "Serving");
}

#[test]
fn what_the_generation_asked_for_is_stalled_when_it_does_not_load() {
    let mut shell = Shell::new(pipeline(json!({"interval": "1h"})), start(), 7);
    perfect(&mut shell, 0);
    shell.trouble.prepare = 1;
    shell.sleep(HOUR);
    is(&shell, "Stalled", "True", "LoadFailed");
    is(&shell, "Reconciling", "False", "UpToDate");
    is(&shell, "Ready", "False", "NoRelease");
    shell.trouble.prepare = 0;
    shell.sleep(HOUR);
    is(&shell, "Stalled", "False", "Progressing");
    is(&shell, "Ready", "True", "Serving");
}

#[test]
fn history_keeps_what_rollback_can_reach() {
    let mut shell = serving();
    for _ in 0..8 {
        change(&mut shell, 0);
        shell.sleep(2 * HOUR);
    }
    // Within minAge (48h) nothing goes, though the limit is three.
    assert_eq!((shell.world.releases.len(), served(&shell)), (9, 9));
    shell.sleep(60 * HOUR);
    let numbers: Vec<_> = shell.world.releases.iter().map(|r| r.spec.number).collect();
    assert_eq!(numbers, [6, 7, 8, 9]);
    assert_eq!(shell.world.runs.len(), 4);
    // Rejected ones are counted apart.
    for _ in 0..6 {
        change(&mut shell, 30);
        shell.sleep(2 * HOUR);
    }
    let numbers: Vec<_> = shell.world.releases.iter().map(|r| r.spec.number).collect();
    assert_eq!(
        numbers,
        [6, 7, 8, 9, 13, 14, 15],
        "three rejected ones beside those that served"
    );
}

#[test]
fn a_rollback_during_a_run_has_its_candidate_judged_against_what_serves_then() {
    let mut shell = serving();
    change(&mut shell, 1);
    shell.sleep(2 * HOUR);
    change(&mut shell, 2);
    let evaluating = |s: &Shell| {
        s.world
            .in_flight
            .iter()
            .any(|k| k.step == StepName::Evaluate)
    };
    while !evaluating(&shell) {
        shell.sleep(Duration::from_millis(100));
    }
    shell.world.intents.hold = Some(1);
    shell.sleep(HOUR / 2);
    let release = shell.world.releases.last().unwrap();
    let verdict = release.status.as_ref().unwrap().verdict.as_ref().unwrap();
    assert_eq!(
        (served(&shell), verdict.baseline.as_deref()),
        (1, Some("support-1"))
    );
    assert_eq!(verdict.gates[0].serving.as_deref(), Some("1.0000"));
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

#[test]
fn the_anchor_is_kept_as_long_as_it_is_one() {
    let mut shell = serving();
    for _ in 0..6 {
        change(&mut shell, 1);
        shell.sleep(2 * HOUR);
    }
    shell.sleep(60 * HOUR);
    let numbers: Vec<_> = shell.world.releases.iter().map(|r| r.spec.number).collect();
    assert_eq!(numbers, [1, 4, 5, 6, 7]);
    assert_eq!(
        shell.world.status.anchor_release.as_deref(),
        Some("support-1")
    );
}

#[test]
fn a_refused_spec_says_why_and_leaves_what_serves() {
    let mut shell = serving();
    shell.resource.status = Some(shell.world.status.clone());
    shell.resource.metadata.generation = Some(2);
    let error = FieldError {
        field: "spec.index.refresh.cron".into(),
        reason: "never comes".into(),
    };
    let status = refused(shell.now, &shell.resource, &[error]);
    assert_eq!(
        (
            status.observed_generation,
            status.serving_release.as_deref()
        ),
        (2, Some("support-1"))
    );
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(
        (
            ready.status.as_str(),
            ready.reason.as_str(),
            ready.message.as_str()
        ),
        (
            "False",
            "InvalidSpec",
            "spec.index.refresh.cron: never comes"
        )
    );
    assert_eq!(status.conditions.len(), 8);
}
