//! Several components of a release get further at the same time.

use loci_crds::run::{RunKind, RunTrigger};
use loci_plan::PrepareFailure;

use super::tuning::*;
use super::*;
use crate::lookups::{adapter, rollback_target};

/// Held on the first release, an adapter and an index wait: releases 2 and 3.
fn both_wait() -> Shell {
    let mut shell = tuned(json!({"interval": "1h"}));
    shell.world.intents.hold = Some(1);
    ask(&mut shell, "please");
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    let waits = ReleasePhase::Candidate;
    assert_eq!(phases(&shell), [ReleasePhase::Serving, waits, waits]);
    shell
}

fn resume(shell: &mut Shell) {
    shell.world.intents.hold = None;
    shell.checks.resumed();
}

fn runs(shell: &Shell, kind: RunKind) -> usize {
    shell.checks.kinds.iter().filter(|k| k.0 == kind).count()
}

/// The release of this number has the index of one and the adapter of another.
fn is_made_of(shell: &Shell, number: usize, index: usize, tuned: usize) {
    let release = |n: usize| &shell.world.releases[n - 1];
    let release_of = |n: usize| adapter(release(n), "escalation");
    assert_eq!(release(number).spec.index, release(index).spec.index);
    assert_eq!(release_of(number), release_of(tuned));
    assert!(release_of(number).is_some());
}

#[test]
fn what_another_lane_overtook_is_put_upon_it_and_nothing_is_built_again() {
    let mut shell = both_wait();
    let built = (
        runs(&shell, RunKind::Refresh),
        runs(&shell, RunKind::FineTune),
    );
    resume(&mut shell);
    shell.sleep(HOUR);
    assert_eq!(
        shell.checks.kinds.last(),
        Some(&(RunKind::Rebase, RunTrigger::Rebased))
    );
    assert_eq!(runs(&shell, RunKind::Rebase), 1);
    assert_eq!(
        (
            runs(&shell, RunKind::Refresh),
            runs(&shell, RunKind::FineTune)
        ),
        built
    );
    // The one that waited longer was first.
    assert_eq!(
        shell.checks.promotions,
        ["support-1", "support-2", "support-4"]
    );
    is_made_of(&shell, 4, 3, 2);
    let snapshot = |n: usize| {
        let status = shell.world.releases[n].status.as_ref().unwrap();
        status.snapshot.clone()
    };
    assert_eq!(snapshot(3), snapshot(2));
    is(&shell, "IndexFresh", "True", "Fresh");
    is(&shell, "Reconciling", "False", "UpToDate");
}

#[test]
fn an_adapter_that_does_not_load_does_not_hold_the_index() {
    let mut shell = both_wait();
    let failure = PrepareFailure {
        count: 3,
        time: shell.now,
        message: "out of memory".into(),
    };
    let failures = &mut shell.world.serving.failures;
    failures.insert("support-2".to_owned(), failure);
    resume(&mut shell);
    shell.sleep(HOUR);
    assert_eq!(
        shell.checks.promotions,
        ["support-1", "support-3", "support-4"]
    );
    is_made_of(&shell, 4, 3, 2);
    assert_eq!(
        shell.world.releases[3].spec.adapter.as_deref(),
        Some("escalation")
    );
}

#[test]
fn a_rollback_takes_an_adapter_back_which_a_refresh_keeps_and_resuming_returns() {
    let mut shell = tuned(json!({"interval": "1h"}));
    ask(&mut shell, "one");
    shell.change("runbooks", 20);
    ask(&mut shell, "two");
    assert_eq!(served(&shell), 3);
    shell.world.intents.hold = rollback_target(&shell.world);
    shell.sleep(HOUR / 2);
    assert_eq!(
        (served(&shell), phases(&shell)[2]),
        (2, ReleasePhase::Withdrawn)
    );
    // Trained again it is the same, and does not slip back in.
    ask(&mut shell, "three");
    assert_eq!(reason(newest_tuning(&shell)), "ContentWithdrawn");
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(
        (served(&shell), phases(&shell)[3]),
        (2, ReleasePhase::Candidate)
    );
    is_made_of(&shell, 4, 4, 2);
    resume(&mut shell);
    shell.sleep(2 * HOUR);
    let serving = served(&shell) as usize;
    assert!(serving > 4, "{serving}");
    is_made_of(&shell, serving, 4, 3);
    assert!(
        shell
            .checks
            .kinds
            .contains(&(RunKind::Rebase, RunTrigger::Requested))
    );
}

#[test]
fn an_adapter_that_is_not_declared_any_more_is_taken_out_of_what_serves() {
    let mut shell = tuned(json!({"interval": "1h"}));
    ask(&mut shell, "please");
    let index = serving_now(&shell).spec.index.clone();
    assert_eq!(serving_now(&shell).spec.adapters.len(), 1);
    shell.edit(|r| _ = r.spec.adapters.remove(0));
    shell.sleep(Duration::from_secs(1));
    assert_eq!(condition(&shell, "Reconciling").0, "True");
    shell.sleep(HOUR / 2);
    is(&shell, "Reconciling", "False", "UpToDate");
    assert_eq!(
        shell.checks.kinds.last(),
        Some(&(RunKind::Rebase, RunTrigger::SpecChanged))
    );
    let release = serving_now(&shell);
    assert_eq!((release.spec.number, &release.spec.index), (3, &index));
    assert!(release.spec.adapters.is_empty());
    // What is live for an adapter ends with it.
    let mut shell = tuned(json!({"interval": "1h"}));
    shell.training = None;
    tune(&mut shell, "please");
    shell.sleep(HOUR / 2);
    shell.edit(|r| _ = r.spec.adapters.remove(0));
    shell.sleep(HOUR / 2);
    assert_eq!(reason(newest_tuning(&shell)), "NoAdapter");
    assert!(shell.world.in_flight.is_empty());
}

#[test]
fn a_crash_after_any_action_loses_no_component() {
    let story = |crash_after| {
        let mut shell = Shell::new(crate::adapted(json!({"interval": "1h"})), start(), 11);
        shell.crash_after = crash_after;
        for adapter in &mut shell.resource.spec.adapters {
            (adapter.schedule, adapter.trigger) = (None, None);
        }
        shell.edit(|_| {});
        perfect(&mut shell, 0);
        examples(&mut shell, 0);
        shell.sleep(2 * HOUR);
        ask(&mut shell, "one");
        // Both at once.
        shell.change("runbooks", 21);
        change(&mut shell, 0);
        ask(&mut shell, "two");
        shell.world.intents.hold = Some(1);
        change(&mut shell, 0);
        shell.change("runbooks", 22);
        ask(&mut shell, "three");
        shell.world.intents.hold = None;
        shell.checks.resumed();
        shell.sleep(4 * HOUR);
        edit(&mut shell, |a| a.lora.rank = Some(16));
        ask(&mut shell, "four");
        let actions = shell.actions;
        shell.sleep(3 * HOUR);
        (shell, actions)
    };
    let end = |s: &Shell| {
        let serving = serving_now(s);
        let adapter = adapter(serving, "escalation").map(str::to_owned);
        (serving.spec.index.content_id.clone(), adapter)
    };
    let (plain, actions) = story(None);
    assert!(actions > 80, "{actions} actions");
    assert_eq!(serving_now(&plain).spec.adapters[0].rank, 16);
    for after in 1..=actions {
        seeded(after, "a crash after this action", || {
            assert_eq!(end(&story(Some(after)).0), end(&plain))
        });
    }
}
