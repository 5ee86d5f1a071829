//! Runs: which one is started, and how the live one of each lane goes on.

mod cause;
pub(crate) mod rebase;
mod tune;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use loci_crds::run::{RunKind, RunPhase, RunTrigger, StepName};
use loci_crds::source::LocalRef;
use loci_crds::{MemoryRun, MemoryRunSpec, MemoryRunStatus};

use crate::action::Action;
use crate::budget;
use crate::clock::{after, stamp};
use crate::conditions::{Finding, conditions};
use crate::limits;
use crate::plan::Draft;
use crate::steps;
use crate::view::{Lane, RunView, SUPERSEDED, View, status_of};
use crate::world::{Difference, Look, StepKey};
use cause::{Cause, requested};

pub(crate) use cause::{cause, changed, owed};

/// Attempts at a step before its run fails.
pub const MAX_ATTEMPTS: i32 = 5;

const BACKOFF: Duration = Duration::from_secs(5);
const BACKOFF_CAP: Duration = Duration::from_secs(600);

/// The delay before another attempt after `failures` in a row: 5 s, doubling, at most 10 min.
pub(crate) fn backoff(failures: u32) -> Duration {
    BACKOFF
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(BACKOFF_CAP)
}

pub(crate) fn plan(view: &View<'_>, draft: &mut Draft) {
    stop_unwanted(view, draft);
    for lane in view.lanes() {
        turn(view, lane, draft);
    }
    rebase::plan(view, draft);
}

/// What becomes of one lane's runs.
fn turn(view: &View<'_>, lane: Lane<'_>, draft: &mut Draft) {
    let live = view.runs_of(lane).filter(|r| !r.phase().is_terminal());
    if cancel(view, live, draft) {
        return;
    }
    match view.live(lane) {
        Some(run) => go_on(view, lane, run, draft),
        None => create(view, lane, draft),
    }
}

/// Ends runs that a person cancelled. Whether there are any.
fn cancel<'a>(
    view: &View<'_>,
    runs: impl Iterator<Item = &'a MemoryRun>,
    draft: &mut Draft,
) -> bool {
    let mut cancelled = false;
    for run in runs {
        if view.world.intents.cancelled.contains(run.name()) {
            draft.act(end(
                view,
                run,
                RunPhase::Cancelled,
                "CancelledByUser",
                "a person cancelled the run",
            ));
            cancelled = true;
        }
    }
    cancelled
}

/// Work whose run has ended, or is gone, or waits for another attempt by now, should stop.
fn stop_unwanted(view: &View<'_>, draft: &mut Draft) {
    let wanted = |key: &StepKey| {
        let mut live = view.runs.iter().filter(|r| !r.phase().is_terminal());
        let run = live.find(|r| r.name() == key.run);
        let attempt = run.map(|r| r.status.as_ref().map_or(0, |s| s.attempt));
        let passed = run.and_then(|r| r.open()) == Some(key.step) && attempt > Some(key.attempt);
        run.is_some() && !passed
    };
    let in_flight = view.world.in_flight.iter();
    let mut names: Vec<_> = in_flight.filter(|k| !wanted(k)).map(|k| &k.run).collect();
    names.dedup();
    for run in names {
        draft.act(Action::Stop { run: run.clone() });
    }
}

fn go_on(view: &View<'_>, lane: Lane<'_>, run: &MemoryRun, draft: &mut Draft) {
    let Some(inputs) = view.inputs(lane) else {
        let name = lane.adapter().unwrap_or_default();
        let message = format!("spec.adapters has no {name}: there is nothing to train");
        draft.act(end(view, run, RunPhase::Cancelled, "NoAdapter", &message));
        return;
    };
    let outdated = run.inputs().is_some_and(|i| i != inputs);
    match run.phase() {
        _ if outdated => draft.act(supersede(view, run, "the pipeline's spec changed")),
        _ if tune::gives_way(view, run, draft) => {
            let message = "the next is due, and concurrencyPolicy is Replace";
            draft.act(supersede(view, run, message));
        }
        RunPhase::Pending if waits_to_start(view, lane) => {}
        RunPhase::Pending => steps::start(view, run, draft),
        RunPhase::Held => held(view, lane, run, draft),
        _ => steps::advance(view, run, draft),
    }
}

/// Whether a run that was made already is not begun: the pipeline or its adapter is suspended, or there is no index yet to
/// release an adapter with.
fn waits_to_start(view: &View<'_>, lane: Lane<'_>) -> bool {
    let adapter = lane.adapter().and_then(|name| view.pipeline.adapter(name));
    let waits = adapter.is_some_and(|a| view.suspends(a) || view.desired().is_none());
    view.pipeline.suspend || waits
}

/// A held run waits for a person, for a better listing or for a new request.
fn held(view: &View<'_>, lane: Lane<'_>, run: &MemoryRun, draft: &mut Draft) {
    let snapshot = run.output(StepName::Snapshot);
    let of_this =
        |l: &&Look| Some(l.probe.basis) == snapshot && l.result == Ok(Difference::Changed);
    if view.world.intents.approved.contains(run.name()) || !steps::exceeds(view, run) {
        steps::release_from_hold(view, run, draft);
    } else if view
        .pipeline
        .read_by(lane.adapter())
        .filter_map(|s| view.look(lane, &s.name))
        .any(|l| of_this(&l))
    {
        draft.act(supersede(
            view,
            run,
            "the listing that was held changed: a new run reads it",
        ));
    } else if requested(view, lane).is_some() || waits(view, lane, run) {
        draft.act(supersede(view, run, "a person asked for a new run"));
    }
}

/// Whether a run that a person made waits for this one to end.
fn waits(view: &View<'_>, lane: Lane<'_>, run: &MemoryRun) -> bool {
    let other = |r: &&MemoryRun| r.name() != run.name() && !r.phase().is_terminal();
    let mut waiting = view.runs_of(lane).filter(other);
    waiting.any(|r| r.spec.trigger == RunTrigger::Requested)
}

fn supersede(view: &View<'_>, run: &MemoryRun, message: &str) -> Action {
    end(view, run, RunPhase::Cancelled, SUPERSEDED, message)
}

/// Ends a run.
pub(crate) fn end(
    view: &View<'_>,
    run: &MemoryRun,
    phase: RunPhase,
    reason: &str,
    message: &str,
) -> Action {
    update(
        view,
        run,
        ended(view, run, status_of(run), phase, reason, message),
    )
}

/// Writes a run's status, in bounds, and what its phase means to who waits for the run.
pub(crate) fn update(view: &View<'_>, run: &MemoryRun, status: MemoryRunStatus) -> Action {
    let mut status = limits::run(status);
    budget::charge(view, run, &mut status);
    let phase = format!("{:?}", status.phase);
    let reason = status.reason.as_ref().unwrap_or(&phase);
    let message = status.message.as_deref().unwrap_or("work is under way");
    let message = limits::clip(message, limits::IN_SHORT);
    let finding = |kind, truth: bool| Finding::new(kind, truth, reason, message.clone());
    let mut findings = vec![finding("Reconciling", !status.phase.is_terminal())];
    match status.phase {
        RunPhase::Succeeded => findings.push(finding("Succeeded", true)),
        RunPhase::Failed | RunPhase::Cancelled => {
            findings.extend([finding("Stalled", true), finding("Failed", true)]);
        }
        RunPhase::Pending | RunPhase::Running | RunPhase::Held => {}
    }
    let generation = run.metadata.generation.or(Some(1));
    status.conditions = conditions(view.now, generation, &status.conditions, findings);
    status.observed_generation = generation;
    Action::UpdateRun {
        name: run.name().to_owned(),
        status: Box::new(status),
    }
}

/// The status of a run that ends now.
pub(crate) fn ended(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    phase: RunPhase,
    reason: &str,
    message: &str,
) -> MemoryRunStatus {
    if status.inputs.is_none() {
        status.inputs = run.lane().and_then(|lane| view.inputs(lane));
    }
    status.phase = phase;
    status.reason = Some(reason.to_owned());
    status.message = Some(message.to_owned());
    status.completion_time = Some(stamp(view.now));
    status.progress = None;
    status
}

fn create(view: &View<'_>, lane: Lane<'_>, draft: &mut Draft) {
    if view.pipeline.suspend {
        return;
    }
    let pipeline = &view.pipeline.name;
    let (kind, of, cause) = match lane {
        Lane::Index => (RunKind::Refresh, pipeline.clone(), cause(view, draft)),
        Lane::Adapter(adapter) => {
            let of = format!("{pipeline}-{adapter}");
            (RunKind::FineTune, of, tune::cause(view, adapter, draft))
        }
    };
    let Some(cause) = cause else { return };
    let mut spec = spec(view, kind, cause);
    spec.adapter = lane.adapter().map(str::to_owned);
    spec.look_time = view.newest_look(lane).map(MicroTime);
    let name = name(view, &of, draft);
    draft.act(Action::CreateRun { name, spec });
}

fn spec(view: &View<'_>, kind: RunKind, cause: Cause) -> MemoryRunSpec {
    MemoryRunSpec {
        pipeline_ref: LocalRef {
            name: view.pipeline.name.clone(),
        },
        kind,
        adapter: None,
        release: None,
        trigger: cause.trigger,
        generation: Some(view.world.generation),
        scheduled_time: cause.scheduled.map(Time),
        look_time: None,
        request: cause.request,
    }
}

/// `<of>-<date>-<time>` in UTC, never one that is taken: by a run, by one that this plan creates, or by one that is gone and
/// made a release. Who deletes a pipeline and applies it again may do so within a second.
fn name(view: &View<'_>, of: &str, draft: &Draft) -> String {
    let time = view
        .now
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%d-%H%M%S")
        .to_string();
    let base = format!("{of}-{time}");
    let made = |n: &String| view.releases.iter().any(|r| r.spec.run == *n);
    let creates = |a: &Action, n: &String| matches!(a, Action::CreateRun { name, .. } if name == n);
    let created = |n: &String| draft.actions.iter().any(|a| creates(a, n));
    let taken = |n: &String| made(n) || created(n) || view.runs.iter().any(|r| r.name() == n);
    let more = (2..).map(|n| format!("{base}-{n}"));
    std::iter::once(base.clone())
        .chain(more)
        .find(|n| !taken(n))
        .unwrap_or(base)
}

/// When the next attempt may begin after one that ended at `time` as the `attempt`th.
pub(crate) fn retry_at(time: Timestamp, attempt: i32) -> Timestamp {
    after(time, backoff(attempt.unsigned_abs()))
}
