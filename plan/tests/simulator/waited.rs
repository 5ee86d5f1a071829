//! What a status means to who waits for the pipeline, against all that is known of the world.

use jiff::Timestamp;
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunKind, RunPhase, RunTrigger};
use loci_crds::{MemoryPipelineStatus, MemoryRelease, MemoryRun};
use loci_plan::{Action, World};
use loci_testbed::kstatus::{Kstatus, kstatus, malformed};
use serde_json::{Value, json};

use crate::lookups::{built, came_to, named, newest, newest_good, phase, release_phase};

/// What kstatus makes of a pipeline agrees with what is so.
pub fn pipeline(now: Timestamp, world: &World, status: &MemoryPipelineStatus) {
    let object = |status| json!({"metadata": {"generation": world.generation}, "status": status});
    let (before, object) = (object(&world.status), object(status));
    let faults = malformed(Some(&before), &object);
    assert!(faults.is_empty(), "{now}: {faults:?}");
    let found = kstatus(&object);
    match found {
        Kstatus::Current => finished(now, world),
        Kstatus::Failed => {
            let held = status
                .conditions
                .iter()
                .any(|c| ["HoldNotPossible", "LoadFailed"].contains(&c.reason.as_str()));
            let ended = |r: &MemoryRun| matches!(phase(r), RunPhase::Failed | RunPhase::Cancelled);
            let mut rebases = world.runs.iter().filter(|r| r.spec.kind == RunKind::Rebase);
            let given_up = newest(world).is_some_and(ended) || rebases.any(ended);
            assert!(
                held || given_up,
                "{now}: failed, and nothing did: {status:#?}"
            );
        }
        _ => {}
    }
    let quiet = world
        .runs
        .iter()
        .all(|r| phase(r).is_terminal() || !of_spec(r));
    if found == Kstatus::InProgress && world.serving.current.is_some() && quiet {
        let under_way = status.conditions.iter().find(|c| c.type_ == "Reconciling");
        let scheduled = under_way.is_some_and(|c| c.reason == "Running") && is_built(world);
        let rejected = target(world).is_some_and(|r| {
            !matches!(
                release_phase(r),
                ReleasePhase::Serving | ReleasePhase::Retired
            )
        });
        assert!(
            !scheduled || rejected,
            "{now}: scheduled work is no reason to wait: {status:#?}"
        );
    }
}

fn of_spec(run: &MemoryRun) -> bool {
    matches!(
        run.spec.trigger,
        RunTrigger::Initial | RunTrigger::SpecChanged
    )
}

/// The release with the newest index; the newest, when that was put upon other adapters since.
fn target(world: &World) -> Option<&MemoryRelease> {
    let target = named(world, Some(came_to(world)?))?;
    let again = |r: &&MemoryRelease| {
        let (new, old) = (&r.spec, &target.spec);
        new.adapter.is_none()
            && new.number > old.number
            && new.index.content_id == old.index.content_id
            && new.adapters != old.adapters
    };
    let again = world.releases.iter().filter(again);
    again.max_by_key(|r| r.spec.number).or(Some(target))
}

fn is_built(world: &World) -> bool {
    let good = match built(world) {
        Some(built) => Some(built.inputs.clone()),
        None => newest_good(world).and_then(|r| r.status.as_ref()?.inputs.clone()),
    };
    good.is_some_and(|inputs| inputs == world.pipeline.build_inputs())
}

/// Nothing that the generation asked for is missing.
fn finished(now: Timestamp, world: &World) {
    let serving = &world.serving;
    assert!(
        serving.current.is_some(),
        "{now}: current, and nothing serves"
    );
    let live = world
        .runs
        .iter()
        .find(|r| !phase(r).is_terminal() && of_spec(r));
    assert!(live.is_none(), "{now}: current, and {live:?} is under way");
    assert!(
        world.pipeline.suspend || is_built(world),
        "{now}: current, and the newest content is not of this spec"
    );
    let pinned = world.pipeline.pin.filter(|_| world.intents.hold.is_none());
    if let Some(number) = pinned {
        let serves = named(world, serving.current.as_deref()).map(|r| r.spec.number);
        assert_eq!(
            serves,
            Some(number),
            "{now}: current, and the pin is not served"
        );
    }
    let waits = |r: &&MemoryRelease| {
        let run = world
            .runs
            .iter()
            .find(|run| run.metadata.name.as_ref() == Some(&r.spec.run));
        release_phase(r) == ReleasePhase::Candidate && run.is_some_and(of_spec)
    };
    let held = world.intents.hold.is_some() || pinned.is_some();
    let candidate = world.releases.iter().find(waits).filter(|_| !held);
    assert!(
        candidate.is_none(),
        "{now}: current, and {candidate:?} is not served yet"
    );
}

/// What kstatus makes of a run or a release agrees with its phase.
pub fn written(now: Timestamp, world: &World, action: &Action) {
    let (before, status, expected) = match action {
        Action::UpdateRun { name, status } => {
            let run = world
                .runs
                .iter()
                .find(|r| r.metadata.name.as_ref() == Some(name));
            let expected = match status.phase {
                RunPhase::Succeeded => Kstatus::Current,
                RunPhase::Failed | RunPhase::Cancelled => Kstatus::Failed,
                _ => Kstatus::InProgress,
            };
            let before = run.and_then(|r| r.status.as_ref()).map(|s| json!(s));
            (before, json!(status), expected)
        }
        Action::UpdateRelease { name, status } => {
            let before = named(world, Some(name)).and_then(|r| r.status.as_ref());
            (
                before.map(|s| json!(s)),
                json!(status),
                of_release(status.phase),
            )
        }
        Action::CreateRelease { status, .. } => (None, json!(status), of_release(status.phase)),
        _ => return,
    };
    let object = |status: Value| json!({"metadata": {"generation": 1}, "status": status});
    let (before, object) = (before.map(object), object(status));
    let faults = malformed(before.as_ref(), &object);
    assert!(faults.is_empty(), "{now}: {action:?}: {faults:?}");
    assert_eq!(kstatus(&object), expected, "{now}: {action:?}");
}

fn of_release(phase: ReleasePhase) -> Kstatus {
    match phase {
        ReleasePhase::Candidate => Kstatus::InProgress,
        _ => Kstatus::Current,
    }
}
