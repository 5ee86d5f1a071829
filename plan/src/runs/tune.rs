//! Why an adapter is trained.

use std::time::Duration;

use loci_crds::MemoryRun;
use loci_crds::adapter::ConcurrencyPolicy;
use loci_crds::run::RunTrigger;

use super::cause::{Cause, changed, requested};
use crate::budget::{self, DEFERRED};
use crate::clock::after;
use crate::plan::Draft;
use crate::spec::Adapter;
use crate::view::{Lane, RunView, SUPERSEDED, View};

/// The least time from a run to the next that new examples trigger.
const PAUSE: Duration = Duration::from_secs(600);

/// Why a run of an adapter is due now, when none is live; or else when one may be. Nothing is trained before there is an
/// index to release it with, nor before there is money for it.
pub(super) fn cause(view: &View<'_>, name: &str, draft: &mut Draft) -> Option<Cause> {
    let adapter = view.pipeline.adapter(name).filter(|a| !view.suspends(a))?;
    let cause = wanted(view, adapter, draft)?;
    budget::short(view, adapter).is_none().then_some(cause)
}

fn wanted(view: &View<'_>, adapter: &Adapter, draft: &mut Draft) -> Option<Cause> {
    let name = adapter.name.as_str();
    let lane = Lane::Adapter(name);
    view.desired()?;
    if let Some(requested) = requested(view, lane) {
        return Some(requested);
    }
    if let Some(due) = view.due(adapter) {
        return Some(Cause {
            scheduled: Some(due),
            ..Cause::of(RunTrigger::Schedule)
        });
    }
    draft.wake(view.upcoming(adapter));
    // Another takes the place of one that gave way, or that there was no money for.
    let newest = view.newest_ended(lane);
    let gave_way = |r: &&MemoryRun| [SUPERSEDED, DEFERRED].contains(&r.reason());
    if let Some(run) = newest.filter(gave_way) {
        return Some(Cause {
            scheduled: run.spec.scheduled_time.as_ref().map(|t| t.0),
            ..Cause::of(run.spec.trigger)
        });
    }
    examples(view, adapter, draft)
}

/// Whether examples may be new: sources changed since they were last read, or never were. A run tells how many are.
fn examples(view: &View<'_>, adapter: &Adapter, draft: &mut Draft) -> Option<Cause> {
    adapter.trigger?;
    let lane = Lane::Adapter(&adapter.name);
    let unread = view.basis(lane).is_none();
    if !unread && changed(view, lane).next().is_none() {
        return None;
    }
    let newest = view.newest_ended(lane).and_then(RunView::ended);
    let at = newest.map(|ended| after(ended, PAUSE));
    if at.is_some_and(|at| at > view.now) {
        draft.wake(at);
        return None;
    }
    Some(Cause::of(RunTrigger::NewExamples))
}

/// Whether a run of an adapter gives way to the one that is due.
pub(super) fn gives_way(view: &View<'_>, run: &MemoryRun, draft: &mut Draft) -> bool {
    let adapter = run.lane().and_then(Lane::adapter);
    let adapter = adapter.and_then(|name| view.pipeline.adapter(name));
    let replaces = |a: &&Adapter| a.concurrency == ConcurrencyPolicy::Replace && !view.suspends(a);
    let Some(adapter) = adapter.filter(replaces) else {
        return false;
    };
    draft.wake(view.upcoming(adapter));
    let due = !view.pipeline.suspend && view.due(adapter).is_some();
    due && budget::affords(view, adapter, run)
}
