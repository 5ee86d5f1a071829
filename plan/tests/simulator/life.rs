//! What happens to a pipeline over a year, drawn at random, and how it is brought to rest.

mod adapters;

use std::time::Duration;

use jiff::Timestamp;
use loci_crds::MemoryRelease;
use loci_crds::release::Outcome;
use loci_crds::run::RunPhase;
use loci_crds::values::Fraction;

use crate::lookups::{named, newest_good, phase, rollback_target, snapshot_of};
use crate::shell::{Shell, Trouble};

/// Lets the pipeline live until `end`, with something happening every `pace` seconds or so.
pub fn live(shell: &mut Shell, end: Timestamp, pace: u64) {
    while shell.now < end {
        let pause = shell.draws.within(2 * pace);
        shell.run_until(end.min(shell.now.checked_add(pause).unwrap()));
        happen(shell);
        if !shell.resource.spec.adapters.is_empty() {
            adapters::happen(shell);
        }
    }
}

fn any_source(shell: &mut Shell) -> String {
    let names: Vec<_> = shell
        .world
        .pipeline
        .sources
        .iter()
        .map(|s| s.name.clone())
        .collect();
    let index = shell.draws.below(names.len() as u64);
    names[index as usize].clone()
}

fn happen(shell: &mut Shell) {
    let source = any_source(shell);
    match shell.draws.below(24) {
        0..8 => {
            let documents = 15 + shell.draws.below(6);
            shell.change(&source, documents);
        }
        8 => shell.change(&source, 3),
        9 => {
            let documents = shell.draws.below(2) * 20;
            shell.change(&source, documents);
        }
        10 | 11 => {
            let trouble = shell.draws.below(3);
            let state = shell.outside.sources.get_mut(&source).unwrap();
            (state.failing, state.unreadable) = (trouble == 1, trouble == 2);
        }
        12 => shell.crash(),
        13 => shell.world.intents.refresh = Some(format!("now-{}", shell.now)),
        14 => shell.world.intents.hold = shell.world.intents.hold.or(rollback_target(&shell.world)),
        15 | 16 => resume(shell),
        17 => pin(shell),
        18 => {
            let suspend = !shell.world.pipeline.suspend;
            shell.edit(|r| r.spec.suspend = suspend);
        }
        19 => approve(shell),
        20 => {
            let live = shell.world.runs.iter().filter(|r| !phase(r).is_terminal());
            let names: Vec<_> = live.filter_map(|r| r.metadata.name.clone()).collect();
            shell.world.intents.cancelled.extend(names);
        }
        21 => {
            let tokens = 64 + 32 * shell.draws.below(3) as i32;
            shell.edit(|r| r.spec.index.chunking.max_tokens = Some(tokens));
        }
        22 => {
            let floor = if shell.draws.once_in(2) {
                "0.50"
            } else {
                "0.60"
            };
            shell.edit(|r| {
                r.spec
                    .gates
                    .iter_mut()
                    .for_each(|g| g.floor = Some(Fraction(floor.into())))
            });
        }
        _ => {
            let gone = shell.draws.below(shell.world.runs.len().max(1) as u64) as usize;
            let ended = shell
                .world
                .runs
                .get(gone)
                .filter(|r| phase(r).is_terminal());
            let name = ended.and_then(|r| r.metadata.name.clone());
            let intents = &shell.world.intents;
            let mut tokens = vec![intents.refresh.clone()];
            tokens.extend(intents.tune.values().cloned().map(Some));
            shell.world.runs.retain(|r| {
                r.metadata.name != name
                    || name.is_none()
                    || r.spec.request.is_some() && tokens.contains(&r.spec.request)
            });
        }
    }
}

fn resume(shell: &mut Shell) {
    shell.world.intents.hold = None;
    if shell.world.pipeline.pin.is_some() {
        shell.edit(|r| r.spec.rollout.pin = None);
    }
    shell.checks.resumed();
}

/// Pins any release, one that does not exist or was rejected included.
fn pin(shell: &mut Shell) {
    let highest = shell
        .world
        .releases
        .iter()
        .map(|r| r.spec.number)
        .max()
        .unwrap_or(0);
    let back = shell.draws.below(4) as i64;
    shell.edit(|r| r.spec.rollout.pin = Some((highest + 1 - back).max(1)));
}

fn approve(shell: &mut Shell) {
    let held = shell
        .world
        .runs
        .iter()
        .filter(|r| phase(r) == RunPhase::Held);
    let names: Vec<_> = held.filter_map(|r| r.metadata.name.clone()).collect();
    shell.world.intents.approved.extend(names);
}

/// Ends all trouble, waits twenty times `pause`, and expects the newest content to serve, unless its
/// gates are against it.
pub fn rest(shell: &mut Shell, pause: Duration) {
    shell.trouble = Trouble::default();
    shell.world.serving.failures.clear();
    for name in shell.outside.sources.keys().cloned().collect::<Vec<_>>() {
        let state = shell.outside.sources.get_mut(&name).unwrap();
        (state.failing, state.unreadable) = (false, false);
        shell.change(&name, 20);
    }
    resume(shell);
    shell.edit(|r| {
        r.spec.suspend = false;
        r.spec.index.max_deletion = None;
        r.spec.adapters.iter_mut().for_each(adapters::calm);
        r.spec.budget = None;
    });
    for _ in 0..20 {
        approve(shell);
        shell.sleep(pause);
    }
    let world = &shell.world;
    assert!(
        world.runs.iter().all(|r| phase(r).is_terminal()),
        "a run is not done"
    );
    assert!(world.in_flight.is_empty(), "work is under way");
    let run = newest_good(world).expect("a run succeeded");
    let read = &shell.outside.store[&snapshot_of(run).unwrap()];
    for source in world.pipeline.read_by(None) {
        let state = &shell.outside.sources[&source.name];
        assert_eq!(
            read[&source.name],
            (state.version, state.documents),
            "{} was not read",
            source.name
        );
    }
    if let Some(token) = &world.intents.refresh {
        assert!(
            world
                .runs
                .iter()
                .any(|r| r.spec.request.as_ref() == Some(token)),
            "{token} was not answered"
        );
    }
    let came_to = run.status.as_ref().unwrap().release.as_deref();
    let target = named(world, came_to).expect("the newest content has a release");
    let desired = named(world, world.serving.desired.as_deref());
    assert_eq!(world.serving.current, world.serving.desired);
    let content = |r: &MemoryRelease| r.spec.index.content_id.clone();
    if desired.map(content) != Some(content(target)) {
        let of_it = world
            .releases
            .iter()
            .filter(|r| content(r) == content(target));
        let newest = of_it.max_by_key(|r| r.spec.number).unwrap();
        let verdict = newest.status.as_ref().unwrap().verdict.as_ref().unwrap();
        assert_ne!(
            verdict.outcome,
            Outcome::Passed,
            "{came_to:?} passed and does not serve"
        );
        // With the index that it was compared with.
        if let Some(baseline) = named(world, verdict.baseline.as_deref()) {
            assert_eq!(Some(content(baseline)), desired.map(content));
        }
    } else {
        let fresh = world
            .status
            .conditions
            .iter()
            .find(|c| c.type_ == "IndexFresh")
            .unwrap();
        assert_eq!(fresh.status, "True", "{}", fresh.message);
    }
    adapters::rested(shell);
}
