//! The pipeline's status: conditions, sources, what serves.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::pipeline::SourceStatus;
use loci_crds::release::{Outcome, ReleasePhase};
use loci_crds::run::{RunPhase, RunTrigger, StepName};
use loci_crds::{MemoryPipeline, MemoryPipelineStatus, MemoryRun};

use crate::clock::{after, stamp};
use crate::conditions::{Finding, Truth, conditions};
use crate::plan::Draft;
use crate::runs::{cause, changed};
use crate::spec::FieldError;
use crate::view::{ReleaseView, RunView, View};
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
    let fresh = up_to_date(view)
        .then(|| {
            sources
                .iter()
                .map(|s| s.last_success_time.clone())
                .min()
                .flatten()
        })
        .flatten();
    let last_refresh_time = fresh.max(before.last_refresh_time.clone());
    let findings = [
        ready(view),
        reconciling(view),
        stalled(view),
        synced(view, &sources),
        index_fresh(view, last_refresh_time.as_ref(), draft),
        gate_passed(view),
        serving(view),
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
    }
}

/// The next look by schedule.
fn next_look(view: &View<'_>) -> Option<Timestamp> {
    if view.pipeline.suspend {
        return None;
    }
    let last = |name: &str| view.last_look(name);
    let next = view
        .pipeline
        .sources
        .iter()
        .filter_map(|s| view.pipeline.schedule.next(last(&s.name)?));
    next.min()
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
    if let Some((time, read)) = view.runs.iter().rev().find_map(|r| read(view, r, name)) {
        status.documents = read.documents as i64;
        status.skipped = read.skipped as i64;
        note(&mut status, time, read.error.as_ref());
    }
    if let Some(Look { time, result, .. }) = view.look(name) {
        note(&mut status, *time, result.as_ref().err());
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
    status.error = error.cloned();
    if error.is_none() {
        status.last_success_time = status.last_success_time.take().max(Some(stamp(time)));
    }
}

/// Whether what serves is what the sources held when they were last looked at.
fn up_to_date(view: &View<'_>) -> bool {
    let served = match (view.target(), view.desired()) {
        (Some(target), Some(desired)) => target.content() == desired.content(),
        _ => false,
    };
    let newest_good = view
        .newest_ended()
        .is_some_and(|r| r.phase() == RunPhase::Succeeded);
    let unchanged =
        |l: &Look| Some(l.probe.basis) == view.basis() && l.result == Ok(Difference::Unchanged);
    let looked = |name: &str| view.look(name).is_some_and(unchanged);
    let known = newest_good || view.pipeline.sources.iter().all(|s| looked(&s.name));
    served && known && view.live().is_none() && changed(view).next().is_none()
}

fn ready(view: &View<'_>) -> Finding {
    let wanted = view.world.serving.desired.as_deref();
    let current = view.world.serving.current.as_deref();
    let (reason, message) = match (wanted, current) {
        (Some(wanted), Some(current)) if wanted == current => {
            return Finding::new("Ready", true, "Serving", format!("{current} serves"));
        }
        (None, None) => match view
            .newest_ended()
            .filter(|r| r.phase() == RunPhase::Failed && view.live().is_none())
        {
            Some(run) => (run.reason().to_owned(), message_of(run)),
            None => ("NoRelease".to_owned(), "no release yet".to_owned()),
        },
        (wanted, current) => match wanted.and_then(|w| view.world.serving.failures.get(w)) {
            Some(failure) if current.is_none() => (
                "LoadFailed".to_owned(),
                format!(
                    "{} cannot be loaded: {}; `loci rollback` serves an older release",
                    wanted.unwrap_or_default(),
                    failure.message
                ),
            ),
            _ if current.is_some() => {
                return Finding::new(
                    "Ready",
                    true,
                    "Switching",
                    format!("{} serves", current.unwrap_or_default()),
                );
            }
            _ => (
                "Loading".to_owned(),
                format!("{} is being loaded", wanted.unwrap_or_default()),
            ),
        },
    };
    Finding::new("Ready", false, reason, message)
}

fn message_of(run: &MemoryRun) -> String {
    run.status
        .as_ref()
        .and_then(|s| s.message.clone())
        .unwrap_or_default()
}

/// Whether work that the generation asked for is under way; what a schedule started does not count.
fn reconciling(view: &View<'_>) -> Finding {
    let asked = |t: RunTrigger| matches!(t, RunTrigger::Initial | RunTrigger::SpecChanged);
    if let Some(run) = view.live().filter(|r| asked(r.spec.trigger)) {
        return Finding::new(
            "Reconciling",
            true,
            "Running",
            format!("{} is under way", run.name()),
        );
    }
    let due = view.live().is_none() && !view.pipeline.suspend;
    if due && cause(view, &mut Draft::default()).is_some_and(|c| asked(c.trigger)) {
        return Finding::new(
            "Reconciling",
            true,
            "RunDue",
            "a run for this generation is due",
        );
    }
    if view.desired().is_none()
        && view
            .releases
            .iter()
            .any(|r| r.phase() == ReleasePhase::Candidate)
    {
        return Finding::new(
            "Reconciling",
            true,
            "Promoting",
            "the first release is being loaded",
        );
    }
    Finding::new(
        "Reconciling",
        false,
        "UpToDate",
        "nothing that this generation asked for is under way",
    )
}

/// Whether what the generation asks for cannot come about without a change from outside.
fn stalled(view: &View<'_>) -> Finding {
    if let Some(Err(message)) = view.hold().map(|h| h.release) {
        return Finding::new("Stalled", true, "HoldNotPossible", message);
    }
    let inputs = view.pipeline.build_inputs();
    let built = view
        .newest_succeeded()
        .is_some_and(|r| r.inputs() == Some(&inputs));
    let failed = view
        .newest_ended()
        .filter(|r| r.phase() == RunPhase::Failed && r.inputs() == Some(&inputs));
    if let Some(run) = failed.filter(|_| !built && view.live().is_none()) {
        return Finding::new(
            "Stalled",
            true,
            run.reason(),
            format!(
                "{}: {}; it is tried again at the next look",
                run.name(),
                message_of(run)
            ),
        );
    }
    Finding::new("Stalled", false, "Progressing", "nothing stands in the way")
}

fn synced(view: &View<'_>, sources: &[SourceStatus]) -> Finding {
    let failed: Vec<_> = sources
        .iter()
        .filter_map(|s| s.error.as_ref().map(|e| format!("{}: {e}", s.name)))
        .collect();
    if let Some(run) = view.live().filter(|r| r.phase() == RunPhase::Held) {
        return Finding::new("SourcesSynced", false, run.reason(), message_of(run));
    }
    if !failed.is_empty() {
        return Finding::new("SourcesSynced", false, "SourceFailed", failed.join("; "));
    }
    if sources.iter().any(|s| s.last_success_time.is_none()) {
        return Finding::new(
            "SourcesSynced",
            Truth::Unknown,
            "NotRead",
            "not every source was read yet",
        );
    }
    Finding::new(
        "SourcesSynced",
        true,
        "AllRead",
        "every source was read without an error",
    )
}

fn index_fresh(view: &View<'_>, refreshed: Option<&Time>, draft: &mut Draft) -> Finding {
    let kind = "IndexFresh";
    let Some(until) = refreshed.map(|t| after(t.0, view.pipeline.freshness)) else {
        return Finding::new(kind, Truth::Unknown, "NoRelease", "nothing is served yet");
    };
    if until > view.now {
        draft.wake(Some(until));
        return Finding::new(
            kind,
            true,
            "Fresh",
            "what serves was up to date within the promised time",
        );
    }
    let newest_failed = view
        .newest_ended()
        .is_some_and(|r| r.phase() == RunPhase::Failed);
    let rejected = view.target().map(|t| t.phase());
    let (reason, message) = if view.pipeline.suspend {
        ("Suspended", "the pipeline is suspended")
    } else if view.hold().is_some() {
        ("Held", "the pipeline is held on a release")
    } else if view.live().is_some_and(|r| r.phase() == RunPhase::Held) {
        ("MaxDeletionExceeded", "a run waits for approval")
    } else if newest_failed {
        ("RunFailed", "the newest run failed")
    } else if matches!(
        rejected,
        Some(ReleasePhase::Rejected | ReleasePhase::Inconclusive)
    ) {
        ("NotPromoted", "the newest content did not pass its gates")
    } else {
        (
            "Stale",
            "no look at all sources succeeded within the promised time",
        )
    };
    Finding::new(kind, false, reason, message)
}

/// What the gates said of the newest release.
fn gate_passed(view: &View<'_>) -> Finding {
    let kind = "GatePassed";
    let judged = view.target().or_else(|| view.releases.last().copied());
    let verdict = judged.and_then(|r| Some((r.name(), r.status.as_ref()?.verdict.as_ref()?)));
    let Some((name, verdict)) = verdict else {
        return Finding::new(
            kind,
            Truth::Unknown,
            "NotJudged",
            "no candidate was judged yet",
        );
    };
    let against: Vec<_> = verdict
        .gates
        .iter()
        .filter(|g| g.outcome == verdict.outcome && g.outcome != Outcome::Passed)
        .map(|g| format!("{} {}: {}", g.suite, g.metric, g.message))
        .collect();
    let (truth, reason) = match verdict.outcome {
        Outcome::Passed | Outcome::NotApplicable => (true, "Passed"),
        Outcome::Failed => (false, "Failed"),
        Outcome::Inconclusive => (false, "Inconclusive"),
    };
    let detail = if against.is_empty() {
        "passed".to_owned()
    } else {
        against.join("; ")
    };
    Finding::new(kind, truth, reason, format!("{name}: {detail}"))
}

fn serving(view: &View<'_>) -> Finding {
    let Some(current) = view.world.serving.current.as_deref() else {
        return Finding::new("Serving", false, "NoRelease", "nothing answers queries");
    };
    match view.hold() {
        Some(hold) => Finding::new(
            "Serving",
            true,
            "Held",
            format!(
                "{current} serves; {} holds the pipeline on release {}",
                hold.by, hold.number
            ),
        ),
        None => Finding::new("Serving", true, "Serving", format!("{current} serves")),
    }
}
