//! What becomes of what steps made.

use loci_crds::run::{DatasetStatus, RunKind, RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryRun, MemoryRunStatus};

use super::{EMPTY, begin};
use crate::action::Action;
use crate::budget;
use crate::compose::Composed;
use crate::judge;
use crate::plan::Draft;
use crate::runs::{end, ended, update};
use crate::view::{Lane, ReleaseView, RunView, View, status_of};
use crate::world::{Collected, Evaluated, Snapshot, SourceSnapshot, StepResult};

pub(super) fn said(result: &StepResult) -> (Option<String>, Option<String>) {
    let summary = match result {
        StepResult::Snapshot(s) => &s.summary,
        StepResult::Embed(e) => &e.summary,
        StepResult::Assemble(a) => &a.summary,
        StepResult::Collect(c) => &c.summary,
        StepResult::Train(t) => &t.summary,
        StepResult::Evaluate(e) => &e.summary,
    };
    (Some(result.output().to_string()), Some(summary.clone()))
}

pub(super) fn accept(
    view: &View<'_>,
    run: &MemoryRun,
    status: MemoryRunStatus,
    result: &StepResult,
    draft: &mut Draft,
) {
    match result {
        StepResult::Snapshot(snapshot) => accept_snapshot(view, run, status, snapshot, draft),
        StepResult::Embed(_) => begin(view, run, status, StepName::Assemble, draft),
        StepResult::Assemble(assembled) => {
            let composed = Composed::with_index(view, assembled);
            built(view, run, status, composed, draft);
        }
        StepResult::Collect(collected) => accept_collected(view, run, status, collected, draft),
        StepResult::Train(_) => match Composed::of(view, run) {
            Some(composed) => built(view, run, status, composed, draft),
            None => begin(view, run, status, StepName::Evaluate, draft),
        },
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
    } else if run.lane() != Some(Lane::Index) {
        begin(view, run, status, StepName::Collect, draft);
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
            ended(view, run, status, RunPhase::Failed, EMPTY, &message),
        ));
    } else {
        begin(view, run, status, StepName::Embed, draft);
    }
}

/// Sources that lose more documents than allowed, for people. What was pushed and is gone was deleted by name, and is no listing
/// that came back short.
fn losses(view: &View<'_>, snapshot: &Snapshot) -> Vec<String> {
    let allowed = view.pipeline.max_deletion;
    let lost = snapshot
        .sources
        .iter()
        .filter(|(name, _)| !view.pipeline.is_pushed(name))
        .filter(|(_, s)| s.removed as f64 > allowed * s.before as f64);
    let say = |(name, s): (&String, &SourceSnapshot)| {
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

/// What is not worth a training ends the run.
fn accept_collected(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    collected: &Collected,
    draft: &mut Draft,
) {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    status.dataset = Some(DatasetStatus {
        content: collected.content.to_string(),
        examples: count(collected.total),
        new_examples: count(collected.new),
    });
    match &collected.not_enough {
        Some(why) => {
            let reason = "NotEnoughSignal";
            let status = ended(view, run, status, RunPhase::Succeeded, reason, why);
            draft.act(update(view, run, status));
        }
        None if !budget::is_shared(view) || draft.book() => {
            let_go(view, run, status, collected.total, draft)
        }
        // Another training is let go first.
        None => {}
    }
}

/// A training begins when there is money for it.
fn let_go(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    examples: u64,
    draft: &mut Draft,
) {
    let terms = budget::terms(view, run, examples);
    status.cost = Some(terms.cost);
    match terms.refused {
        None => begin(view, run, status, StepName::Train, draft),
        Some(refused) => {
            let (phase, reason) = (refused.phase, refused.reason);
            let status = ended(view, run, status, phase, reason, &refused.message);
            draft.act(update(view, run, status));
        }
    }
}

/// What is served or was judged already ends the run; other content is judged.
fn built(
    view: &View<'_>,
    run: &MemoryRun,
    status: MemoryRunStatus,
    composed: Composed,
    draft: &mut Draft,
) {
    let known = judge::known(view, run.name(), &composed);
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
    let same = evaluated.subjects == view.subjects();
    match Composed::of(view, run) {
        None if run.lane() == Some(Lane::Index) || view.desired().is_some() => {
            let message = format!(
                "what {} made is not recorded any more: the next look starts a new run",
                builder(run.spec.kind)
            );
            draft.act(end(view, run, RunPhase::Failed, "OutputLost", &message));
            return;
        }
        Some(composed) if same => {
            candidate(view, run, status, composed, Some(evaluated), draft);
            return;
        }
        _ => {}
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

/// Who made what is judged.
fn builder(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Refresh => StepName::Assemble.as_str(),
        RunKind::FineTune => StepName::Train.as_str(),
        RunKind::Rebase => "the run of the release",
    }
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
    // Numbers count up: a release that another lane makes now comes first.
    let makes = |a: &Action| matches!(a, Action::CreateRelease { .. });
    if draft.actions.iter().any(makes) {
        return;
    }
    let (name, spec, state) = judge::release(view, run, composed, evaluated);
    let message = judge::sentence(&name, state.phase);
    draft.act(Action::CreateRelease {
        name: name.clone(),
        spec: Box::new(spec),
        status: Box::new(state),
    });
    let mut status = ended(view, run, status, RunPhase::Succeeded, "Built", &message);
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
    let mut status = ended(view, run, status, RunPhase::Succeeded, reason, message);
    status.release = Some(release.name().to_owned());
    draft.act(update(view, run, status));
}
