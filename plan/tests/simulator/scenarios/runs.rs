//! Runs: what starts them, ends them and holds them.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::run::{RunPhase, RunTrigger};
use loci_crds::values::{Fraction, GoDuration, Percent};
use serde_json::json;

use super::*;
use crate::lookups::run;

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
    let run = newest(&shell);
    assert_eq!(run.status.as_ref().unwrap().attempt, 5);
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
    // What is not worth another attempt gets none.
    (shell.trouble.step, shell.trouble.fatal) = (1, 1);
    change(&mut shell, 0);
    shell.sleep(HOUR + HOUR / 2);
    let status = newest(&shell).status.as_ref().unwrap();
    assert_eq!((status.phase, status.attempt), (RunPhase::Failed, 1));
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
    shell.sleep(HOUR + HOUR / 4);
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
fn a_held_run_gives_way_to_one_that_a_person_makes() {
    let mut shell = serving();
    shell.change("notices", 5);
    shell.sleep(2 * HOUR);
    let held = newest(&shell).metadata.name.clone().unwrap();
    assert_eq!(phase(newest(&shell)), RunPhase::Held);
    let spec =
        json!({"pipelineRef": {"name": "support"}, "kind": "Refresh", "trigger": "Requested"});
    let mut by_hand = MemoryRun::new("by-hand", serde_json::from_value(spec).unwrap());
    by_hand.metadata.creation_timestamp = Some(Time(shell.now));
    shell.world.runs.push(by_hand);
    shell.sleep(HOUR / 4);
    assert_eq!(reason(run(&shell.world, &held).unwrap()), "Superseded");
    let by_hand = run(&shell.world, "by-hand").unwrap();
    assert_eq!(
        (phase(by_hand), reason(by_hand)),
        (RunPhase::Held, "MaxDeletionExceeded")
    );
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
fn where_there_was_nothing_to_read_a_watch_tells_that_there_is() {
    let mut shell = Shell::new(pipeline(json!({"interval": "24h"})), start(), 7);
    shell.watched = true;
    for source in ["handbook", "notices"] {
        shell.outside.change(source, 0);
    }
    shell.sleep(HOUR);
    assert_eq!((reason(newest(&shell)), served(&shell)), ("EmptyCorpus", 0));
    let runs = shell.world.runs.len();
    shell.sleep(HOUR);
    assert_eq!(shell.world.runs.len(), runs, "nothing was told");
    shell.change("handbook", 3);
    perfect(&mut shell, 0);
    shell.sleep(HOUR);
    assert_eq!(served(&shell), 1);
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
    // A run that reads it well is newer than the look that failed.
    shell.outside.sources.get_mut("notices").unwrap().failing = false;
    shell.world.intents.refresh = Some("now".into());
    let looks = shell.checks.looks.len();
    shell.sleep(HOUR / 6);
    is(&shell, "SourcesSynced", "True", "AllRead");
    assert_eq!(shell.checks.looks.len(), looks);
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
    let (status, generation) = (&shell.world.status, shell.world.generation);
    assert_eq!(status.observed_generation, generation);
    let observed = status.conditions.iter().map(|c| c.observed_generation);
    assert!(
        observed.clone().all(|g| g == Some(generation)),
        "{status:?}"
    );
    is(&shell, "BudgetAvailable", "True", "NoBudget");
    shell.edit(|r| r.spec.suspend = false);
    shell.sleep(HOUR / 3);
    assert_eq!(
        (newest(&shell).spec.request.as_deref(), served(&shell)),
        (Some("later"), 2)
    );
    is(&shell, "IndexFresh", "True", "Fresh");
}

#[test]
fn looks_that_are_past_their_deadline_are_skipped_and_the_next_one_comes() {
    let daily = json!({"cron": "0 6 * * *", "startingDeadline": "1h"});
    let mut shell = Shell::new(pipeline(daily), start(), 7);
    perfect(&mut shell, 0);
    shell.sleep(5 * HOUR);
    shell.edit(|r| r.spec.suspend = true);
    change(&mut shell, 0);
    shell.sleep(55 * HOUR);
    shell.edit(|r| r.spec.suspend = false);
    shell.sleep(17 * HOUR);
    assert_eq!((served(&shell), shell.checks.looks.len()), (1, 0));
    let next = shell
        .world
        .status
        .next_refresh_time
        .as_ref()
        .map(|t| t.0.to_string());
    assert_eq!(next.as_deref(), Some("2026-01-04T06:00:00Z"));
    shell.sleep(2 * HOUR);
    assert_eq!((served(&shell), shell.checks.looks.len()), (2, 2));
    let time = shell.world.looks["handbook"].time.to_string();
    assert_eq!(
        time, "2026-01-04T06:00:00Z",
        "on time, not when something else came up"
    );
}

#[test]
fn a_source_that_tells_of_change_and_cannot_be_read_is_tried_once_a_look() {
    let mut shell = serving();
    shell.watched = true;
    shell.outside.sources.get_mut("notices").unwrap().unreadable = true;
    shell.change("notices", 20);
    let looks = shell.checks.looks.len();
    shell.sleep(10 * HOUR);
    let due = (shell.checks.looks.len() - looks) / 2;
    let tried = shell.checks.runs.len() - 1;
    assert!((9..=11).contains(&due), "{due} hours");
    assert!(
        (due..=due + 2).contains(&tried),
        "{tried} runs for {due} looks"
    );
    is(&shell, "SourcesSynced", "False", "SourceFailed");
    assert_eq!(served(&shell), 1);

    shell.outside.sources.get_mut("notices").unwrap().unreadable = false;
    shell.sleep(2 * HOUR);
    is(&shell, "SourcesSynced", "True", "AllRead");
    assert_eq!(served(&shell), 2);
}
