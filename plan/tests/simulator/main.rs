//! Runs pipelines against a shell that loses everything but what it wrote, and checks after every
//! action what must always hold. A failure names its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checks;
mod draws;
mod life;
mod limits;
mod lookups;
mod outside;
mod progress;
mod scenarios;
mod shell;
mod waited;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use loci_crds::MemoryPipeline;
use loci_crds::run::RunKind;
use serde_json::{Value, json};

use crate::shell::{Shell, Trouble};

pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A pipeline with two sources, a suite and a gate.
pub fn pipeline(refresh: Value) -> MemoryPipeline {
    serde_json::from_value(json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": "support", "namespace": "agents", "uid": "u", "generation": 1},
        "spec": {
            "embedder": {"model": "file://model"},
            "sources": [
                {"name": "handbook", "memory": "factual", "directory": {"path": "handbook"}},
                {"name": "notices", "memory": "episodic", "configMap": {"name": "notices"}},
            ],
            "index": {"refresh": refresh, "freshness": "240h"},
            "suites": [{"name": "faq", "retrieval": {"data": {"file": "faq.jsonl"}}}],
            "gates": [{"suite": "faq", "metric": "recallAt5", "floor": "0.50", "maxRegression": "0.05"}],
            "releases": {"historyLimit": 3, "minAge": "48h"},
            "runs": {"historyLimit": 4},
        },
    }))
    .unwrap()
}

/// The same with two adapters, which share a source.
pub fn adapted(refresh: Value) -> MemoryPipeline {
    let mut resource = serde_json::to_value(pipeline(refresh)).unwrap();
    let spec = &mut resource["spec"];
    let sources = spec["sources"].as_array_mut().unwrap();
    sources
        .extend(["runbooks", "phrases"].map(
            |name| json!({"name": name, "memory": "procedural", "directory": {"path": name}}),
        ));
    spec["adapters"] = json!([
        {
            "name": "escalation", "base": "hf://org/base@main", "sources": ["runbooks"],
            "schedule": {"cron": "30 2 * * 0", "timeZone": "Europe/Berlin", "jitter": "10m"},
            "minExamples": 10, "guard": "none",
        },
        {
            "name": "tone", "base": "hf://org/base@main", "sources": ["runbooks", "phrases"],
            "trigger": {"newExamples": 15}, "minExamples": 10, "guard": "none",
        },
    ]);
    serde_json::from_value(resource).unwrap()
}

/// How many seeds a test draws from: `usual`, or what LOCI_SIMULATOR_SEEDS says.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let given = std::env::var("LOCI_SIMULATOR_SEEDS").ok();
    0..given.map_or(usual, |n| {
        n.parse().expect("LOCI_SIMULATOR_SEEDS is a number")
    })
}

/// Runs `body` and names the seed when it fails.
fn seeded(seed: u64, what: &str, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        eprintln!("{what}: seed {seed}");
        resume_unwind(panic);
    }
}

fn cadences() -> [(Value, bool); 5] {
    [
        (json!({"interval": "2h"}), false),
        (json!({"interval": "6h", "jitter": "10m"}), true),
        (
            json!({"cron": "30 2 * * *", "timeZone": "Europe/Berlin", "jitter": "30m"}),
            false,
        ),
        (
            json!({"cron": "*/30 1-3 * * *", "timeZone": "America/New_York"}),
            true,
        ),
        (
            json!({"cron": "15 2 * * 0,3", "timeZone": "Australia/Lord_Howe", "startingDeadline": "1h"}),
            false,
        ),
    ]
}

#[test]
fn a_year_with_all_kinds_of_trouble() {
    for seed in seeds(3) {
        for (index, (refresh, watched)) in cadences().into_iter().enumerate() {
            let seed = seed * 100 + index as u64;
            seeded(seed, "a year", || {
                let mut shell = Shell::new(pipeline(refresh), start(), seed);
                shell.watched = watched;
                shell.trouble = Trouble {
                    crash: 40,
                    step: 12,
                    prepare: 6,
                    fatal: 4,
                };
                life::live(
                    &mut shell,
                    start()
                        .checked_add(Duration::from_secs(365 * 86_400))
                        .unwrap(),
                    8 * 3600,
                );
                life::rest(&mut shell, Duration::from_secs(86_400));
                assert!(
                    shell.checks.promotions.len() > 20,
                    "hardly anything happened"
                );
            });
        }
    }
}

#[test]
fn a_year_with_adapters_and_all_kinds_of_trouble() {
    let (mut trained, mut rebased) = (0, 0);
    for seed in seeds(3) {
        for (index, (refresh, watched)) in cadences().into_iter().enumerate() {
            let seed = seed * 100 + index as u64;
            seeded(seed, "a year with adapters", || {
                let mut shell = Shell::new(adapted(refresh), start(), seed);
                shell.watched = watched;
                shell.training = Some(20 * 3600);
                shell.trouble = Trouble {
                    crash: 40,
                    step: 12,
                    prepare: 6,
                    fatal: 4,
                };
                let end = start().checked_add(Duration::from_secs(365 * 86_400));
                life::live(&mut shell, end.unwrap(), 8 * 3600);
                life::rest(&mut shell, Duration::from_secs(86_400));
                let kinds = |kind| shell.checks.kinds.iter().filter(|k| k.0 == kind).count();
                trained += kinds(RunKind::FineTune);
                rebased += kinds(RunKind::Rebase);
            });
        }
    }
    assert!(
        trained > 100 && rebased > 20,
        "hardly anything happened: {trained} trainings, {rebased} rebases"
    );
}

#[test]
fn short_lives_in_which_everything_happens_at_once() {
    for seed in seeds(150) {
        seeded(seed, "a week", || {
            let mut shell = Shell::new(pipeline(json!({"interval": "10m"})), start(), seed);
            shell.watched = seed % 2 == 0;
            shell.trouble = Trouble {
                crash: 15,
                step: 6,
                prepare: 3,
                fatal: 4,
            };
            life::live(
                &mut shell,
                start()
                    .checked_add(Duration::from_secs(3 * 86_400))
                    .unwrap(),
                900,
            );
            life::rest(&mut shell, Duration::from_secs(3600));
        });
    }
}

#[test]
fn short_lives_with_adapters_in_which_everything_happens_at_once() {
    for seed in seeds(150) {
        seeded(seed, "three days with adapters", || {
            let mut shell = Shell::new(adapted(json!({"interval": "10m"})), start(), seed);
            shell.watched = seed % 2 == 0;
            shell.training = Some(3 * 3600);
            shell.trouble = Trouble {
                crash: 15,
                step: 6,
                prepare: 3,
                fatal: 4,
            };
            let end = start().checked_add(Duration::from_secs(3 * 86_400));
            life::live(&mut shell, end.unwrap(), 900);
            life::rest(&mut shell, Duration::from_secs(2 * 3600));
        });
    }
}

/// One look each local day, on days with a gap and a doubled hour too.
#[test]
fn a_quiet_year_has_one_look_for_each_day() {
    for (cron, zone) in [
        ("30 2 * * *", "Europe/Berlin"),
        ("30 1 * * *", "America/New_York"),
        ("15 2 * * *", "Australia/Lord_Howe"),
    ] {
        let mut shell = Shell::new(
            pipeline(json!({"cron": cron, "timeZone": zone})),
            start(),
            1,
        );
        let tz = TimeZone::get(zone).unwrap();
        shell.run_until(
            start()
                .to_zoned(tz.clone())
                .checked_add(1.year())
                .unwrap()
                .timestamp(),
        );
        let mut days = BTreeMap::new();
        for (source, due) in &shell.checks.looks {
            *days
                .entry((source.clone(), due.to_zoned(tz.clone()).date()))
                .or_insert(0) += 1;
        }
        assert!(
            days.values().all(|n| *n == 1),
            "{zone}: a day with two looks"
        );
        assert!(
            (729..=732).contains(&days.len()),
            "{zone}: {} looks at two sources",
            days.len()
        );
        assert_eq!(shell.world.runs.len(), 1, "nothing changed, so nothing ran");
    }
}
