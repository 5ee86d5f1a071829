//! Runs: which one is started, and how the live one goes on.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunKind, RunPhase, RunTrigger, StepName};
use loci_crds::source::LocalRef;
use loci_crds::{MemoryRelease, MemoryRun, MemoryRunSpec, MemoryRunStatus};

use crate::action::Action;
use crate::clock::{after, micro, stamp};
use crate::conditions::{Finding, conditions};
use crate::limits;
use crate::plan::Draft;
use crate::steps;
use crate::view::{Lane, ReleaseView, RunView, SUPERSEDED, View, status_of};
use crate::world::{Difference, Look};

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

/// Why a run is due.
pub(crate) struct Cause {
    pub trigger: RunTrigger,
    pub scheduled: Option<Timestamp>,
    pub request: Option<String>,
}

impl Cause {
    fn of(trigger: RunTrigger) -> Self {
        Self {
            trigger,
            scheduled: None,
            request: None,
        }
    }
}

pub(crate) fn plan(view: &View<'_>, draft: &mut Draft) {
    stop_ended(view, draft);
    for lane in view.lanes() {
        turn(view, lane, draft);
    }
}

/// What becomes of one lane's runs.
fn turn(view: &View<'_>, lane: Lane<'_>, draft: &mut Draft) {
    let mut cancelled = false;
    for run in view.runs_of(lane).filter(|r| !r.phase().is_terminal()) {
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
    match view.live(lane) {
        _ if cancelled => {}
        Some(run) => go_on(view, run, draft),
        None => create(view, lane, draft),
    }
}

/// Work whose run has ended, or is gone, should stop.
fn stop_ended(view: &View<'_>, draft: &mut Draft) {
    let live = |name: &str| {
        view.runs
            .iter()
            .any(|r| r.name() == name && !r.phase().is_terminal())
    };
    let mut names: Vec<_> = view
        .world
        .in_flight
        .iter()
        .map(|k| &k.run)
        .filter(|r| !live(r))
        .collect();
    names.dedup();
    for run in names {
        draft.act(Action::Stop { run: run.clone() });
    }
}

fn go_on(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) {
    if let Lane::Adapter(name) = run.lane() {
        let message = format!("spec.adapters has no {name}: there is nothing that it could train");
        draft.act(end(view, run, RunPhase::Failed, "NoAdapter", &message));
        return;
    }
    let outdated = run
        .inputs()
        .is_some_and(|i| i != view.pipeline.build_inputs());
    match run.phase() {
        _ if outdated => draft.act(supersede(view, run, "the pipeline's spec changed")),
        RunPhase::Pending if view.pipeline.suspend => {}
        RunPhase::Pending => steps::start(view, run, draft),
        RunPhase::Held => held(view, run, draft),
        _ => steps::advance(view, run, draft),
    }
}

/// A held run waits for a person, for a better listing or for a new request.
fn held(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) {
    let snapshot = run.output(StepName::Snapshot);
    let of_this =
        |l: &&Look| Some(l.probe.basis) == snapshot && l.result == Ok(Difference::Changed);
    if view.world.intents.approved.contains(run.name()) || !steps::exceeds(view, run) {
        steps::release_from_hold(view, run, draft);
    } else if view
        .pipeline
        .sources
        .iter()
        .filter_map(|s| view.look(run.lane(), &s.name))
        .any(|l| of_this(&l))
    {
        draft.act(supersede(
            view,
            run,
            "the listing that was held changed: a new run reads it",
        ));
    } else if requested(view).is_some() || waits(view, run) {
        draft.act(supersede(view, run, "a person asked for a new run"));
    }
}

/// Whether a run that a person made waits for this one to end.
fn waits(view: &View<'_>, run: &MemoryRun) -> bool {
    let other = |r: &&MemoryRun| r.name() != run.name() && !r.phase().is_terminal();
    let mut waiting = view.runs_of(run.lane()).filter(other);
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
        ended(view, status_of(run), phase, reason, message),
    )
}

/// Writes a run's status, in bounds, and what its phase means to who waits for the run.
pub(crate) fn update(view: &View<'_>, run: &MemoryRun, status: MemoryRunStatus) -> Action {
    let mut status = limits::run(status);
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
    mut status: MemoryRunStatus,
    phase: RunPhase,
    reason: &str,
    message: &str,
) -> MemoryRunStatus {
    status
        .inputs
        .get_or_insert_with(|| view.pipeline.build_inputs());
    status.phase = phase;
    status.reason = Some(reason.to_owned());
    status.message = Some(message.to_owned());
    status.completion_time = Some(stamp(view.now));
    status.progress = None;
    status
}

fn create(view: &View<'_>, lane: Lane<'_>, draft: &mut Draft) {
    if view.pipeline.suspend || lane != Lane::Index {
        return;
    }
    let Some(cause) = cause(view, draft) else {
        return;
    };
    let spec = MemoryRunSpec {
        pipeline_ref: LocalRef {
            name: view.pipeline.name.clone(),
        },
        kind: RunKind::Refresh,
        adapter: None,
        trigger: cause.trigger,
        generation: Some(view.world.generation),
        scheduled_time: cause.scheduled.map(Time),
        look_time: view.newest_look().map(MicroTime),
        request: cause.request,
    };
    let name = name(view, lane, draft);
    draft.act(Action::CreateRun { name, spec });
}

/// `<pipeline>-<date>-<time>` in UTC, an adapter's `<pipeline>-<adapter>-<date>-<time>`, never one that is taken: by a run,
/// by one that this plan creates, or by one that is gone and made a release. Who deletes a pipeline and applies it again
/// may do so within a second.
fn name(view: &View<'_>, lane: Lane<'_>, draft: &Draft) -> String {
    let time = view
        .now
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%d-%H%M%S")
        .to_string();
    let of = match lane {
        Lane::Index => view.pipeline.name.clone(),
        Lane::Adapter(adapter) => format!("{}-{adapter}", view.pipeline.name),
    };
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

/// A request to run now that no run answers yet.
fn requested(view: &View<'_>) -> Option<String> {
    let token = view.world.intents.refresh.as_ref()?;
    let answered = view
        .runs
        .iter()
        .any(|r| r.spec.request.as_ref() == Some(token));
    (!answered).then(|| token.clone())
}

/// Why a run is due now, when none is live; or else when one may be.
pub(crate) fn cause(view: &View<'_>, draft: &mut Draft) -> Option<Cause> {
    if let Some(request) = requested(view) {
        return Some(Cause {
            request: Some(request),
            ..Cause::of(RunTrigger::Requested)
        });
    }
    let inputs = view.pipeline.build_inputs();
    let asked = owed(view);
    let newest = view.newest_ended(Lane::Index);
    // What a superseded run had found would be forgotten with it, so that another takes its place.
    if newest.is_some_and(|r| r.reason() == SUPERSEDED) {
        return Some(Cause::of(asked.unwrap_or(RunTrigger::SourceChanged)));
    }
    // A run that failed is not tried again before sources are due to be looked at.
    let failed = newest.filter(|r| r.phase() != RunPhase::Succeeded && r.inputs() == Some(&inputs));
    let failed = failed.and_then(RunView::ended);
    if let Some(trigger) = asked {
        let Some(failed) = failed else {
            return Some(Cause::of(trigger));
        };
        let due = view.pipeline.schedule.due(failed, view.now);
        if due.is_none() {
            draft.wake(view.pipeline.schedule.upcoming(failed, view.now));
        }
        return due.map(|due| Cause {
            scheduled: Some(due),
            ..Cause::of(trigger)
        });
    }
    let look = changed(view).find(|l| failed.is_none_or(|f| l.time > f))?;
    let trigger = if look.probe.due.is_some() {
        RunTrigger::Schedule
    } else {
        RunTrigger::SourceChanged
    };
    Some(Cause {
        scheduled: look.probe.due,
        ..Cause::of(trigger)
    })
}

/// Why a run is owed, whatever sources say: the newest good one is not what the spec asks for.
pub(crate) fn owed(view: &View<'_>) -> Option<RunTrigger> {
    match view.built_inputs() {
        None => Some(RunTrigger::Initial),
        Some(built) if built != view.pipeline.build_inputs() => Some(RunTrigger::SpecChanged),
        Some(_) => judged_anew(view),
    }
}

/// Looks that found a source to differ from what the last good run read, and that no run has answered: a
/// source that tells of a change and then cannot be read is read again after the next look, not at once.
pub(crate) fn changed<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a Look> {
    let (basis, answered) = (view.basis(Lane::Index), view.answered_look(Lane::Index));
    let looks = view
        .pipeline
        .sources
        .iter()
        .filter_map(|s| view.world.looks.get(&s.name));
    looks.filter(move |l| {
        Some(l.probe.basis) == basis
            && l.result == Ok(Difference::Changed)
            && Some(micro(l.time)) > answered
    })
}

/// Whether the newest content is neither served nor judged as it would be now.
fn judged_anew(view: &View<'_>) -> Option<RunTrigger> {
    let target: &MemoryRelease = view.target()?;
    if view.hold().is_some() || view.is_served(target) {
        return None;
    }
    match target.phase() {
        ReleasePhase::Rejected | ReleasePhase::Inconclusive if view.verdict_holds(target) => None,
        ReleasePhase::Rejected | ReleasePhase::Inconclusive | ReleasePhase::Superseded => {
            Some(RunTrigger::SpecChanged)
        }
        ReleasePhase::Retired => Some(RunTrigger::Requested),
        // Withdrawn: the hold is being taken back. Candidate: on its way. Serving: there.
        ReleasePhase::Withdrawn | ReleasePhase::Candidate | ReleasePhase::Serving => None,
    }
}

/// When the next attempt may begin after one that ended at `time` as the `attempt`th.
pub(crate) fn retry_at(time: Timestamp, attempt: i32) -> Timestamp {
    after(time, backoff(attempt.unsigned_abs()))
}
