//! The steps of a live run, one after the other.

mod accept;
mod input;

use jiff::Timestamp;
use loci_crds::budget::RunCost;
use loci_crds::run::{RunPhase, StepName, StepStatus};
use loci_crds::{MemoryRun, MemoryRunStatus};

use crate::action::Action;
use crate::budget;
use crate::clock::stamp;
use crate::plan::Draft;
use crate::progress;
use crate::runs::{MAX_ATTEMPTS, end, ended, retry_at, update};
use crate::schedule::Hours;
use crate::view::{Lane, RunView, View, status_of};
use crate::world::{StepFailure, StepKey, StepOutcome};
use accept::{accept, said};
pub(crate) use accept::{exceeds, release_from_hold};
use input::input;

/// Why a run is where it was: its step failed, and is tried again.
pub(crate) const RETRYING: &str = "Retrying";
/// Why a run failed: no source held a document.
pub(crate) const EMPTY: &str = "EmptyCorpus";

/// Starts a run that was pending.
pub(crate) fn start(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) {
    let mut status = status_of(run);
    status.phase = RunPhase::Running;
    status.start_time = Some(stamp(view.now));
    status.inputs = run.lane().and_then(|lane| view.inputs(lane));
    if let Some(first) = StepName::of(run.spec.kind).first() {
        begin(view, run, status, *first, draft);
    }
}

/// Takes what the current attempt came to, or sees that it is made.
pub(crate) fn advance(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) {
    let mut status = status_of(run);
    let open = status
        .steps
        .iter()
        .find(|s| s.completion_time.is_none())
        .map(|s| s.name);
    let Some(step) = open else {
        // A run that a person made to say so: there is nothing that it could go on from.
        draft.act(end(
            view,
            run,
            RunPhase::Failed,
            "NoStep",
            "the run says that it runs, but not at which step: delete it",
        ));
        return;
    };
    let key = StepKey {
        run: run.name().to_owned(),
        step,
        attempt: status.attempt,
    };
    match view.outcome(&key) {
        None => work(view, run, status, key, draft),
        Some(StepOutcome {
            result: Ok(result),
            time,
            ..
        }) => {
            status.progress = None;
            if let Some(done) = status.steps.iter_mut().find(|s| s.name == step) {
                done.completion_time = Some(stamp(*time));
                (done.output, done.summary) = said(result);
            }
            accept(view, run, status, result, draft);
        }
        Some(StepOutcome {
            result: Err(failure),
            ..
        }) => fail(view, run, status, step, failure, draft),
    }
}

/// Sees that an attempt is at work, while it may be.
fn work(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    key: StepKey,
    draft: &mut Draft,
) {
    budget::charge(view, run, &mut status);
    let cost = status.cost.as_ref().filter(|_| key.step == StepName::Train);
    if let Some(cost) = cost.and_then(|cost| budget::changed(view, cost, run)) {
        pay_anew(view, run, status, cost, draft);
        return;
    }
    let at_work = view.world.in_flight.contains(&key);
    let hours = view.hours(run, key.step);
    let (Hours::Open(until) | Hours::Closed(until)) = hours;
    draft.wake(until);
    match hours {
        Hours::Open(_) if at_work => progress::plan(view, run, status, &key, draft),
        Hours::Open(_) => dispatch(view, run, key, draft),
        Hours::Closed(opens) if at_work => put_off(view, run, status, opens, draft),
        Hours::Closed(_) => {}
    }
}

/// Writes by which terms a training goes on, or ends, now that the budget is another. An attempt that was sent out with
/// another limit is not waited for any more.
fn pay_anew(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    cost: RunCost,
    draft: &mut Draft,
) {
    if budget::is_shared(view) && !draft.book() {
        return;
    }
    let limit = cost.max_device_seconds;
    let before = status.cost.replace(cost);
    let used_up = status.cost.as_ref().is_some_and(budget::is_used_up);
    if used_up {
        let cost = budget::sentence(&status).unwrap_or_default();
        let message = format!("the budget has changed: {cost}");
        let reason = budget::EXCEEDED;
        status = ended(view, run, status, RunPhase::Failed, reason, &message);
    } else if before.is_none_or(|before| before.max_device_seconds != limit) {
        status.attempt += 1;
        status.progress = None;
        status.reason = Some("BudgetChanged".to_owned());
        let message = "the budget has changed: it goes on from where it was, by that";
        status.message = Some(message.to_owned());
    }
    draft.act(update(view, run, status));
}

/// Writes that an attempt is not waited for any more: its window has closed. The next plan has it stopped; the next attempt
/// goes on from where it was.
fn put_off(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    opens: Option<Timestamp>,
    draft: &mut Draft,
) {
    let next = opens.map_or_else(|| "none".to_owned(), |t| stamp(t).0.to_string());
    status.attempt += 1;
    status.progress = None;
    status.reason = Some("OutsideWindow".to_owned());
    status.message = Some(format!(
        "its window has closed: it goes on in the next, which opens at {next}"
    ));
    draft.act(update(view, run, status));
}

fn fail(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    step: StepName,
    failure: &StepFailure,
    draft: &mut Draft,
) {
    let attempt = status.attempt;
    status.progress = None;
    let mut message = format!(
        "{} failed at attempt {attempt}: {}",
        step.as_str(),
        failure.message
    );
    if step == StepName::Train && failure.reason == budget::EXCEEDED {
        budget::used_up(&mut status);
        let cost = budget::sentence(&status).into_iter();
        message.extend(cost.flat_map(|cost| ["; ".to_owned(), cost]));
    }
    // A training that was put off has begun more often than it has failed.
    let failures = match step {
        StepName::Train => view.failures(run, step),
        _ => attempt,
    };
    if failure.retryable && failures < MAX_ATTEMPTS {
        status.attempt += 1;
        status.reason = Some(RETRYING.to_owned());
        status.message = Some(message);
    } else {
        status = ended(
            view,
            run,
            status,
            RunPhase::Failed,
            &failure.reason,
            &message,
        );
    }
    draft.act(update(view, run, status));
}

/// Dispatches an attempt that is not under way, unless it must wait after a failure.
fn dispatch(view: &View<'_>, run: &MemoryRun, key: StepKey, draft: &mut Draft) {
    let before = StepKey {
        attempt: key.attempt - 1,
        ..key.clone()
    };
    if let Some(StepOutcome {
        result: Err(_),
        time,
        ..
    }) = view.outcome(&before)
    {
        let at = retry_at(*time, before.attempt);
        if at > view.now {
            draft.wake(Some(at));
            return;
        }
    }
    match input(view, run, key.step) {
        Some(input) => draft.act(Action::Dispatch { key, input }),
        // It waits for what it is to be put upon.
        None if run.lane() != Some(Lane::Index) && view.desired().is_none() => {}
        None => draft.act(end(
            view,
            run,
            RunPhase::Failed,
            "OutputLost",
            "what an earlier step made is not recorded any more: the next look starts a new run",
        )),
    }
}

/// Writes that a step began. The next plan dispatches it.
fn begin(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    step: StepName,
    draft: &mut Draft,
) {
    status.attempt = 1;
    (status.reason, status.message, status.progress) = (None, None, None);
    status.steps.retain(|s| s.name != step);
    status.steps.push(StepStatus {
        name: step,
        start_time: stamp(view.now),
        completion_time: None,
        output: None,
        summary: None,
    });
    draft.act(update(view, run, status));
}
