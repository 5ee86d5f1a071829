//! When schedules have adapters trained: put off by jitter, and too late.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::tuning::*;
use super::*;

/// Each adapter is put off by a share of its own, and always by the same.
#[test]
fn trainings_of_one_time_are_spread_and_each_keeps_its_distance() {
    let mut shell = tuned(json!({"interval": "24h"}));
    shell.edit(|r| {
        let schedule = json!({"cron": "0 3 * * *", "timeZone": "Europe/Berlin", "jitter": "30m"});
        for adapter in &mut r.spec.adapters {
            adapter.schedule = Some(serde_json::from_value(schedule.clone()).unwrap());
        }
    });
    shell.sleep(4 * 24 * HOUR);
    let mut distances = BTreeMap::<_, BTreeSet<i64>>::new();
    for (adapter, due) in &shell.checks.trainings {
        // Three in Berlin in winter is two.
        let second = due.as_second() % 86_400 - 2 * 3600;
        distances.entry(adapter).or_default().insert(second);
    }
    let all: BTreeSet<i64> = distances.values().flatten().copied().collect();
    assert_eq!((distances.len(), all.len()), (2, 2), "{distances:?}");
    assert!(all.iter().all(|d| (1..=1800).contains(d)), "{distances:?}");
    assert_eq!(shell.checks.trainings.len(), 8, "four days of two adapters");
    let next: BTreeSet<Timestamp> = shell
        .world
        .status
        .adapters
        .iter()
        .filter_map(|a| a.next_time.as_ref().map(|t| t.0))
        .collect();
    let later = |t: &Timestamp| t.as_second() % 86_400 - 2 * 3600;
    assert_eq!(next.iter().map(later).collect::<BTreeSet<_>>(), all);
}

#[test]
fn a_training_that_was_missed_for_longer_than_its_deadline_is_skipped() {
    let missed = |deadline: &str| {
        let mut shell = tuned(json!({"interval": "1h"}));
        edit(&mut shell, |a| {
            let schedule = json!({"cron": "0 * * * *", "startingDeadline": deadline});
            a.schedule = Some(serde_json::from_value(schedule).unwrap());
        });
        // That of one o'clock is at work until a quarter to three.
        shell.training = None;
        shell.sleep(2 * HOUR + HOUR / 4);
        assert_eq!(shell.checks.trainings.len(), 1);
        shell.let_go();
        shell.sleep(HOUR / 6);
        shell
    };
    assert_eq!(missed("59m").checks.trainings.len(), 2, "made up for");
    let mut late = missed("20m");
    assert_eq!(late.checks.trainings.len(), 1, "too late for two o'clock");
    late.sleep(HOUR / 3);
    assert_eq!(late.checks.trainings.len(), 2, "three o'clock is the next");
    let (_, due) = late.checks.trainings.last().unwrap();
    assert_eq!(due.to_string(), "2026-01-01T03:00:00Z");
}
