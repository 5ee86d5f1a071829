//! The pipeline's status: conditions, sources, adapters, what serves.

mod adapters;
mod findings;
mod money;
mod work;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::pipeline::SourceStatus;
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryPipeline, MemoryPipelineStatus, MemoryRun};

use crate::budget::{self, Ledger};
use crate::clock::stamp;
use crate::conditions::{Finding, conditions};
use crate::limits;
use crate::plan::Draft;
use crate::runs::changed;
use crate::spec::FieldError;
use crate::view::{Lane, ReleaseView, RunView, View};
use crate::world::{Difference, Look, SourceSnapshot, StepResult};

/// The status of a pipeline whose spec [`Pipeline::from_resource`](crate::Pipeline::from_resource)
/// refused. What is served goes on being served.
pub fn refused(
    now: Timestamp,
    resource: &MemoryPipeline,
    errors: &[FieldError],
) -> MemoryPipelineStatus {
    let before = resource.status.clone().unwrap_or_default();
    let message = errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let generation = resource.metadata.generation;
    let findings = [
        Finding::new("Ready", false, "InvalidSpec", message.clone()),
        Finding::new(
            "Reconciling",
            false,
            "InvalidSpec",
            "the spec cannot be accepted",
        ),
        Finding::new("Stalled", true, "InvalidSpec", message),
    ];
    let mut all = conditions(now, generation, &before.conditions, findings);
    let kept = before
        .conditions
        .iter()
        .filter(|c| !all.iter().any(|n| n.type_ == c.type_))
        .cloned();
    all.extend(kept.collect::<Vec<_>>());
    MemoryPipelineStatus {
        observed_generation: generation.unwrap_or(before.observed_generation),
        conditions: all,
        ..before
    }
}

pub(crate) fn status(view: &View<'_>, draft: &mut Draft) -> MemoryPipelineStatus {
    let before = &view.world.status;
    let sources: Vec<_> = view
        .pipeline
        .sources
        .iter()
        .map(|s| source(view, &s.name))
        .collect();
    let indexed = |s: &&SourceStatus| view.pipeline.read_by(None).any(|i| i.name == s.name);
    let fresh = up_to_date(view)
        .then(|| {
            sources
                .iter()
                .filter(indexed)
                .map(|s| s.last_success_time.clone())
                .min()
                .flatten()
        })
        .flatten();
    let last_refresh_time = fresh.max(before.last_refresh_time.clone());
    let cost = Ledger::of(view).and_then(|ledger| ledger.status());
    if cost.is_some() {
        draft.wake(Some(budget::next_month(view.now)));
    }
    let reconciling = findings::reconciling(view);
    let stalled = findings::stalled(view, &reconciling);
    let findings = [
        findings::ready(view),
        reconciling,
        stalled,
        findings::synced(view, &sources),
        findings::index_fresh(view, last_refresh_time.as_ref(), draft),
        findings::gate_passed(view),
        findings::serving(view),
        money::available(view, cost.as_ref()),
    ];
    let hold = view.hold().and_then(|h| h.release.ok());
    let desired = view.desired();
    MemoryPipelineStatus {
        observed_generation: view.world.generation,
        conditions: conditions(
            view.now,
            Some(view.world.generation),
            &before.conditions,
            findings,
        ),
        serving_release: view.world.serving.current.clone(),
        anchor_release: desired.map(|d| view.anchor_of(d).name().to_owned()),
        held_on: hold.map(|r| r.name().to_owned()),
        next_refresh_time: next_look(view).map(|t| Time(stamp(t).0)),
        last_refresh_time,
        sources,
        adapters: adapters::statuses(view),
        cost,
    }
}

/// The next look at what is indexed, by schedule: one that is due now, or else the first to come.
fn next_look(view: &View<'_>) -> Option<Timestamp> {
    if view.pipeline.suspend {
        return None;
    }
    let schedule = &view.pipeline.schedule;
    let next = |last| {
        schedule
            .due(last, view.now)
            .or_else(|| schedule.upcoming(last, view.now))
    };
    let sources = view.pipeline.read_by(None);
    sources
        .filter_map(|s| next(view.last_look(Lane::Index, &s.name)?))
        .min()
}

/// One source: what is newer than the status before, else as it was.
fn source(view: &View<'_>, name: &str) -> SourceStatus {
    let before = view.world.status.sources.iter().find(|s| s.name == name);
    let empty = SourceStatus {
        name: name.to_owned(),
        documents: 0,
        skipped: 0,
        last_success_time: None,
        error: None,
    };
    let mut status = before.cloned().unwrap_or(empty);
    let read = view.runs.iter().rev().find_map(|r| read(view, r, name));
    if let Some((time, read)) = read {
        status.documents = read.documents as i64;
        status.skipped = read.skipped as i64;
        note(&mut status, time, read.error.as_ref());
    }
    // Of several lanes, one may have looked before another read it.
    let lanes = view.looking_at(name).into_iter();
    let looks = lanes.filter_map(|lane| view.look(lane, name));
    let look = looks.max_by_key(|l| l.time);
    let look = look.filter(|l| read.is_none_or(|(time, _)| l.time >= time));
    // That it changed says nothing yet: the run that reads it will.
    match look {
        Some(Look {
            time,
            result: Ok(Difference::Unchanged),
            ..
        }) => note(&mut status, *time, None),
        Some(Look {
            time,
            result: Err(error),
            ..
        }) => note(&mut status, *time, Some(error)),
        _ => {}
    }
    status
}

/// What the newest run of which that is still known read of a source, and when.
fn read<'a>(
    view: &View<'a>,
    run: &MemoryRun,
    source: &str,
) -> Option<(Timestamp, &'a SourceSnapshot)> {
    let time = run.snapshot_time()?;
    match view.made(run, StepName::Snapshot)? {
        StepResult::Snapshot(snapshot) => snapshot.sources.get(source).map(|s| (time, s)),
        _ => None,
    }
}

fn note(status: &mut SourceStatus, time: Timestamp, error: Option<&String>) {
    status.error = error.map(|e| limits::clip(e, limits::SOURCE_ERROR));
    if error.is_none() {
        status.last_success_time = status.last_success_time.take().max(Some(stamp(time)));
    }
}

/// Whether what serves is what the sources held when they were last looked at.
fn up_to_date(view: &View<'_>) -> bool {
    let served = view.target().is_some_and(|t| view.is_served(t));
    let newest_good = view
        .newest_ended(Lane::Index)
        .is_some_and(|r| r.phase() == RunPhase::Succeeded);
    let unchanged = |l: &Look| {
        Some(l.probe.basis) == view.basis(Lane::Index) && l.result == Ok(Difference::Unchanged)
    };
    let looked = |name: &str| view.look(Lane::Index, name).is_some_and(unchanged);
    let known = newest_good || view.pipeline.read_by(None).all(|s| looked(&s.name));
    served
        && known
        && view.live(Lane::Index).is_none()
        && changed(view, Lane::Index).next().is_none()
}
