//! What another lane overtook is put upon what serves by now, and judged as that.
//!
//! A release is what served when it was made, with one component replaced. When another component is promoted first, it
//! may not be promoted any more: that would take the other back. A rebase composes it anew and asks the suites; what they
//! said of unchanged components is looked up. So does a rebase bring back what a rollback took, have what was rejected
//! judged by other gates, and take out of what serves an adapter that is not declared any more.

use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunKind, RunPhase, RunTrigger};
use loci_crds::{MemoryRelease, MemoryRun};

use super::cause::Cause;
use super::{cancel, name, spec, supersede};
use crate::action::Action;
use crate::compose::Composed;
use crate::judge;
use crate::plan::Draft;
use crate::steps;
use crate::view::{Lane, ReleaseView, RunView, SUPERSEDED, View};

/// A release whose new component is to be put upon what serves, and why.
pub(crate) struct Owed<'a> {
    pub release: &'a MemoryRelease,
    pub trigger: RunTrigger,
}

/// All that are, the oldest first. Nothing is while a person, or the spec, holds the pipeline on a release.
pub(crate) fn owed<'a>(view: &View<'a>) -> Vec<Owed<'a>> {
    if view.desired().is_none() || view.hold().is_some() {
        return Vec::new();
    }
    let lanes = view.lanes().into_iter();
    let overtaken = lanes.filter_map(|lane| overtaken(view, lane));
    let all = overtaken.chain(undeclared(view));
    let mut all: Vec<_> = all.filter(|o| is_new(view, o.release)).collect();
    all.sort_by_key(|o| o.release.spec.number);
    all
}

/// The newest release of a lane, when it does not serve and is not judged as it would be now.
fn overtaken<'a>(view: &View<'a>, lane: Lane<'a>) -> Option<Owed<'a>> {
    let tip = view.tip(lane).filter(|tip| !view.is_served(tip))?;
    let trigger = match lane {
        // What it is otherwise, a refresh sees to.
        Lane::Index => (tip.phase() == ReleasePhase::Superseded && !view.is_on_top(tip))
            .then(|| on_behalf_of(view, tip)),
        Lane::Adapter(name) => of_adapter(view, name, tip),
    };
    let release = tip;
    trigger.map(|trigger| Owed { release, trigger })
}

fn of_adapter(view: &View<'_>, name: &str, tip: &MemoryRelease) -> Option<RunTrigger> {
    let adapter = view.pipeline.adapter(name).filter(|a| !view.suspends(a))?;
    let mut adapters = tip.spec.adapters.iter();
    adapters.find(|a| a.name == name && a.base == adapter.base)?;
    let holds = view.verdict_holds(tip);
    match tip.phase() {
        ReleasePhase::Superseded if holds => Some(on_behalf_of(view, tip)),
        ReleasePhase::Retired => Some(RunTrigger::Requested),
        ReleasePhase::Superseded | ReleasePhase::Rejected | ReleasePhase::Inconclusive => {
            (!holds).then_some(RunTrigger::SpecChanged)
        }
        ReleasePhase::Withdrawn | ReleasePhase::Candidate | ReleasePhase::Serving => None,
    }
}

/// Why what was overtaken is put upon what serves: what the spec asked for is still asked for.
fn on_behalf_of(view: &View<'_>, release: &MemoryRelease) -> RunTrigger {
    let run = view.runs.iter().find(|r| r.name() == release.spec.run);
    match run.map(|r| r.spec.trigger) {
        Some(RunTrigger::Initial | RunTrigger::SpecChanged) => RunTrigger::SpecChanged,
        _ => RunTrigger::Rebased,
    }
}

/// What serves, when it has an adapter that is not declared any more.
fn undeclared<'a>(view: &View<'a>) -> Option<Owed<'a>> {
    let release = view.desired()?;
    let mut adapters = release.spec.adapters.iter();
    adapters.find(|a| view.pipeline.adapter(&a.name).is_none())?;
    let trigger = RunTrigger::SpecChanged;
    Some(Owed { release, trigger })
}

/// Whether what would come of it neither serves nor waits to, and was not judged.
fn is_new(view: &View<'_>, release: &MemoryRelease) -> bool {
    let composed = Composed::again(view, release);
    composed.is_some_and(|c| judge::known(view, "", &c).is_none())
}

/// What becomes of rebases: one at a time.
pub(super) fn plan(view: &View<'_>, draft: &mut Draft) {
    let live = || view.rebases().filter(|r| !r.phase().is_terminal());
    if cancel(view, live(), draft) {
        return;
    }
    let Some(run) = live().next() else {
        return create(view, draft);
    };
    let made = view.releases.iter().any(|r| r.spec.run == run.name());
    let release = run.spec.release.as_deref();
    let wanted = owed(view).iter().any(|o| Some(o.release.name()) == release);
    match run.phase() {
        _ if !made && !wanted => {
            let message = "what it would put upon what serves is not to be served any more";
            draft.act(supersede(view, run, message));
        }
        RunPhase::Pending if view.pipeline.suspend => {}
        RunPhase::Pending => steps::start(view, run, draft),
        _ => steps::advance(view, run, draft),
    }
}

fn create(view: &View<'_>, draft: &mut Draft) {
    if view.pipeline.suspend {
        return;
    }
    if let Some(owed) = due(view, draft) {
        let mut spec = spec(view, RunKind::Rebase, Cause::of(owed.trigger));
        spec.release = Some(owed.release.name().to_owned());
        let name = name(view, &format!("{}-rebase", view.pipeline.name), draft);
        draft.act(Action::CreateRun { name, spec });
    }
}

/// The first whose time has come: one that failed is not tried again before sources are due to be looked at.
pub(crate) fn due<'a>(view: &View<'a>, draft: &mut Draft) -> Option<Owed<'a>> {
    let schedule = &view.pipeline.schedule;
    owed(view).into_iter().find(|owed| {
        let of_it = |r: &&MemoryRun| {
            r.phase().is_terminal() && r.spec.release.as_deref() == Some(owed.release.name())
        };
        let last = view.rebases().rev().find(of_it);
        let last = last.filter(|r| r.reason() != SUPERSEDED);
        let Some(ended) = last.and_then(RunView::ended) else {
            return true;
        };
        let due = schedule.due(ended, view.now);
        if due.is_none() {
            draft.wake(schedule.upcoming(ended, view.now));
        }
        due.is_some()
    })
}
