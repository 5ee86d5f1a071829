//! When which source is looked at.

use jiff::Timestamp;
use loci_crds::run::{RunPhase, StepName};

use crate::action::Action;
use crate::plan::Draft;
use crate::view::{Lane, RunView, View};
use crate::world::{Probe, World};

/// Probes that are due: by schedule, or because a watch told of a change. There is nothing to compare
/// with before the first run, nor while a run reads the sources itself.
pub(crate) fn plan(view: &View<'_>, draft: &mut Draft) {
    let lane = Lane::Index;
    let reading = view
        .live(lane)
        .is_some_and(|r| r.phase() != RunPhase::Held && r.output(StepName::Snapshot).is_none());
    let Some(basis) = view
        .basis(lane)
        .filter(|_| !view.pipeline.suspend && !reading)
    else {
        return;
    };
    for source in &view.pipeline.sources {
        if view.world.probing.contains(&source.name) {
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
        let due = view.pipeline.schedule.due(last, view.now);
        if hinted || due.is_some() {
            draft.act(Action::Probe(Probe {
                source: source.name.clone(),
                basis,
                due,
            }));
        } else {
            draft.wake(view.pipeline.schedule.upcoming(last, view.now));
        }
    }
}

/// Whether every watched source was looked at since it last told of a change.
pub fn answered(world: &World) -> bool {
    let view = View::new(Timestamp::UNIX_EPOCH, world);
    let seen =
        |(source, hint): (&String, &Timestamp)| view.last_look(Lane::Index, source) >= Some(*hint);
    world.hints.iter().all(seen)
}
