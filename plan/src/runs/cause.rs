//! Why a run is due: of the index, and what all lanes have in common.

use jiff::Timestamp;
use loci_crds::MemoryRelease;
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunPhase, RunTrigger};

use crate::clock::micro;
use crate::plan::Draft;
use crate::steps::EMPTY;
use crate::view::{Lane, ReleaseView, RunView, SUPERSEDED, View};
use crate::world::{Difference, Look, key};

/// Why a run is due.
pub(crate) struct Cause {
    pub trigger: RunTrigger,
    pub scheduled: Option<Timestamp>,
    pub request: Option<String>,
}

impl Cause {
    pub fn of(trigger: RunTrigger) -> Self {
        Self {
            trigger,
            scheduled: None,
            request: None,
        }
    }
}

/// A request for a run of a lane that no run answers yet.
pub(super) fn requested(view: &View<'_>, lane: Lane<'_>) -> Option<Cause> {
    let token = view.asked(lane)?;
    let answered = view
        .runs_of(lane)
        .any(|r| r.spec.request.as_deref() == Some(token));
    (!answered).then(|| Cause {
        request: Some(token.to_owned()),
        ..Cause::of(RunTrigger::Requested)
    })
}

/// Why a run of the index is due now, when none is live; or else when one may be.
pub(crate) fn cause(view: &View<'_>, draft: &mut Draft) -> Option<Cause> {
    if let Some(requested) = requested(view, Lane::Index) {
        return Some(requested);
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
        // Where there was nothing to read, there may be now.
        let empty = newest.is_some_and(|r| r.reason() == EMPTY);
        if empty && view.world.hints.values().any(|hint| *hint > failed) {
            return Some(Cause::of(trigger));
        }
        let due = view.pipeline.schedule.due(failed, view.now);
        if due.is_none() {
            draft.wake(view.pipeline.schedule.upcoming(failed, view.now));
        }
        return due.map(|due| Cause {
            scheduled: Some(due),
            ..Cause::of(trigger)
        });
    }
    let look = changed(view, Lane::Index).find(|l| failed.is_none_or(|f| l.time > f))?;
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

/// Why a run of the index is owed, whatever sources say: the newest good one is not what the spec asks for.
pub(crate) fn owed(view: &View<'_>) -> Option<RunTrigger> {
    match view.built_inputs() {
        None => Some(RunTrigger::Initial),
        Some(built) if built != view.pipeline.build_inputs() => Some(RunTrigger::SpecChanged),
        Some(_) => judged_anew(view),
    }
}

/// Looks that found a source of a lane to differ from what its last good run read, and that no run has answered: a
/// source that tells of a change and then cannot be read is read again after the next look, not at once.
pub(crate) fn changed<'a>(view: &'a View<'_>, lane: Lane<'a>) -> impl Iterator<Item = &'a Look> {
    let (basis, answered) = (view.basis(lane), view.answered_look(lane));
    let sources = view.pipeline.read_by(lane.adapter());
    let looks = sources.filter_map(move |s| view.world.looks.get(&*key(lane.adapter(), &s.name)));
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
        // Another lane got further: it is put upon that, and nothing is built.
        ReleasePhase::Superseded if !view.is_on_top(target) => None,
        ReleasePhase::Rejected | ReleasePhase::Inconclusive | ReleasePhase::Superseded => {
            Some(RunTrigger::SpecChanged)
        }
        ReleasePhase::Retired => Some(RunTrigger::Requested),
        // Withdrawn: the hold is being taken back. Candidate: on its way. Serving: there.
        ReleasePhase::Withdrawn | ReleasePhase::Candidate | ReleasePhase::Serving => None,
    }
}
