//! Adapters: what has them trained, and what becomes of that.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use jiff::tz::TimeZone;
use loci_crds::adapter::{
    AdapterStatus, ConcurrencyPolicy, TrainingSchedule, TrainingTrigger, TrainingWindow,
};
use loci_crds::run::{RunKind, RunPhase, RunTrigger, StepName};
use loci_crds::values::{Fraction, GoDuration};

use super::tuning::*;
use super::*;
use crate::adapted;
use crate::lookups::{adapter, newest_of, tip};

fn told(shell: &Shell) -> &AdapterStatus {
    let mut all = shell.world.status.adapters.iter();
    all.find(|a| a.name == "escalation").unwrap()
}

fn trainings(shell: &Shell) -> usize {
    let kinds = shell.checks.kinds.iter();
    kinds.filter(|k| k.0 == RunKind::FineTune).count()
}

/// At these times, without jitter.
fn schedule(cron: &str, zone: &str) -> Option<TrainingSchedule> {
    let value = json!({"cron": cron, "timeZone": zone});
    Some(serde_json::from_value(value).unwrap())
}

#[test]
fn who_asks_gets_an_adapter_released_with_the_index_that_serves() {
    let mut shell = tuned(json!({"interval": "1h"}));
    assert_eq!(told(&shell).adapter, None);
    let index = serving_now(&shell).spec.index.clone();
    ask(&mut shell, "please");
    let run = newest_tuning(&shell);
    let status = run.status.as_ref().unwrap();
    let steps: Vec<_> = status.steps.iter().map(|s| s.name).collect();
    assert_eq!(steps, StepName::of(RunKind::FineTune));
    assert_eq!(
        (run.spec.trigger, status.phase),
        (RunTrigger::Requested, RunPhase::Succeeded)
    );
    let dataset = status.dataset.as_ref().unwrap();
    assert_eq!((dataset.examples, dataset.new_examples), (20, 20));
    let name = run.metadata.name.clone().unwrap();
    assert!(name.starts_with("support-escalation-2026"), "{name}");
    let release = serving_now(&shell);
    assert_eq!((release.spec.number, &release.spec.index), (2, &index));
    assert_eq!(release.spec.adapter.as_deref(), Some("escalation"));
    let serves = adapter(release, "escalation").map(str::to_owned);
    let told = told(&shell);
    assert_eq!((&told.adapter, &told.last_run), (&serves, &Some(name)));
    // A refresh keeps it.
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    let release = serving_now(&shell);
    assert_ne!(release.spec.index, index);
    assert_eq!(
        (release.spec.number, release.spec.adapter.as_deref()),
        (3, None)
    );
    assert_eq!(adapter(release, "escalation"), serves.as_deref());
    // Of the same examples comes the same adapter.
    ask(&mut shell, "again");
    assert_eq!(
        (reason(newest_tuning(&shell)), served(&shell)),
        ("Unchanged", 3)
    );
    is(&shell, "GatePassed", "True", "Passed");
}

#[test]
fn a_person_may_suspend_an_adapter_whose_spec_says_nothing_of_it() {
    let mut shell = tuned(json!({"interval": "1h"}));
    let suspended = &mut shell.world.intents.suspended;
    suspended.insert("escalation".to_owned());
    ask(&mut shell, "please");
    assert_eq!((trainings(&shell), served(&shell)), (0, 1));
    assert_eq!(told(&shell).message.as_deref(), Some("suspended"));
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!((trainings(&shell), served(&shell)), (0, 2));
    shell.world.intents.suspended.clear();
    shell.sleep(3 * HOUR);
    assert_eq!((trainings(&shell), served(&shell)), (1, 3));
}

#[test]
fn an_adapter_that_loses_too_much_is_rejected_and_not_judged_again_by_the_same_gates() {
    let mut shell = tuned(json!({"interval": "1h"}));
    examples(&mut shell, 30);
    ask(&mut shell, "please");
    assert_eq!(
        phases(&shell),
        [ReleasePhase::Serving, ReleasePhase::Rejected]
    );
    is(&shell, "GatePassed", "False", "Failed");
    is(&shell, "Ready", "True", "Serving");
    let message = told(&shell).message.clone().unwrap();
    assert!(message.contains("support-2 failed its gates"), "{message}");
    // The index gets further, which is no reason to ask anew.
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!((served(&shell), shell.world.releases.len()), (3, 3));
    ask(&mut shell, "again");
    assert_eq!(reason(newest_tuning(&shell)), "AlreadyJudged");
    // Other gates are: nothing is trained for that.
    let trained = trainings(&shell);
    shell.checks.may_lose = Some(30);
    shell.edit(|r| r.spec.gates[0].max_regression = Some(Fraction("0.60".into())));
    shell.sleep(HOUR / 2);
    assert_eq!(
        shell.checks.kinds.last(),
        Some(&(RunKind::Rebase, RunTrigger::SpecChanged))
    );
    let release = serving_now(&shell);
    assert_eq!(release.spec.number, 4);
    assert!(adapter(release, "escalation").is_some());
    assert_eq!(trainings(&shell), trained);
}

#[test]
fn too_few_new_examples_end_a_run_without_a_training() {
    let mut shell = tuned(json!({"interval": "1h"}));
    ask(&mut shell, "please");
    edit(&mut shell, |a| {
        a.min_new_examples = Some(25);
        a.trigger = Some(TrainingTrigger { new_examples: 10 });
    });
    shell.change("runbooks", 20);
    shell.sleep(3 * HOUR);
    let run = newest_tuning(&shell);
    let status = run.status.as_ref().unwrap();
    assert_eq!(
        (run.spec.trigger, status.phase, reason(run)),
        (
            RunTrigger::NewExamples,
            RunPhase::Succeeded,
            "NotEnoughSignal"
        )
    );
    assert_eq!((status.release.as_deref(), status.steps.len()), (None, 2));
    assert_eq!((served(&shell), told(&shell).new_examples), (2, Some(20)));
    // What serves stays what the lane came to, and nothing runs until there is something new.
    let runs = shell.checks.kinds.len();
    shell.sleep(24 * HOUR);
    assert_eq!((shell.checks.kinds.len(), served(&shell)), (runs, 2));
    shell.change("runbooks", 25);
    shell.sleep(4 * HOUR);
    assert_eq!(
        (reason(newest_tuning(&shell)), served(&shell)),
        ("Built", 3)
    );
}

#[test]
fn other_settings_train_anew_though_no_example_is_new() {
    let mut shell = tuned(json!({"interval": "1h"}));
    ask(&mut shell, "please");
    let before = adapter(serving_now(&shell), "escalation").map(str::to_owned);
    edit(&mut shell, |a| a.schedule = schedule("0 3 * * 0", "UTC"));
    shell.sleep(8 * 24 * HOUR);
    let run = newest_tuning(&shell);
    assert_eq!(
        (run.spec.trigger, reason(run)),
        (RunTrigger::Schedule, "NotEnoughSignal")
    );
    edit(&mut shell, |a| a.lora.rank = Some(16));
    shell.sleep(HOUR);
    assert_eq!(
        reason(newest_tuning(&shell)),
        "NotEnoughSignal",
        "not at once"
    );
    shell.sleep(7 * 24 * HOUR);
    assert_eq!(reason(newest_tuning(&shell)), "Built");
    let after = adapter(serving_now(&shell), "escalation").map(str::to_owned);
    assert!(after.is_some() && after != before);
    // What is at work when they change begins anew.
    shell.change("runbooks", 21);
    examples(&mut shell, 0);
    shell.training = Some(5 * 3600);
    tune(&mut shell, "now");
    shell.sleep(HOUR / 6);
    edit(&mut shell, |a| a.lora.rank = Some(32));
    shell.sleep(8 * HOUR);
    let superseded = shell
        .world
        .runs
        .iter()
        .filter(|r| reason(r) == "Superseded");
    assert_eq!(superseded.count(), 1);
    assert_eq!(serving_now(&shell).spec.adapters[0].rank, 32);
}

/// One training each local week, on days with a gap and a doubled hour too, and none when a schedule is declared or moved.
#[test]
fn a_year_has_one_training_for_each_week() {
    for (cron, zone) in [
        ("30 2 * * 0", "Europe/Berlin"),
        ("30 1 * * 0", "America/New_York"),
    ] {
        let mut shell = tuned(json!({"interval": "24h"}));
        edit(&mut shell, |a| a.schedule = schedule(cron, zone));
        shell.sleep(HOUR);
        assert!(shell.checks.trainings.is_empty(), "not when it is declared");
        let tz = TimeZone::get(zone).unwrap();
        let end = start().to_zoned(tz.clone()).checked_add(1.year());
        shell.run_until(end.unwrap().timestamp());
        let (mut days, mut times) = (BTreeMap::new(), BTreeSet::new());
        for (_, due) in &shell.checks.trainings {
            let due = due.to_zoned(tz.clone());
            *days.entry(due.date()).or_insert(0) += 1;
            times.insert(due.time().to_string());
        }
        assert_eq!(days.len(), 52, "{zone}");
        assert!(days.values().all(|n| *n == 1), "{zone}: {days:?}");
        // In Berlin 02:30 is in the gap of one Sunday.
        assert!(times.len() <= 2, "{zone}: {times:?}");
        // To another hour: what has passed today is not made up for.
        let trained = shell.checks.trainings.len();
        edit(&mut shell, |a| a.schedule = schedule("0 0 * * *", zone));
        shell.sleep(HOUR);
        assert_eq!(shell.checks.trainings.len(), trained);
        shell.sleep(48 * HOUR);
        assert!(shell.checks.trainings.len() > trained);
    }
}

#[test]
fn a_due_training_waits_for_the_one_at_work_or_takes_its_place() {
    let hours = |policy| {
        let mut shell = tuned(json!({"interval": "1h"}));
        edit(&mut shell, |a| {
            a.schedule = schedule("0 * * * *", "UTC");
            let schedule = a.schedule.as_mut().unwrap();
            schedule.concurrency_policy = Some(policy);
        });
        shell.training = None;
        shell.sleep(2 * HOUR + HOUR / 4);
        shell
    };
    let mut forbid = hours(ConcurrencyPolicy::Forbid);
    assert_eq!(forbid.checks.trainings.len(), 1);
    // When it has ended, the latest that was missed is made up for.
    forbid.let_go();
    forbid.sleep(HOUR / 6);
    assert_eq!(forbid.checks.trainings.len(), 2);

    let replace = hours(ConcurrencyPolicy::Replace);
    assert_eq!(replace.checks.trainings.len(), 2);
    let live = replace
        .world
        .runs
        .iter()
        .filter(|r| !phase(r).is_terminal());
    assert_eq!(live.count(), 1);
    assert_eq!(replace.world.in_flight.len(), 1);
}

#[test]
fn a_training_is_at_work_in_its_windows_only_and_goes_on_in_the_next() {
    let mut shell = tuned(json!({"interval": "1h"}));
    edit(&mut shell, |a| {
        a.windows = vec![TrainingWindow {
            cron: "0 22 * * *".into(),
            time_zone: None,
            duration: GoDuration("2h".into()),
        }];
    });
    tune(&mut shell, "please");
    shell.sleep(HOUR);
    assert_eq!(
        newest_tuning(&shell).status.as_ref().unwrap().steps.len(),
        3
    );
    assert!(shell.world.in_flight.is_empty(), "outside of its window");
    let opens = "2026-01-01T22:00:00Z";
    let message = told(&shell).message.clone().unwrap();
    assert!(message.ends_with(opens), "{message}");
    // Nothing else waits for it.
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), 2);
    // It does not end within the window.
    shell.training = None;
    shell.run_until(opens.parse().unwrap());
    shell.sleep(HOUR);
    assert_eq!(shell.world.in_flight.len(), 1);
    shell.sleep(HOUR + HOUR / 2);
    let status = newest_tuning(&shell).status.clone().unwrap();
    assert_eq!(
        (status.phase, status.attempt, status.reason.as_deref()),
        (RunPhase::Running, 2, Some("OutsideWindow"))
    );
    assert!(shell.world.in_flight.is_empty());
    shell.training = Some(60);
    shell.sleep(24 * HOUR);
    assert_eq!(
        (reason(newest_tuning(&shell)), served(&shell)),
        ("Built", 3)
    );
}

#[test]
fn a_refresh_during_a_long_training_is_not_kept_waiting() {
    let mut shell = tuned(json!({"interval": "1h"}));
    shell.training = None;
    tune(&mut shell, "please");
    shell.sleep(HOUR);
    for number in 2..6 {
        change(&mut shell, 0);
        shell.sleep(2 * HOUR);
        assert_eq!(served(&shell), number);
    }
    let run = newest_tuning(&shell);
    assert_eq!(phase(run), RunPhase::Running);
    is(&shell, "Reconciling", "False", "UpToDate");
    is(&shell, "IndexFresh", "True", "Fresh");
    // Old releases go, garbage is collected, and what was swept is not missed when it ends.
    let before = shell.now;
    shell.sleep(60 * HOUR);
    assert!(shell.world.releases.iter().all(|r| r.spec.number > 1));
    assert!(shell.world.collected.is_some_and(|t| t > before));
    shell.let_go();
    shell.sleep(HOUR);
    let release = serving_now(&shell);
    assert!(adapter(release, "escalation").is_some());
    let newest = tip(&shell.world, None).unwrap();
    assert_eq!(release.spec.index, newest.spec.index);
}

#[test]
fn a_suspended_adapter_is_not_trained_and_goes_on_being_served() {
    let mut shell = tuned(json!({"interval": "1h"}));
    ask(&mut shell, "please");
    edit(&mut shell, |a| a.suspend = true);
    shell.change("runbooks", 22);
    examples(&mut shell, 0);
    ask(&mut shell, "again");
    assert_eq!(served(&shell), 2);
    assert_eq!(told(&shell).message.as_deref(), Some("suspended"));
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), 3);
    edit(&mut shell, |a| a.suspend = false);
    shell.sleep(3 * HOUR);
    assert_eq!(newest_tuning(&shell).spec.request.as_deref(), Some("again"));
    assert_eq!(served(&shell), 4);
}

#[test]
fn a_shrunken_source_of_examples_holds_its_own_run_and_no_other() {
    let mut shell = tuned(json!({"interval": "1h"}));
    ask(&mut shell, "please");
    shell.change("runbooks", 12);
    examples(&mut shell, 0);
    ask(&mut shell, "again");
    assert_eq!(phase(newest_tuning(&shell)), RunPhase::Held);
    is(&shell, "SourcesSynced", "False", "MaxDeletionExceeded");
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), 3);
    let held = newest_tuning(&shell).metadata.name.clone().unwrap();
    shell.world.intents.approved.insert(held);
    shell.sleep(3 * HOUR);
    assert_eq!(
        (reason(newest_tuning(&shell)), served(&shell)),
        ("Built", 4)
    );
}

#[test]
fn an_adapter_waits_for_the_first_index() {
    let mut resource = adapted(json!({"interval": "1h"}));
    resource.spec.adapters[1].trigger = None;
    let mut shell = Shell::new(resource, start(), 7);
    perfect(&mut shell, 0);
    examples(&mut shell, 0);
    shell.outside.sources.get_mut("handbook").unwrap().failing = true;
    shell.outside.sources.get_mut("notices").unwrap().failing = true;
    tune(&mut shell, "please");
    shell.sleep(3 * HOUR);
    assert!(newest_of(&shell.world, "escalation").is_none());
    for source in shell.outside.sources.values_mut() {
        source.failing = false;
    }
    shell.sleep(5 * HOUR);
    assert!(adapter(serving_now(&shell), "escalation").is_some());
}
