//! The steps of the live run: Snapshot, Embed, Assemble, Evaluate.

use loci_crds::run::{RunPhase, StepName, StepStatus};
use loci_crds::{MemoryRelease, MemoryRun, MemoryRunStatus};
use loci_digest::Digest;

use crate::action::{Action, StepInput};
use crate::clock::stamp;
use crate::compose::Composed;
use crate::judge;
use crate::plan::Draft;
use crate::progress;
use crate::runs::{MAX_ATTEMPTS, end, ended, retry_at, update};
use crate::view::{ReleaseView, RunView, View, status_of};
use crate::world::{Assembled, Evaluated, Snapshot, StepFailure, StepKey, StepOutcome, StepResult};

/// Why a run is where it was: its step failed, and is tried again.
pub(crate) const RETRYING: &str = "Retrying";

/// Starts a run that was pending.
pub(crate) fn start(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) {
    let mut status = status_of(run);
    status.phase = RunPhase::Running;
    status.start_time = Some(stamp(view.now));
    status.inputs = Some(view.pipeline.build_inputs());
    begin(view, run, status, StepName::Snapshot, draft);
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
        None if view.world.in_flight.contains(&key) => {
            progress::plan(view, run, status, &key, draft)
        }
        None => dispatch(view, run, key, draft),
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
    let message = format!(
        "{} failed at attempt {attempt}: {}",
        step.as_str(),
        failure.message
    );
    if failure.retryable && attempt < MAX_ATTEMPTS {
        status.attempt += 1;
        status.reason = Some(RETRYING.to_owned());
        status.message = Some(message);
    } else {
        status = ended(view, status, RunPhase::Failed, &failure.reason, &message);
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
        None => draft.act(end(
            view,
            run,
            RunPhase::Failed,
            "OutputLost",
            "what an earlier step made is not recorded any more: the next look starts a new run",
        )),
    }
}

/// What a step of the run works on.
fn input(view: &View<'_>, run: &MemoryRun, step: StepName) -> Option<StepInput> {
    let output = |step| run.output(step);
    Some(match step {
        StepName::Snapshot => StepInput::Snapshot {
            previous: view.last_listing(run.lane()),
        },
        StepName::Embed => StepInput::Embed {
            snapshot: output(StepName::Snapshot)?,
            previous: view
                .target()
                .or_else(|| view.desired())
                .and_then(ReleaseView::revision),
        },
        StepName::Assemble => StepInput::Assemble {
            change: output(StepName::Embed)?,
        },
        StepName::Evaluate => {
            let subjects = view.subjects();
            let revision = |name: &Option<String>| -> Option<Digest> {
                view.release(name.as_deref()?)?.revision()
            };
            StepInput::Evaluate {
                revision: output(StepName::Assemble)?,
                baseline: revision(&subjects.baseline),
                anchor: revision(&subjects.anchor),
                subjects,
            }
        }
    })
}

fn said(result: &StepResult) -> (Option<String>, Option<String>) {
    let summary = match result {
        StepResult::Snapshot(s) => &s.summary,
        StepResult::Embed(e) => &e.summary,
        StepResult::Assemble(a) => &a.summary,
        StepResult::Evaluate(e) => &e.summary,
    };
    (Some(result.output().to_string()), Some(summary.clone()))
}

fn accept(
    view: &View<'_>,
    run: &MemoryRun,
    status: MemoryRunStatus,
    result: &StepResult,
    draft: &mut Draft,
) {
    match result {
        StepResult::Snapshot(snapshot) => accept_snapshot(view, run, status, snapshot, draft),
        StepResult::Embed(_) => begin(view, run, status, StepName::Assemble, draft),
        StepResult::Assemble(assembled) => accept_assembled(view, run, status, assembled, draft),
        StepResult::Evaluate(evaluated) => accept_evaluated(view, run, status, evaluated, draft),
    }
}

fn accept_snapshot(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    snapshot: &Snapshot,
    draft: &mut Draft,
) {
    let losses = losses(view, snapshot);
    if !losses.is_empty() && !status.approved {
        status.phase = RunPhase::Held;
        status.reason = Some("MaxDeletionExceeded".to_owned());
        status.message = Some(format!(
            "{}: approve the run, or wait for the source to recover",
            losses.join("; ")
        ));
        draft.act(update(view, run, status));
    } else if snapshot.sources.values().all(|s| s.documents == 0) {
        let errors: Vec<_> = snapshot
            .sources
            .iter()
            .filter_map(|(n, s)| s.error.as_ref().map(|e| format!("; {n}: {e}")))
            .collect();
        let message = format!(
            "no source holds a document that can be read{}: what is served stays",
            errors.concat()
        );
        draft.act(update(
            view,
            run,
            ended(view, status, RunPhase::Failed, "EmptyCorpus", &message),
        ));
    } else {
        begin(view, run, status, StepName::Embed, draft);
    }
}

/// Sources that lose more documents than allowed, for people.
fn losses(view: &View<'_>, snapshot: &Snapshot) -> Vec<String> {
    let allowed = view.pipeline.max_deletion;
    let lost = snapshot
        .sources
        .iter()
        .filter(|(_, s)| s.removed as f64 > allowed * s.before as f64);
    let say = |(name, s): (&String, &crate::world::SourceSnapshot)| {
        format!(
            "source {name} would lose {} of {} documents, more than maxDeletion ({:.0}%)",
            s.removed,
            s.before,
            allowed * 100.0
        )
    };
    lost.map(say).collect()
}

/// Whether the held run's listing still loses too much; when that is not known any more, it does.
pub(crate) fn exceeds(view: &View<'_>, run: &MemoryRun) -> bool {
    match view.made(run, StepName::Snapshot) {
        Some(StepResult::Snapshot(snapshot)) => !losses(view, snapshot).is_empty(),
        _ => true,
    }
}

/// Lets a held run go on: a person approved, or the limit was raised.
pub(crate) fn release_from_hold(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) {
    let Some(StepResult::Snapshot(snapshot)) = view.made(run, StepName::Snapshot) else {
        draft.act(end(
            view,
            run,
            RunPhase::Failed,
            "OutputLost",
            "what the held run listed is not recorded any more: the next look starts a new run",
        ));
        return;
    };
    let mut status = status_of(run);
    status.approved = view.world.intents.approved.contains(run.name());
    status.phase = RunPhase::Running;
    accept_snapshot(view, run, status, snapshot, draft);
}

/// Content that is served or was judged already ends the run; other content is judged.
fn accept_assembled(
    view: &View<'_>,
    run: &MemoryRun,
    status: MemoryRunStatus,
    assembled: &Assembled,
    draft: &mut Draft,
) {
    let composed = Composed::with_index(view, assembled);
    let known = judge::known(view, run.name(), &composed.composition());
    if let Some((known, reason, message)) = known {
        succeed(view, run, status, known, reason, &message, draft);
    } else if view.pipeline.suites.is_empty() {
        candidate(view, run, status, composed, None, draft);
    } else {
        begin(view, run, status, StepName::Evaluate, draft);
    }
}

fn accept_evaluated(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    evaluated: &Evaluated,
    draft: &mut Draft,
) {
    let Some(StepResult::Assemble(assembled)) = view.made(run, StepName::Assemble) else {
        draft.act(end(
            view,
            run,
            RunPhase::Failed,
            "OutputLost",
            "what Assemble made is not recorded any more: the next look starts a new run",
        ));
        return;
    };
    if evaluated.subjects == view.subjects() {
        let composed = Composed::with_index(view, assembled);
        candidate(view, run, status, composed, Some(evaluated), draft);
        return;
    }
    // What it was compared with is not what it would replace: ask again.
    if let Some(step) = status
        .steps
        .iter_mut()
        .find(|s| s.name == StepName::Evaluate)
    {
        (step.completion_time, step.output) = (None, None);
    }
    status.attempt += 1;
    status.message = Some(
        "what the candidate was compared with does not serve any more: it is judged again"
            .to_owned(),
    );
    draft.act(update(view, run, status));
}

/// Writes the release, then that the run came to it.
fn candidate(
    view: &View<'_>,
    run: &MemoryRun,
    status: MemoryRunStatus,
    composed: Composed,
    evaluated: Option<&Evaluated>,
    draft: &mut Draft,
) {
    if let Some(release) = view.releases.iter().find(|r| r.spec.run == run.name()) {
        succeed(
            view,
            run,
            status,
            release,
            "Built",
            &judge::sentence(release.name(), release.phase()),
            draft,
        );
        return;
    }
    let (name, spec, state) = judge::release(view, run, composed, evaluated);
    let message = judge::sentence(&name, state.phase);
    draft.act(Action::CreateRelease {
        name: name.clone(),
        spec: Box::new(spec),
        status: Box::new(state),
    });
    let mut status = ended(view, status, RunPhase::Succeeded, "Built", &message);
    status.release = Some(name);
    draft.act(update(view, run, status));
}

fn succeed(
    view: &View<'_>,
    run: &MemoryRun,
    status: MemoryRunStatus,
    release: &MemoryRelease,
    reason: &str,
    message: &str,
    draft: &mut Draft,
) {
    let mut status = ended(view, status, RunPhase::Succeeded, reason, message);
    status.release = Some(release.name().to_owned());
    draft.act(update(view, run, status));
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
