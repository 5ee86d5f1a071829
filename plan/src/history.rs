//! What is kept: finished runs, releases, and all that they name in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;

use crate::action::Action;
use crate::clock::after;
use crate::plan::Draft;
use crate::runs::rebase;
use crate::view::{Lane, ReleaseView, RunView, View};

/// How often garbage is collected.
pub const COLLECT_EVERY: Duration = Duration::from_secs(6 * 3600);

pub(crate) fn plan(view: &View<'_>, draft: &mut Draft) {
    // What works may build on any release or ask it; nothing goes away beneath it. A training takes long, and needs nothing
    // but what is spared anyway.
    if view.runs.iter().any(|r| builds_on_releases(r)) {
        return;
    }
    for run in surplus_runs(view) {
        draft.act(Action::DeleteRun {
            name: run.name().to_owned(),
        });
    }
    for release in surplus_releases(view, draft) {
        draft.act(Action::DeleteRelease {
            name: release.name().to_owned(),
        });
    }
    let due = view.world.collected.map(|t| after(t, COLLECT_EVERY));
    if due.is_some_and(|t| t > view.now) {
        draft.wake(due);
    } else if draft.actions.is_empty() {
        draft.act(Action::CollectGarbage { roots: roots(view) });
    }
}

fn builds_on_releases(run: &MemoryRun) -> bool {
    run.phase() == RunPhase::Running && run.open() != Some(StepName::Train)
}

/// Finished runs of each lane, and rebases, beyond the limit, but for those that later plans go by: the last good one, the
/// last that trained, the newest, and those that answer standing requests.
fn surplus_runs<'a>(view: &View<'a>) -> Vec<&'a MemoryRun> {
    let needed = |run: &MemoryRun| {
        let is = |other: Option<&MemoryRun>| other.is_some_and(|o| o.name() == run.name());
        let Some(lane) = run.lane() else {
            return is(view.rebases().rev().find(|r| r.phase().is_terminal()));
        };
        let answers = run.spec.request.is_some() && run.spec.request.as_deref() == view.asked(lane);
        let newest = [
            view.newest_succeeded(lane),
            view.newest_ended(lane),
            view.last_training(lane),
        ];
        answers || newest.into_iter().any(is)
    };
    let mut kept = BTreeMap::new();
    let mut surplus = Vec::new();
    let finished = view.runs.iter().copied().rev();
    for run in finished.filter(|r| r.phase().is_terminal()) {
        let of_lane = kept.entry(run.lane()).or_insert(0);
        *of_lane += 1;
        if *of_lane > view.pipeline.run_history && !needed(run) {
            surplus.push(run);
        }
    }
    surplus
}

/// Releases beyond the limit. Those that served and those that never did are counted apart, so that
/// a row of rejected ones does not push out what rollback can reach.
fn surplus_releases<'a>(view: &View<'a>, draft: &mut Draft) -> Vec<&'a MemoryRelease> {
    let needed = needed_releases(view);
    let rest = view
        .releases
        .iter()
        .rev()
        .filter(|r| !needed.contains(r.name()));
    let (served, never): (Vec<_>, Vec<_>) = rest.copied().partition(|r| replaced(r).is_some());
    let mut surplus: Vec<_> = never
        .into_iter()
        .skip(view.pipeline.release_history)
        .collect();
    for release in served.into_iter().skip(view.pipeline.release_history) {
        let until = replaced(release).map(|t| after(t, view.pipeline.release_min_age));
        match until.filter(|t| *t > view.now) {
            Some(until) => draft.wake(Some(until)),
            None => surplus.push(release),
        }
    }
    surplus
}

fn replaced(release: &MemoryRelease) -> Option<jiff::Timestamp> {
    release.status.as_ref()?.replaced_time.as_ref().map(|t| t.0)
}

/// Releases that something goes by: what serves or is to serve, its anchor, what a hold or a pin names,
/// candidates, and what is or may be put upon what serves.
fn needed_releases<'a>(view: &View<'a>) -> BTreeSet<&'a str> {
    let desired = view.desired();
    let held = [view.world.intents.hold, view.pipeline.pin];
    let named = view
        .releases
        .iter()
        .filter(|r| held.contains(&Some(r.spec.number)) || r.phase() == ReleasePhase::Candidate);
    let current = view
        .world
        .serving
        .current
        .as_deref()
        .and_then(|n| view.release(n));
    let others = [desired, desired.map(|d| view.anchor_of(d)), current];
    let lanes = view.lanes().into_iter();
    let tips = lanes.filter(|l| *l != Lane::Index).map(|l| view.tip(l));
    let rebased = view.rebases().filter(|r| !r.phase().is_terminal());
    let rebased = rebased.map(|r| view.release(r.spec.release.as_deref()?));
    let owed = rebase::owed(view)
        .into_iter()
        .map(|owed| Some(owed.release));
    named
        .copied()
        .chain(
            others
                .into_iter()
                .chain(tips)
                .chain(rebased)
                .chain(owed)
                .flatten(),
        )
        .map(|r| r.name())
        .collect()
}

/// What garbage collection must spare: what each release serves and its evaluation, the snapshots
/// of releases and of runs that succeeded (one is what probes compare with, and another is when a
/// person deletes that run), what new examples are told from, and what live runs have made.
fn roots(view: &View<'_>) -> Vec<Digest> {
    let releases = view.releases.iter().flat_map(|r| r.roots());
    let good = view
        .runs
        .iter()
        .filter(|r| r.phase() == RunPhase::Succeeded);
    let snapshots = good.filter_map(|r| r.output(StepName::Snapshot));
    let snapshots = snapshots.chain(view.built().map(|b| b.snapshot));
    let tuned = view.runs.iter().flat_map(|r| told_from(r));
    let snapshots = snapshots.chain(tuned);
    let live = view.runs.iter().filter(|r| !r.phase().is_terminal());
    let outputs = live.flat_map(|r| r.outputs());
    let all: BTreeSet<Digest> = releases.chain(snapshots).chain(outputs).collect();
    all.into_iter().collect()
}

/// What a fine-tune that has ended read, and what it trained on: later ones are told from that. As long as the run is
/// there, so that what is needed once is not missing then.
fn told_from(run: &MemoryRun) -> Vec<Digest> {
    let tuned = matches!(run.lane(), Some(Lane::Adapter(_))) && run.phase().is_terminal();
    let read = run.output(StepName::Snapshot).filter(|_| tuned);
    let good = tuned && run.phase() == RunPhase::Succeeded;
    let dataset = run.output(StepName::Collect).filter(|_| good);
    read.into_iter().chain(dataset).collect()
}
