//! Which work is under way for the spec, and what it says.

use loci_crds::MemoryRun;
use loci_crds::run::{RunTrigger, StepName};

use super::findings::message_of;
use crate::plan::Draft;
use crate::runs::rebase;
use crate::steps::RETRYING;
use crate::view::{RunView, View};

/// Whether runs for this reason do what the spec asks for.
pub(super) fn of_spec(trigger: RunTrigger) -> bool {
    matches!(trigger, RunTrigger::Initial | RunTrigger::SpecChanged)
}

/// What a run that is under way says.
pub(super) fn at_work(view: &View<'_>, run: &MemoryRun) -> (&'static str, String) {
    let name = run.name();
    match absent(view, run) {
        Some(class) => ("NoWorker", waits(view, name, class)),
        None => match run.reason() {
            RETRYING => (RETRYING, format!("{name}: {}", message_of(run))),
            _ => ("Running", format!("{name} is under way")),
        },
    }
}

/// That a run waits for a worker of a class, and why those take no steps that are there.
pub(super) fn waits(view: &View<'_>, name: &str, class: &str) -> String {
    let workers = view.world.workers.as_ref();
    match workers.and_then(|workers| workers.classes.idle.get(class)) {
        Some(why) => format!("{name} waits: no worker of class {class} takes steps: {why}"),
        None => format!("{name} waits: no worker of class {class} is there to do its next step"),
    }
}

/// The rebase that the generation asked for.
pub(super) fn rebasing<'a>(view: &View<'a>) -> Option<&'a MemoryRun> {
    let live = |r: &&MemoryRun| !r.phase().is_terminal() && of_spec(r.spec.trigger);
    view.rebases().find(live)
}

/// Whether the generation asks for a rebase that is about to begin.
pub(super) fn rebase_due(view: &View<'_>) -> bool {
    let busy = view.rebases().any(|r| !r.phase().is_terminal());
    !busy && rebase::due(view, &mut Draft::default()).is_some_and(|o| of_spec(o.trigger))
}

/// The class that a run's next step needs a worker of, when there is none.
pub(super) fn absent<'a>(view: &View<'a>, run: &MemoryRun) -> Option<&'a str> {
    let workers = view.world.workers.as_ref()?;
    let steps = &run.status.as_ref()?.steps;
    let open = steps.iter().find(|s| s.completion_time.is_none())?;
    let class = match open.name {
        StepName::Snapshot => workers.fetch.as_deref()?,
        StepName::Embed
        | StepName::Assemble
        | StepName::Collect
        | StepName::Train
        | StepName::Evaluate => &view.pipeline.class,
    };
    (!workers.classes.at_work.contains(class)).then_some(class)
}
