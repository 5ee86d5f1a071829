//! Single behaviours, told step by step.

mod adapters;
mod behavior;
mod budget;
mod cadence;
mod context;
mod rebase;
mod record;
mod releases;
mod runs;
mod tuning;
mod workers;

use std::time::Duration;

use loci_crds::MemoryRun;
use loci_crds::release::ReleasePhase;
use serde_json::json;

use crate::lookups::{named, phase, release_phase};
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
