//! When which source is looked at.

use jiff::Timestamp;
use loci_crds::run::{RunPhase, StepName};

use crate::action::Action;
use crate::plan::Draft;
use crate::view::{Lane, RunView, View};
use crate::world::{Probe, World};

/// Probes that are due: by schedule, or because a watch told of a change.
pub(crate) fn plan(view: &View<'_>, draft: &mut Draft) {
    if view.pipeline.suspend {
        return;
    }
    for lane in view.lanes().into_iter().filter(|l| view.looks(*l)) {
        look(view, lane, draft);
    }
}

/// Looks at the sources of a lane. There is nothing to compare with before its first run, nor while a run reads them
/// itself.
fn look(view: &View<'_>, lane: Lane<'_>, draft: &mut Draft) {
    let reading = view
        .live(lane)
        .is_some_and(|r| r.phase() != RunPhase::Held && r.output(StepName::Snapshot).is_none());
    let Some(basis) = view.basis(lane).filter(|_| !reading) else {
        return;
    };
    for source in view.pipeline.read_by(lane.adapter()) {
        let mut probe = Probe {
            source: source.name.clone(),
            basis,
            due: None,
            adapter: lane.adapter().map(str::to_owned),
        };
        if view.world.probing.contains(&probe.key()) {
            continue;
        }
        let Some(last) = view.last_look(lane, &source.name) else {
            continue;
        };
        let hinted = view
            .world
            .hints
            .get(&source.name)
            .is_some_and(|hint| *hint > last);
        probe.due = view.pipeline.schedule.due(last, view.now);
        if hinted || probe.due.is_some() {
            draft.act(Action::Probe(probe));
        } else {
            draft.wake(view.pipeline.schedule.upcoming(last, view.now));
        }
    }
}

/// Whether every watched source was looked at since it last told of a change.
pub fn answered(world: &World) -> bool {
    let view = View::new(Timestamp::UNIX_EPOCH, world);
    let seen = |(source, hint): (&String, &Timestamp)| {
        let mut lanes = view.looking_at(source).into_iter();
        lanes.all(|lane| view.last_look(lane, source) >= Some(*hint))
    };
    world.hints.iter().all(seen)
}
