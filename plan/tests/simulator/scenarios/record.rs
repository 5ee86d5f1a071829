//! What outlives a pipeline's resources.

use std::collections::BTreeSet;

use loci_crds::run::RunTrigger;
use loci_plan::{record, restore};

use super::*;

/// A pipeline whose second release serves.
fn second() -> Shell {
    let mut shell = serving();
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), 2);
    shell
}

#[test]
fn deleted_and_applied_again_it_serves_the_same_and_runs_nothing() {
    let mut shell = second();
    let index = |s: &Shell, n: usize| s.world.releases[n].spec.index.clone();
    let before = [index(&shell, 0), index(&shell, 1)];
    shell.recreate("v");
    shell.sleep(Duration::from_secs(60));
    for (kind, reason) in [
        ("Ready", "Serving"),
        ("Serving", "Serving"),
        ("GatePassed", "Passed"),
        ("SourcesSynced", "AllRead"),
        ("IndexFresh", "Fresh"),
    ] {
        is(&shell, kind, "True", reason);
    }
    shell.sleep(5 * HOUR);
    assert_eq!((served(&shell), shell.world.runs.len()), (2, 0));
    assert_eq!([index(&shell, 0), index(&shell, 1)], before);
    // Rollback reaches what it reached.
    shell.world.intents.hold = Some(1);
    shell.sleep(HOUR);
    assert_eq!(served(&shell), 1);
    shell.world.intents.hold = None;
    shell.checks.resumed();
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), shell.world.releases.len() as i64);
    assert!(!shell.world.runs.is_empty());
}

#[test]
fn what_changed_meanwhile_is_built_while_the_same_release_serves() {
    let mut shell = second();
    shell.edit(|r| r.spec.index.chunking.max_tokens = Some(64));
    shell.recreate("v");
    shell.sleep(Duration::from_secs(15));
    assert_eq!(served(&shell), 2);
    assert_eq!(newest(&shell).spec.trigger, RunTrigger::SpecChanged);
    is(&shell, "Ready", "True", "Serving");
    shell.sleep(HOUR);
    assert_eq!((served(&shell), shell.world.runs.len()), (3, 1));

    change(&mut shell, 0);
    shell.recreate("w");
    shell.sleep(HOUR / 2);
    assert_eq!((served(&shell), shell.world.runs.len()), (4, 1));
    let trigger = newest(&shell).spec.trigger;
    assert!(
        matches!(trigger, RunTrigger::SourceChanged | RunTrigger::Schedule),
        "{trigger:?}"
    );
}

#[test]
fn applied_again_within_a_second_a_run_is_not_taken_for_the_one_that_made_what_serves() {
    let mut shell = second();
    shell.edit(|r| r.spec.index.chunking.max_tokens = Some(64));
    shell.recreate("v");
    let now = shell.now.strftime("%Y%m%d-%H%M%S");
    let name = format!("{}-{now}", shell.world.pipeline.name);
    shell.world.releases[1].spec.run.clone_from(&name);
    shell.sleep(HOUR);
    let run = newest(&shell).metadata.name.clone();
    assert_eq!((run, served(&shell)), (Some(format!("{name}-2")), 3));
}

#[test]
fn of_runs_deleted_one_by_one_the_newest_is_remembered() {
    let mut shell = second();
    let whole = record(&shell.world);
    while !shell.world.runs.is_empty() {
        let newest = newest(&shell).metadata.name.clone();
        shell.world.runs.retain(|r| r.metadata.name != newest);
        shell.sleep(Duration::from_secs(1));
        assert_eq!(record(&shell.world).built, whole.built);
    }
    shell.sleep(3 * HOUR);
    assert_eq!((served(&shell), shell.world.runs.len()), (2, 0));
    is(&shell, "IndexFresh", "True", "Fresh");
}

#[test]
fn only_what_is_missing_and_still_has_its_content_is_made_again() {
    let shell = second();
    let kept = record(&shell.world);
    let names = |all: &[loci_crds::MemoryRelease]| -> Vec<String> {
        all.iter().filter_map(|r| r.metadata.name.clone()).collect()
    };
    let all: BTreeSet<_> = shell.outside.store.keys().copied().collect();
    // Some were made when the process died; what exists and what it says is served stays.
    let first = &shell.world.releases[..1];
    let restored = restore(&kept, Some("support-1"), first, &all);
    assert_eq!(names(&restored.releases), ["support-2"]);
    assert_eq!(restored.desired.as_deref(), Some("support-1"));
    assert_eq!(restored.built, kept.built);

    let lost = shell.world.releases[1].spec.index.revision.parse().unwrap();
    let mut rest = all.clone();
    assert!(rest.remove(&lost));
    let restored = restore(&kept, None, &[], &rest);
    assert_eq!(names(&restored.releases), ["support-1"]);
    assert_eq!(restored.lost, ["support-2"]);
    assert_eq!((restored.desired, restored.built), (None, None));

    // A release is worth keeping without the questions' outcomes.
    let status = kept.releases[1].status.clone();
    let evaluation = status.verdict.unwrap().evaluation.unwrap();
    let mut rest = all;
    assert!(rest.remove(&evaluation.parse().unwrap()));
    let restored = restore(&kept, None, &[], &rest);
    let verdict = restored.releases[1]
        .status
        .as_ref()
        .unwrap()
        .verdict
        .clone();
    assert_eq!(verdict.unwrap().evaluation, None);
    assert_eq!(restored.desired.as_deref(), Some("support-2"));
}

#[test]
fn a_record_comes_back_from_json_and_names_all_that_it_needs() {
    let shell = second();
    let kept = record(&shell.world);
    let json = serde_json::to_string(&kept).unwrap();
    assert_eq!(
        serde_json::from_str::<loci_plan::PipelineRecord>(&json).unwrap(),
        kept
    );
    let roots: BTreeSet<_> = kept.roots().into_iter().collect();
    for release in &shell.world.releases {
        let status = release.status.as_ref().unwrap();
        let evaluation = status.verdict.as_ref().unwrap().evaluation.as_ref();
        let all = [
            Some(&release.spec.index.revision),
            status.snapshot.as_ref(),
            evaluation,
        ];
        for digest in all.into_iter().flatten() {
            assert!(roots.contains(&digest.parse().unwrap()), "{digest}");
        }
    }
}
