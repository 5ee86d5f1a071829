//! What each condition says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::pipeline::SourceStatus;
use loci_crds::release::{Outcome, ReleasePhase};
use loci_crds::run::RunPhase;
use loci_crds::{MemoryRelease, MemoryRun};

use super::work::{at_work, of_spec, rebase_due, rebasing};
use crate::clock::after;
use crate::conditions::{Finding, Truth};
use crate::plan::Draft;
use crate::rollout::{self, refusal};
use crate::runs::{cause, owed, rebase};
use crate::view::{Lane, ReleaseView, RunView, SUPERSEDED, View};

pub(super) fn ready(view: &View<'_>) -> Finding {
    let wanted = view.world.serving.desired.as_deref();
    let current = view.world.serving.current.as_deref();
    let (reason, message) = match (wanted, current) {
        (Some(wanted), Some(current)) if wanted == current => {
            return Finding::new("Ready", true, "Serving", format!("{current} serves"));
        }
        (None, None) => match view
            .newest_ended(Lane::Index)
            .filter(|r| r.phase() == RunPhase::Failed && view.live(Lane::Index).is_none())
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

pub(super) fn message_of(run: &MemoryRun) -> String {
    run.status
        .as_ref()
        .and_then(|s| s.message.clone())
        .unwrap_or_default()
}

/// Whether work that the generation asked for is under way; what a schedule or a person started does not count.
pub(super) fn reconciling(view: &View<'_>) -> Finding {
    let (truth, reason, message) = match under_way(view) {
        _ if view.hold().is_some_and(|h| h.release.is_err()) => {
            let message = "nothing is promoted while the hold cannot be kept";
            (false, "HoldNotPossible", message.to_owned())
        }
        Some((reason, message)) => (true, reason, message),
        None => {
            let message = "nothing that this generation asked for is under way";
            (false, "UpToDate", message.to_owned())
        }
    };
    Finding::new("Reconciling", truth, reason, message)
}

fn under_way(view: &View<'_>) -> Option<(&'static str, String)> {
    let owed = owed(view).is_some_and(of_spec);
    match view.live(Lane::Index) {
        // A run that was started for another reason may be all that the spec waits for.
        Some(run) if owed || of_spec(run.spec.trigger) => return Some(at_work(view, run)),
        None if !view.pipeline.suspend
            && cause(view, &mut Draft::default()).is_some_and(|c| owed || of_spec(c.trigger)) =>
        {
            return Some(("RunDue", "a run for this generation is due".to_owned()));
        }
        _ => {}
    }
    if let Some(run) = rebasing(view) {
        return Some(at_work(view, run));
    }
    if !view.pipeline.suspend && rebase_due(view) {
        return Some(("RunDue", "a run for this generation is due".to_owned()));
    }
    let current = view.world.serving.current.as_deref();
    let awaited = match view.hold() {
        // What a person serves by hand is not the spec's doing.
        Some(_) if view.world.intents.hold.is_some() => None,
        Some(pin) => pin.release.ok().filter(|r| current != Some(r.name())),
        None => candidate(view).or_else(|| switching(view, current?)),
    };
    let awaited = awaited.filter(|_| stuck(view).is_none());
    awaited.map(|r| ("Promoting", format!("{} is being loaded", r.name())))
}

/// What a release that could not be loaded repeatedly says.
fn stuck(view: &View<'_>) -> Option<String> {
    let (release, failure) = rollout::held(view).filter(|(_, failure)| failure.count > 1)?;
    Some(refusal(release.name(), failure))
}

/// The candidate that the generation asked for.
fn candidate<'a>(view: &View<'a>) -> Option<&'a MemoryRelease> {
    let waits = |r: &&&MemoryRelease| r.phase() == ReleasePhase::Candidate && wanted(view, r);
    view.releases.iter().find(waits).copied()
}

/// What is to answer in the place of `current`, when the generation asked for that.
fn switching<'a>(view: &View<'a>, current: &str) -> Option<&'a MemoryRelease> {
    let desired = view.desired().filter(|d| d.name() != current)?;
    wanted(view, desired).then_some(desired)
}

/// Whether a release was built because the spec asks for it, or is the first by this spec.
fn wanted(view: &View<'_>, release: &MemoryRelease) -> bool {
    let served = view.world.serving.current.as_deref();
    let served = served.and_then(|name| indexer(view, view.release(name)?));
    let outdated = served.is_some_and(|r| r.inputs() != Some(&view.pipeline.build_inputs()));
    outdated || maker(view, release).is_some_and(|run| of_spec(run.spec.trigger))
}

/// The run that made a release.
fn maker<'a>(view: &View<'a>, release: &MemoryRelease) -> Option<&'a MemoryRun> {
    let run = view.runs.iter().find(|run| run.name() == release.spec.run);
    run.copied()
}

/// The run that built the index of a release: that made it, or one that it got its index from.
fn indexer<'a>(view: &View<'a>, release: &MemoryRelease) -> Option<&'a MemoryRun> {
    let built = |r: &&MemoryRun| r.lane() == Some(Lane::Index);
    if release.lane() == Lane::Index && release.spec.adapters.is_empty() {
        return maker(view, release).filter(built);
    }
    let content = release.component(Lane::Index);
    let same = view.releases.iter().rev();
    let same = same.filter(|r| r.component(Lane::Index) == content);
    same.filter_map(|r| maker(view, r)).find(built)
}

/// Whether what the generation asks for cannot come about without a change from outside; never while it is
/// being worked on.
pub(super) fn stalled(view: &View<'_>, reconciling: &Finding) -> Finding {
    if let Some(Err(message)) = view.hold().map(|h| h.release) {
        return Finding::new("Stalled", true, "HoldNotPossible", message);
    }
    let inputs = view.pipeline.build_inputs();
    let given_up = |r: &MemoryRun| match r.phase() {
        RunPhase::Failed => true,
        RunPhase::Cancelled => r.reason() != SUPERSEDED,
        _ => false,
    };
    let failed = view
        .newest_ended(Lane::Index)
        .filter(|r| given_up(r))
        .filter(|r| r.inputs() == Some(&inputs));
    let owed = owed(view).is_some_and(of_spec);
    let idle = view.live(Lane::Index).is_none() && reconciling.truth != Truth::True;
    if let Some(run) = failed.filter(|_| owed && idle) {
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
    let rebased = view.rebases().rev().find(|r| r.phase().is_terminal());
    let unrebased = rebase::owed(view)
        .into_iter()
        .find(|o| of_spec(o.trigger))
        .filter(|_| reconciling.truth != Truth::True);
    if let Some(run) = rebased.filter(|r| given_up(r) && unrebased.is_some()) {
        let message = format!(
            "{}: {}; it is tried again at the next look",
            run.name(),
            message_of(run)
        );
        return Finding::new("Stalled", true, run.reason(), message);
    }
    let current = view.world.serving.current.as_deref();
    let held = view.hold().and_then(|hold| hold.release.ok());
    let elsewhere = held.is_some_and(|release| Some(release.name()) != current);
    let awaited = current.is_none() || candidate(view).is_some() || elsewhere;
    if let Some(message) = stuck(view).filter(|_| awaited && reconciling.truth != Truth::True) {
        return Finding::new("Stalled", true, "LoadFailed", message);
    }
    Finding::new("Stalled", false, "Progressing", "nothing stands in the way")
}

/// Why a source was not read, with the field that declares it.
fn at(view: &View<'_>, source: &str, error: &str) -> String {
    let place = view.pipeline.sources.iter().position(|s| s.name == source);
    match place.map(|i| format!("spec.sources[{i}]")) {
        Some(field) if !error.starts_with(&field) => format!("{field}: {error}"),
        _ => error.to_owned(),
    }
}

pub(super) fn synced(view: &View<'_>, sources: &[SourceStatus]) -> Finding {
    let failed: Vec<_> = sources
        .iter()
        .filter_map(|s| s.error.as_ref().map(|e| at(view, &s.name, e)))
        .collect();
    let mut live = view.lanes().into_iter().filter_map(|lane| view.live(lane));
    if let Some(run) = live.find(|r| r.phase() == RunPhase::Held) {
        return Finding::new("SourcesSynced", false, run.reason(), message_of(run));
    }
    if !failed.is_empty() {
        return Finding::new("SourcesSynced", false, "SourceFailed", failed.join("; "));
    }
    // What an adapter is trained on is read when it is trained.
    let indexed = |s: &&SourceStatus| view.pipeline.read_by(None).any(|i| i.name == s.name);
    let mut indexed = sources.iter().filter(indexed);
    if indexed.any(|s| s.last_success_time.is_none()) {
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

pub(super) fn index_fresh(view: &View<'_>, refreshed: Option<&Time>, draft: &mut Draft) -> Finding {
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
        .newest_ended(Lane::Index)
        .is_some_and(|r| r.phase() == RunPhase::Failed);
    let rejected = view.target().map(|t| t.phase());
    let (reason, message) = if view.pipeline.suspend {
        ("Suspended", "the pipeline is suspended")
    } else if view.hold().is_some() {
        ("Held", "the pipeline is held on a release")
    } else if view
        .live(Lane::Index)
        .is_some_and(|r| r.phase() == RunPhase::Held)
    {
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

/// What the gates said of the newest release: of each lane, and then of the worst.
pub(super) fn gate_passed(view: &View<'_>) -> Finding {
    let kind = "GatePassed";
    let index = view.target().or_else(|| view.releases.last().copied());
    let adapters = view.lanes().into_iter().filter(|l| *l != Lane::Index);
    let newest = adapters.filter_map(|lane| view.tip(lane)).chain(index);
    let judged = newest.filter_map(|r| Some((r.name(), r.status.as_ref()?.verdict.as_ref()?)));
    let verdict = judged.max_by_key(|(_, verdict)| severity(verdict.outcome));
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

/// Of equally bad verdicts the last counts: that of the index.
fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Passed | Outcome::NotApplicable => 0,
        Outcome::Inconclusive => 1,
        Outcome::Failed => 2,
    }
}

pub(super) fn serving(view: &View<'_>) -> Finding {
    let held = rollout::held(view).map(|(release, failure)| refusal(release.name(), failure));
    let Some(current) = view.world.serving.current.as_deref() else {
        let message = held.unwrap_or_else(|| "nothing answers queries".to_owned());
        return Finding::new("Serving", false, "NoRelease", message);
    };
    if let Some(message) = held {
        let message = format!("{current} serves; {message}");
        return Finding::new("Serving", true, "CandidateHeld", message);
    }
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
