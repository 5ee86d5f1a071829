//! What training may cost, and what it has cost. An hour on a device costs 1.

use loci_crds::adapter::TrainingTrigger;
use loci_crds::budget::{BudgetSpec, MonthCost, RunCost, RunMoney};
use loci_crds::run::{RunKind, RunPhase};
use loci_crds::values::Money;
use serde_json::Value;

use super::tuning::*;
use super::*;
use crate::lookups::newest_of;

fn budget(more: Value) -> Option<BudgetSpec> {
    let prices = json!([{"class": "cpu", "deviceHour": "1"}]);
    let mut budget = json!({"currency": "USD", "prices": prices});
    let all = budget.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    Some(serde_json::from_value(budget).unwrap())
}

/// A pipeline with a budget and one adapter that may be trained. Trainings go on until they are let go.
fn budgeted(more: Value) -> Shell {
    let mut shell = tuned(json!({"interval": "1h"}));
    shell.edit(|r| {
        r.spec.budget = budget(more);
        r.spec.adapters[1].suspend = true;
    });
    shell.training = None;
    shell.sleep(Duration::from_secs(1));
    shell
}

/// Somebody asks for the first adapter, on new examples, and it is trained for so long.
fn train(shell: &mut Shell, documents: u64, time: Duration) {
    shell.change("runbooks", documents);
    let token = shell.now.to_string();
    tune(shell, &token);
    shell.sleep(HOUR / 6);
    shell.sleep(time);
    shell.let_go();
    shell.sleep(HOUR / 6);
}

fn cost(shell: &Shell) -> &RunCost {
    let status = newest_tuning(shell).status.as_ref().unwrap();
    status.cost.as_ref().unwrap()
}

fn money(shell: &Shell) -> &RunMoney {
    cost(shell).money.as_ref().unwrap()
}

fn month(shell: &Shell) -> &MonthCost {
    shell.world.status.cost.as_ref().unwrap()
}

fn micros(money: &Money) -> u64 {
    money.to_micros().unwrap()
}

fn message(shell: &Shell) -> &str {
    let conditions = &shell.world.status.conditions;
    let of = conditions.iter().find(|c| c.type_ == "BudgetAvailable");
    &of.unwrap().message
}

fn trainings(shell: &Shell) -> usize {
    let kinds = shell.checks.kinds.iter();
    kinds.filter(|k| k.0 == RunKind::FineTune).count()
}

#[test]
fn a_training_is_counted_and_the_next_is_estimated_by_it() {
    let mut shell = budgeted(json!({"perRun": "10", "perMonth": "100"}));
    is(&shell, "BudgetAvailable", "True", "Available");
    assert_eq!(month(&shell).spent, Money("0.00".into()));
    train(&mut shell, 20, 2 * HOUR);
    let first = cost(&shell).clone();
    assert!((7200..8400).contains(&first.device_seconds), "{first:?}");
    assert_eq!((first.reads, first.estimated_seconds), (60, None));
    assert_eq!(first.max_device_seconds, Some(36_000));
    let told = first.money.unwrap();
    assert_eq!(
        micros(&told.amount),
        (first.device_seconds as u64 * 1_000_000 + 1800) / 3600
    );
    assert_eq!(month(&shell).spent, told.amount);
    train(&mut shell, 40, HOUR);
    let second = cost(&shell);
    let expected = first.device_seconds * 2;
    let estimated = second.estimated_seconds.unwrap();
    assert!((expected - 1..=expected + 1).contains(&estimated));
    assert!(money(&shell).estimate.is_some());
    let both = micros(&told.amount) + micros(&money(&shell).amount);
    assert_eq!(micros(&month(&shell).spent), both);
    assert_eq!(month(&shell).runs.len(), 2);
    assert!(message(&shell).contains("of 100.00 USD are spent in 2026-01"));
}

#[test]
fn a_run_that_has_used_its_budget_fails_and_is_not_tried_again() {
    let mut shell = budgeted(json!({"perRun": "1.50"}));
    tune(&mut shell, "please");
    shell.sleep(HOUR);
    assert_eq!(phase(newest_tuning(&shell)), RunPhase::Running);
    shell.sleep(HOUR);
    let run = newest_tuning(&shell);
    assert_eq!(
        (phase(run), reason(run)),
        (RunPhase::Failed, "BudgetExceeded")
    );
    let told = run.status.as_ref().unwrap().message.clone().unwrap();
    assert!(
        told.ends_with("it has cost 1.50 of the 1.50 USD that it may"),
        "{told}"
    );
    assert_eq!(month(&shell).spent, Money("1.50".into()));
    assert!(shell.world.in_flight.is_empty());
    change(&mut shell, 0);
    shell.sleep(48 * HOUR);
    assert_eq!((trainings(&shell), served(&shell)), (1, 2));
    // Without a limit for the month there is money for the next.
    is(&shell, "BudgetAvailable", "True", "Available");
}

#[test]
fn what_a_month_has_no_room_for_waits_for_the_next() {
    let mut shell = budgeted(json!({"perRun": "2", "perMonth": "3"}));
    for documents in [21, 22] {
        train(&mut shell, documents, HOUR);
        assert_eq!(reason(newest_tuning(&shell)), "Built");
    }
    // Of the month there was less left than the run might have cost.
    assert!(micros(money(&shell).limit.as_ref().unwrap()) < 2_000_000);
    let spent = month(&shell).spent.clone();
    assert!((2_000_000..3_000_000).contains(&micros(&spent)));
    shell.change("runbooks", 23);
    ask(&mut shell, "please");
    assert_eq!(trainings(&shell), 2);
    is(&shell, "BudgetAvailable", "False", "MonthSpent");
    let told = message(&shell);
    for part in [
        "of 3.00 USD are spent",
        "escalation",
        "2026-02-01T00:00:00Z",
        "the index is refreshed",
    ] {
        assert!(told.contains(part), "{told}");
    }
    is(&shell, "Ready", "True", "Serving");
    is(&shell, "Reconciling", "False", "UpToDate");
    // The index goes on; restarts and runs that are deleted bring no money back.
    let before = served(&shell);
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), before + 1);
    shell.crash();
    shell
        .world
        .runs
        .retain(|r| r.spec.kind != RunKind::FineTune);
    shell.sleep(24 * HOUR);
    assert_eq!(
        (&month(&shell).spent, &month(&shell).earlier),
        (&spent, &spent)
    );
    assert!(month(&shell).runs.is_empty());
    is(&shell, "BudgetAvailable", "False", "MonthSpent");
    shell.run_until("2026-01-31T23:59:59Z".parse().unwrap());
    assert_eq!(trainings(&shell), 2);
    shell.sleep(HOUR / 2);
    assert_eq!(trainings(&shell), 3);
    assert_eq!(
        (
            newest_tuning(&shell).spec.request.as_deref(),
            cost(&shell).month.as_str()
        ),
        (Some("please"), "2026-02")
    );
    is(&shell, "BudgetAvailable", "True", "Available");
    shell.let_go();
    shell.sleep(HOUR);
    assert_eq!(month(&shell).month, "2026-02");
    assert_eq!(month(&shell).spent, money(&shell).amount);
}

#[test]
fn what_began_in_a_month_is_charged_to_that() {
    let mut shell = budgeted(json!({"perRun": "20", "perMonth": "30"}));
    shell.run_until("2026-01-31T20:00:00Z".parse().unwrap());
    train(&mut shell, 21, 8 * HOUR);
    assert_eq!(cost(&shell).month, "2026-01");
    assert!(cost(&shell).device_seconds >= 8 * 3600);
    assert_eq!(
        (month(&shell).month.as_str(), micros(&month(&shell).spent)),
        ("2026-02", 0)
    );
}

#[test]
fn a_pipeline_that_is_deleted_and_applied_again_has_spent_what_it_had() {
    let mut shell = budgeted(json!({"perRun": "2", "perMonth": "3"}));
    train(&mut shell, 21, 3 * HOUR / 2);
    let spent = month(&shell).spent.clone();
    shell.recreate("v");
    shell.sleep(HOUR);
    assert_eq!(
        (&month(&shell).spent, &month(&shell).earlier),
        (&spent, &spent)
    );
    is(&shell, "BudgetAvailable", "False", "MonthSpent");
}

#[test]
fn what_would_cost_too_much_is_not_begun_unless_a_person_asks() {
    let mut shell = budgeted(json!({"perRun": "2"}));
    train(&mut shell, 20, HOUR);
    edit(&mut shell, |a| {
        a.trigger = Some(TrainingTrigger { new_examples: 1 })
    });
    shell.change("runbooks", 60);
    shell.sleep(4 * HOUR);
    let run = newest_tuning(&shell);
    assert_eq!(
        (phase(run), reason(run)),
        (RunPhase::Failed, "BudgetExceeded")
    );
    assert_eq!(run.status.as_ref().unwrap().steps.len(), 2);
    let told = money(&shell);
    assert!(micros(told.estimate.as_ref().unwrap()) > 2_000_000);
    assert_eq!(micros(&told.amount), 0);
    assert_eq!(trainings(&shell), 2);
    tune(&mut shell, "all the same");
    shell.sleep(HOUR);
    assert_eq!(phase(newest_tuning(&shell)), RunPhase::Running);
    assert_eq!(money(&shell).limit, Some(Money("2.00".into())));
}

#[test]
fn a_budget_that_changes_holds_for_what_is_at_work() {
    let changed = |before: Value, after: Option<BudgetSpec>| {
        let mut shell = budgeted(before);
        tune(&mut shell, "please");
        shell.sleep(HOUR);
        assert_eq!(shell.world.in_flight.len(), 1);
        shell.edit(|r| r.spec.budget = after);
        shell.sleep(HOUR);
        shell
    };
    let lower = changed(json!({"perRun": "5"}), budget(json!({"perRun": "0.5"})));
    let run = newest_tuning(&lower);
    assert_eq!(
        (phase(run), reason(run)),
        (RunPhase::Failed, "BudgetExceeded")
    );
    assert!(lower.world.in_flight.is_empty());
    assert!(micros(&month(&lower).spent) >= 800_000);

    let mut higher = changed(json!({"perRun": "1.5"}), budget(json!({"perRun": "3"})));
    let status = newest_tuning(&higher).status.clone().unwrap();
    assert_eq!((status.phase, status.attempt), (RunPhase::Running, 2));
    higher.sleep(2 * HOUR);
    let run = newest_tuning(&higher);
    assert_eq!(
        (phase(run), reason(run)),
        (RunPhase::Failed, "BudgetExceeded")
    );
    assert_eq!(month(&higher).spent, Money("3.00".into()));

    // Another price changes nothing but the money, where there is no limit.
    let mut dearer = budget(json!({}));
    dearer.as_mut().unwrap().prices[0].device_hour = Money("2".into());
    let dearer = changed(json!({}), dearer);
    assert_eq!(newest_tuning(&dearer).status.as_ref().unwrap().attempt, 1);
    assert!(micros(&money(&dearer).amount) >= 1_700_000);

    let mut none = changed(json!({"perRun": "1.5"}), None);
    none.sleep(2 * HOUR);
    assert_eq!(phase(newest_tuning(&none)), RunPhase::Running);
    is(&none, "BudgetAvailable", "True", "NoBudget");
    none.let_go();
    none.sleep(HOUR);
    assert_eq!(reason(newest_tuning(&none)), "Built");
    assert!(micros(&month(&none).spent) > 3_000_000);
}

#[test]
fn two_adapters_do_not_spend_the_same_money() {
    let mut shell = budgeted(json!({"perMonth": "10"}));
    shell.edit(|r| r.spec.adapters[1].suspend = false);
    tune(&mut shell, "please");
    let tune = &mut shell.world.intents.tune;
    tune.insert("tone".to_owned(), "please, too".to_owned());
    shell.sleep(HOUR);
    let live = |shell: &Shell, adapter: &str| {
        let run = newest_of(&shell.world, adapter).unwrap();
        (phase(run), reason(run).to_owned())
    };
    let both = ["escalation", "tone"].map(|adapter| live(&shell, adapter));
    let deferred = (RunPhase::Cancelled, "BudgetDeferred".to_owned());
    let waits = both.iter().position(|b| *b == deferred).unwrap();
    assert_eq!(both[1 - waits].0, RunPhase::Running);
    is(&shell, "BudgetAvailable", "False", "MonthSpent");
    assert!(
        message(&shell).contains("10.00 are set aside"),
        "{}",
        message(&shell)
    );
    shell.let_go();
    shell.sleep(HOUR);
    let second = ["escalation", "tone"][waits];
    assert_eq!(live(&shell, second).0, RunPhase::Running);
    shell.let_go();
    shell.sleep(HOUR);
    assert_eq!(live(&shell, second), (RunPhase::Succeeded, "Built".into()));
    assert_eq!(month(&shell).runs.len(), 2);
}

#[test]
fn a_run_gives_way_to_the_next_when_there_is_money_for_that() {
    let hours = |month: &str| {
        let mut shell = budgeted(json!({"perMonth": month, "perRun": "2"}));
        edit(&mut shell, |a| {
            let hourly = json!({"cron": "0 * * * *", "concurrencyPolicy": "Replace"});
            a.schedule = Some(serde_json::from_value(hourly).unwrap());
        });
        shell.sleep(2 * HOUR + HOUR / 4);
        assert_eq!(phase(newest_tuning(&shell)), RunPhase::Running);
        trainings(&shell)
    };
    assert_eq!(hours("10"), 2);
    assert_eq!(hours("2.5"), 1);
}

#[test]
fn a_crash_after_any_action_counts_nothing_twice() {
    for after in 1..40 {
        seeded(after, "a crash after so many actions", || {
            let mut shell = budgeted(json!({"perRun": "5", "perMonth": "20"}));
            shell.world.pipeline.run_history = 1;
            shell.training = Some(1200);
            shell.crash_after = Some(shell.actions + after);
            for round in 0..3 {
                shell.change("runbooks", 21 + round);
                examples(&mut shell, 0);
                tune(&mut shell, &format!("please {round}"));
                shell.sleep(3 * HOUR);
                assert_eq!(reason(newest_tuning(&shell)), "Built");
            }
            assert_eq!(trainings(&shell), 3);
            let there = month(&shell).runs.iter().map(|r| micros(&r.amount));
            let all = there.sum::<u64>() + micros(&month(&shell).earlier);
            assert_eq!(micros(&month(&shell).spent), all);
            let most = micros(&month(&shell).spent);
            assert!((1..=3 * 1_000_000).contains(&most), "{most}");
        });
    }
}
