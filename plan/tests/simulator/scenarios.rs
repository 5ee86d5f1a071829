//! Single behaviours, told step by step.

use std::collections::BTreeSet;
use std::time::Duration;

use loci_crds::MemoryRun;
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunPhase, RunTrigger};
use loci_crds::values::{Fraction, GoDuration, Percent};
use loci_plan::{FieldError, refused, rollback_target};
use serde_json::json;

use crate::checks::{named, phase, release_phase};
use crate::shell::Shell;
use crate::{pipeline, seeded, start};

const HOUR: Duration = Duration::from_secs(3600);

/// A pipeline that looks each hour and whose first release serves; nothing loses a question.
fn serving() -> Shell {
    let mut shell = Shell::new(pipeline(json!({"interval": "1h"})), start(), 7);
    perfect(&mut shell, 0);
    shell.sleep(HOUR / 2);
    assert_eq!(served(&shell), 1);
    shell
}

/// The present version of the handbook, and all that follow, lose `lost` questions.
fn perfect(shell: &mut Shell, lost: u64) {
    let from = shell.outside.sources["handbook"].version;
    shell
        .outside
        .quality
        .extend((from..from + 20).map(|v| (("handbook".to_owned(), v), lost)));
}

/// Changes the handbook so that a revision with it loses `lost` questions.
fn change(shell: &mut Shell, lost: u64) {
    let documents = 20 + shell.outside.sources["handbook"].version % 2;
    shell.change("handbook", documents);
    perfect(shell, lost);
}

fn served(shell: &Shell) -> i64 {
    named(&shell.world, shell.world.serving.current.as_deref()).map_or(0, |r| r.spec.number)
}

fn newest(shell: &Shell) -> &MemoryRun {
    shell
        .world
        .runs
        .iter()
        .max_by_key(|r| r.metadata.name.clone())
        .unwrap()
}

fn reason(run: &MemoryRun) -> &str {
    run.status
        .as_ref()
        .unwrap()
        .reason
        .as_deref()
        .unwrap_or_default()
}

fn condition(shell: &Shell, kind: &str) -> (String, String) {
    let c = shell
        .world
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == kind)
        .unwrap();
    (c.status.clone(), c.reason.clone())
}

fn is(shell: &Shell, kind: &str, status: &str, reason: &str) {
    assert_eq!(
        condition(shell, kind),
        (status.to_owned(), reason.to_owned()),
        "{kind}"
    );
}

fn phases(shell: &Shell) -> Vec<ReleasePhase> {
    shell.world.releases.iter().map(release_phase).collect()
}

#[test]
fn a_crash_after_any_action_changes_nothing_in_the_end() {
    let story = |crash_after| {
        let mut shell = Shell::new(pipeline(json!({"interval": "1h"})), start(), 11);
        shell.crash_after = crash_after;
        perfect(&mut shell, 0);
        shell.sleep(2 * HOUR);
        change(&mut shell, 1);
        shell.sleep(2 * HOUR);
        change(&mut shell, 30);
        shell.sleep(2 * HOUR);
        shell.world.intents.hold = Some(1);
        shell.sleep(2 * HOUR);
        change(&mut shell, 0);
        shell.sleep(2 * HOUR);
        shell.world.intents.hold = None;
        shell.checks.resumed();
        shell.sleep(2 * HOUR);
        shell.edit(|r| r.spec.index.chunking.max_tokens = Some(64));
        shell.sleep(2 * HOUR);
        shell.change("notices", 2);
        shell.sleep(2 * HOUR);
        shell.world.intents.approved =
            BTreeSet::from([newest(&shell).metadata.name.clone().unwrap()]);
        shell.sleep(4 * HOUR);
        let actions = shell.actions;
        shell.sleep(HOUR / 2);
        (shell, actions)
    };
    let (plain, actions) = story(None);
    assert_eq!(phase(newest(&plain)), RunPhase::Succeeded);
    assert!(
        plain.checks.promotions.len() >= 5 && plain.actions > 80,
        "{} actions",
        plain.actions
    );
    let end = |s: &Shell| {
        let serving = named(&s.world, s.world.serving.current.as_deref()).unwrap();
        (
            serving.spec.index.clone(),
            s.checks.promotions.clone(),
            phases(s),
        )
    };
    for after in 1..=actions {
        seeded(after, "a crash after this action", || {
            assert_eq!(end(&story(Some(after)).0), end(&plain))
        });
    }
}

#[test]
fn what_changes_during_a_run_makes_another() {
    let mut shell = serving();
    shell.watched = true;
    change(&mut shell, 0);
    // The first run has read its sources when the next change comes.
    while newest(&shell)
        .status
        .as_ref()
        .is_none_or(|s| s.steps.len() < 2)
        || phase(newest(&shell)) != RunPhase::Running
    {
        shell.sleep(Duration::from_secs(1));
    }
    let first = newest(&shell).metadata.name.clone();
    change(&mut shell, 0);
    shell.sleep(HOUR / 3);
    assert_eq!((shell.world.runs.len(), served(&shell)), (3, 3));
    assert_ne!(newest(&shell).metadata.name, first);
    assert_eq!(newest(&shell).spec.trigger, RunTrigger::SourceChanged);
}

#[test]
fn a_step_that_fails_is_tried_again_and_then_the_run_fails() {
    let mut shell = serving();
    shell.trouble.step = 1;
    change(&mut shell, 0);
    shell.sleep(HOUR + HOUR / 2);
    // `Trouble` is not retryable once in four: either way the run has failed and said so.
    let run = newest(&shell);
    assert_eq!(
        (phase(run), reason(run), served(&shell)),
        (RunPhase::Failed, "Trouble", 1)
    );
    assert_eq!(run.spec.trigger, RunTrigger::Schedule);
    is(&shell, "Ready", "True", "Serving");
    is(&shell, "Stalled", "False", "Progressing");
    let failed = shell.world.runs.len();
    shell.trouble.step = 0;
    shell.sleep(HOUR);
    assert_eq!((shell.world.runs.len(), served(&shell)), (failed + 1, 2));
}

#[test]
fn a_shrunken_listing_waits_for_approval_or_for_better_days() {
    let mut shell = serving();
    shell.change("notices", 5);
    shell.sleep(2 * HOUR);
    assert_eq!(
        (phase(newest(&shell)), reason(newest(&shell))),
        (RunPhase::Held, "MaxDeletionExceeded")
    );
    is(&shell, "SourcesSynced", "False", "MaxDeletionExceeded");
    // The source recovers: the held run gives way, and what serves was right all along.
    shell.change("notices", 20);
    shell.sleep(2 * HOUR);
    let reasons: Vec<_> = shell.world.runs.iter().map(reason).collect();
    assert_eq!((reasons[1], served(&shell)), ("Superseded", 2));
    shell.change("notices", 5);
    shell.sleep(2 * HOUR);
    let held = newest(&shell).metadata.name.clone().unwrap();
    assert_eq!(phase(newest(&shell)), RunPhase::Held);
    shell.world.intents.approved.insert(held);
    shell.sleep(HOUR);
    assert_eq!(
        (phase(newest(&shell)), served(&shell)),
        (RunPhase::Succeeded, 3)
    );
    assert!(newest(&shell).status.as_ref().unwrap().approved);
    // A limit that is raised lets a held run go on, too.
    shell.change("notices", 1);
    shell.sleep(2 * HOUR);
    shell.edit(|r| r.spec.index.max_deletion = Some(Percent("90%".into())));
    shell.sleep(HOUR);
    assert_eq!(served(&shell), 4);
}

#[test]
fn an_empty_corpus_is_never_served() {
    let mut shell = serving();
    shell.edit(|r| r.spec.index.max_deletion = Some(Percent("100%".into())));
    shell.change("notices", 0);
    shell.change("handbook", 0);
    shell.sleep(2 * HOUR);
    assert_eq!((reason(newest(&shell)), served(&shell)), ("EmptyCorpus", 1));
}

#[test]
fn a_source_that_fails_is_reported_and_keeps_its_content() {
    let mut shell = serving();
    shell.outside.sources.get_mut("notices").unwrap().failing = true;
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    is(&shell, "SourcesSynced", "False", "SourceFailed");
    let notices = shell
        .world
        .status
        .sources
        .iter()
        .find(|s| s.name == "notices")
        .unwrap();
    assert_eq!(
        (served(&shell), notices.documents, notices.error.as_deref()),
        (2, 20, Some("connection refused"))
    );
    let release = named(&shell.world, Some("support-2")).unwrap();
    assert!(
        release.spec.index.documents > 30,
        "its last good content is served"
    );
    shell.outside.sources.get_mut("notices").unwrap().failing = false;
    shell.sleep(2 * HOUR);
    is(&shell, "SourcesSynced", "True", "AllRead");
}

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
    assert!(shell.world.serving.failures["support-2"].count > 3);
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
}

#[test]
fn a_spec_that_changes_during_a_run_ends_it() {
    let mut shell = serving();
    shell.edit(|r| r.spec.index.chunking.max_tokens = Some(64));
    shell.sleep(Duration::from_secs(1));
    is(&shell, "Reconciling", "True", "Running");
    shell.edit(|r| r.spec.index.chunking.max_tokens = Some(96));
    shell.sleep(HOUR / 3);
    assert_eq!(
        (
            reason(&shell.world.runs[1]),
            shell.world.runs.len(),
            served(&shell)
        ),
        ("Superseded", 3, 2)
    );
    is(&shell, "Reconciling", "False", "UpToDate");
    // What the index does not depend on makes no run.
    shell.edit(|r| r.spec.index.freshness = Some(GoDuration("1h".into())));
    shell.edit(|r| r.spec.gates[0].floor = Some(Fraction("0.40".into())));
    shell.sleep(HOUR / 3);
    assert_eq!(shell.world.runs.len(), 3);
}

#[test]
fn a_person_may_cancel_and_suspend() {
    let mut shell = serving();
    change(&mut shell, 0);
    shell.world.intents.refresh = Some("now".into());
    shell.sleep(Duration::from_secs(1));
    let name = newest(&shell).metadata.name.clone().unwrap();
    shell.world.intents.cancelled.insert(name);
    shell.sleep(Duration::from_secs(1));
    assert_eq!(
        (phase(newest(&shell)), shell.world.in_flight.len()),
        (RunPhase::Cancelled, 0)
    );
    shell.edit(|r| r.spec.suspend = true);
    shell.world.intents.refresh = Some("later".into());
    shell.edit(|r| r.spec.index.freshness = Some(GoDuration("3h".into())));
    shell.sleep(6 * HOUR);
    assert_eq!((shell.world.runs.len(), served(&shell)), (2, 1));
    is(&shell, "IndexFresh", "False", "Suspended");
    shell.edit(|r| r.spec.suspend = false);
    shell.sleep(HOUR / 3);
    assert_eq!(
        (newest(&shell).spec.request.as_deref(), served(&shell)),
        (Some("later"), 2)
    );
    is(&shell, "IndexFresh", "True", "Fresh");
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
        [6, 7, 8, 9, 12, 13, 14, 15],
        "three rejected and the newest content"
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
    assert_eq!(status.conditions.len(), 7);
}
