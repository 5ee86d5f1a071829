//! What steps work on.

use loci_crds::MemoryRun;
use loci_crds::adapter::Context;
use loci_crds::run::{RunTrigger, StepName};
use loci_digest::Digest;

use crate::action::StepInput;
use crate::compose::{asked, candidate, new_adapter};
use crate::spec::Adapter;
use crate::view::{ReleaseView, RunView, View};

/// What a step of the run works on. None when what an earlier step made is not known any more, or when what serves is not.
pub(super) fn input(view: &View<'_>, run: &MemoryRun, step: StepName) -> Option<StepInput> {
    let output = |step| run.output(step);
    Some(match step {
        StepName::Snapshot => StepInput::Snapshot {
            previous: view.last_listing(run.lane()?),
            adapter: run.spec.adapter.clone(),
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
        StepName::Collect => {
            let adapter = adapter(view, run)?;
            // The index beside which it is released.
            let revision = match adapter.context {
                Context::None => None,
                Context::Retrieved => Some(view.desired()?.revision()?),
            };
            StepInput::Collect {
                adapter: adapter.name.clone(),
                snapshot: output(StepName::Snapshot)?,
                last: view.last_dataset(run.lane()?),
                min_new: min_new(run, adapter),
                revision,
            }
        }
        StepName::Train => {
            let adapter = adapter(view, run)?;
            let cost = run.status.as_ref().and_then(|s| s.cost.as_ref());
            let limit = cost.and_then(|c| c.max_device_seconds);
            StepInput::Train {
                adapter: adapter.name.clone(),
                dataset: output(StepName::Collect)?,
                warm_start: warm_start(view, adapter),
                device_seconds: cost.map_or(0, |c| c.device_seconds.unsigned_abs()),
                max_device_seconds: limit.map(i64::unsigned_abs),
            }
        }
        StepName::Evaluate => {
            let subjects = view.subjects();
            let of = |name: &Option<String>| view.release(name.as_deref()?).and_then(asked);
            StepInput::Evaluate {
                candidate: candidate(view, run)?,
                adapter: new_adapter(view, run),
                baseline: of(&subjects.baseline),
                anchor: of(&subjects.anchor),
                subjects: Box::new(subjects),
            }
        }
    })
}

fn adapter<'a>(view: &View<'a>, run: &MemoryRun) -> Option<&'a Adapter> {
    view.pipeline.adapter(run.spec.adapter.as_deref()?)
}

/// The fewest new examples that a run is worth. Who asks for one gets one: of the same examples it is a look-up.
fn min_new(run: &MemoryRun, adapter: &Adapter) -> u64 {
    match run.spec.trigger {
        RunTrigger::Requested => 0,
        RunTrigger::NewExamples => adapter.min_new_examples.max(adapter.trigger.unwrap_or(0)),
        _ => adapter.min_new_examples,
    }
}

/// The adapter that serves, when a training is to begin with that and it is of the same base.
fn warm_start(view: &View<'_>, adapter: &Adapter) -> Option<Digest> {
    let serves = view.desired().filter(|_| adapter.training.warm_start)?;
    let mut adapters = serves.spec.adapters.iter();
    let serves = adapters.find(|a| a.name == adapter.name && a.base == adapter.base)?;
    serves.manifest.parse().ok()
}
