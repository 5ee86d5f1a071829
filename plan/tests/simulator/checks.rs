//! What must hold after every action.

mod lanes;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use loci_crds::release::{GateResult, Outcome, ReleasePhase};
use loci_crds::run::{RunKind, RunPhase, RunTrigger, StepName};
use loci_crds::values::Money;
use loci_crds::{MemoryPipelineStatus, MemoryRun};
use loci_plan::metrics::Kind;
use loci_plan::{Action, Difference, Look, StepKey, StepResult, World};

use crate::lookups::{basis, came_to, lane, named, newest, phase, release_phase};
use crate::outside::Outside;
use crate::progress::is_written_seldom;
use crate::waited;

#[derive(Default)]
pub struct Checks {
    /// Contents that a rollback took back and nobody resumed.
    withdrawn: BTreeSet<String>,
    /// Every name that a run ever had, and each request that one answered.
    pub runs: BTreeSet<String>,
    requests: BTreeSet<String>,
    /// Due times for which a source was looked at.
    pub looks: BTreeSet<(String, Timestamp)>,
    /// Due times for which an adapter was trained, unless its run gave way.
    pub trainings: BTreeSet<(String, Timestamp)>,
    /// Each kind of run that ever was, with what started it.
    pub kinds: Vec<(RunKind, RunTrigger)>,
    attempts: BTreeMap<StepKey, String>,
    pub promotions: Vec<String>,
    /// Adapters that are declared.
    declared: BTreeSet<String>,
    /// How many more questions than what serves a release may lose, if not one.
    pub may_lose: Option<u64>,
    highest: i64,
}

/// A verdict is over the very release that the candidate would replace.
fn is_judged_by_what_serves(now: Timestamp, world: &World, run: &str) {
    let of_run = world.outcomes.iter().filter(|o| o.key.run == run);
    let last = of_run.max_by_key(|o| (o.key.step, o.key.attempt));
    let Some(Ok(StepResult::Evaluate(evaluated))) = last.map(|o| &o.result) else {
        panic!("{now}: {run} makes a release and was not evaluated");
    };
    assert_eq!(
        evaluated.subjects.baseline, world.serving.desired,
        "{now}: {run}"
    );
}

impl Checks {
    /// What must hold for an action to be right.
    pub fn before(&mut self, now: Timestamp, world: &World, outside: &Outside, action: &Action) {
        waited::written(now, world, action);
        let declared = world.pipeline.adapters.iter();
        self.declared = declared.map(|a| a.name.clone()).collect();
        match action {
            Action::CreateRun { name, spec } => {
                assert!(
                    self.runs.insert(name.clone()),
                    "{now}: {name} was a run before"
                );
                assert!(
                    !world.pipeline.suspend,
                    "{now}: {name} starts though the pipeline is suspended"
                );
                self.kinds.push((spec.kind, spec.trigger));
                let new = MemoryRun::new(name, spec.clone());
                let beside = |r: &&MemoryRun| !phase(r).is_terminal() && lane(r) == lane(&new);
                let live = world.runs.iter().filter(beside).count();
                assert_eq!(live, 0, "{now}: {name} starts beside another");
                if spec.kind == RunKind::FineTune {
                    self.may_train(now, world, &new);
                }
                if let Some(request) = &spec.request {
                    assert!(
                        self.requests.insert(request.clone()),
                        "{now}: {request} is answered twice"
                    );
                }
                if spec.kind == RunKind::Refresh
                    && matches!(
                        spec.trigger,
                        RunTrigger::Schedule | RunTrigger::SourceChanged
                    )
                {
                    self.is_called_for(now, world, outside);
                }
            }
            Action::Dispatch { key, input } => {
                assert_eq!(key.step, input.step());
                assert!(
                    !world.in_flight.contains(key),
                    "{now}: {key:?} is under way"
                );
                assert!(
                    world.outcomes.iter().all(|o| o.key != *key),
                    "{now}: {key:?} has ended"
                );
                let run = world
                    .runs
                    .iter()
                    .find(|r| r.metadata.name.as_ref() == Some(&key.run))
                    .unwrap();
                assert_eq!(phase(run), RunPhase::Running, "{now}: {key:?}");
                // The same attempt works on the same, but for the releases and the settings that it goes
                // by: a person may change these while a crash keeps it from being made.
                let input = format!("{input:?}");
                // Nor by what a run had read that was deleted since.
                let forgotten = key.step == StepName::Snapshot && input.contains("previous: None");
                let first = self
                    .attempts
                    .entry(key.clone())
                    .or_insert_with(|| input.clone());
                assert!(
                    *first == input
                        || forgotten
                        || matches!(
                            key.step,
                            StepName::Embed
                                | StepName::Collect
                                | StepName::Train
                                | StepName::Evaluate
                        ),
                    "{now}: {key:?}: {first} then {input}"
                );
            }
            Action::UpdateRun { name, status } => is_written_seldom(now, world, name, status),
            Action::CreateRelease { name, spec, .. } => {
                assert!(
                    named(world, Some(name)).is_none(),
                    "{now}: {name} is a release already"
                );
                assert!(
                    spec.number > self.highest,
                    "{now}: number {} again",
                    spec.number
                );
                assert!(
                    world.releases.iter().all(|r| r.spec.run != spec.run),
                    "{now}: two releases of one run"
                );
                self.highest = spec.number;
                is_judged_by_what_serves(now, world, &spec.run);
            }
            Action::Promote { release } => self.may_promote(now, world, outside, release),
            Action::Probe(probe) => {
                assert!(
                    !world.pipeline.suspend,
                    "{now}: a probe though the pipeline is suspended"
                );
                assert!(
                    outside.store.contains_key(&probe.basis),
                    "{now}: the basis of a probe was collected"
                );
                if let Some(due) = probe.due {
                    assert!(due <= now, "{now}: a probe before it is due");
                    assert!(
                        !self.looks.contains(&(probe.key(), due)),
                        "{now}: {due} is looked at twice"
                    );
                }
            }
            Action::DeleteRelease { name } => {
                let hold = [world.intents.hold, world.pipeline.pin];
                let release = named(world, Some(name)).unwrap();
                assert_ne!(
                    world.serving.desired.as_ref(),
                    Some(name),
                    "{now}: what serves is deleted"
                );
                assert!(
                    !hold.contains(&Some(release.spec.number)),
                    "{now}: what the pipeline is held on is deleted"
                );
            }
            _ => {}
        }
    }

    /// A run because of a change: some source is not as the last good run read it, or the run takes the
    /// place of one that gave way.
    fn is_called_for(&self, now: Timestamp, world: &World, outside: &Outside) {
        let basis = basis(world).map(|d| &outside.store[&d]);
        let differs = |name: &String| {
            let state = &outside.sources[name];
            basis.and_then(|b| b.get(name)) != Some(&(state.version, state.documents))
        };
        let newest = newest(world).and_then(|r| r.status.as_ref());
        let replaces = newest.is_some_and(|s| s.reason.as_deref() == Some("Superseded"));
        assert!(
            replaces || world.pipeline.read_by(None).any(|s| differs(&s.name)),
            "{now}: a run though nothing changed"
        );
    }

    fn may_promote(&mut self, now: Timestamp, world: &World, outside: &Outside, name: &str) {
        let release = named(world, Some(name)).unwrap();
        let serving = named(world, world.serving.desired.as_deref());
        let verdict = release.status.as_ref().unwrap().verdict.as_ref().unwrap();
        assert!(
            world.serving.prepared.contains(name),
            "{now}: {name} is not loaded"
        );
        assert_eq!(verdict.outcome, Outcome::Passed, "{now}: {name}");
        let hold = world.intents.hold.or(world.pipeline.pin);
        if let Some(number) = hold {
            assert_eq!(release.spec.number, number, "{now}: promoted though held");
            if let Some(old) = serving.filter(|s| s.spec.number > number) {
                self.withdrawn.insert(old.spec.index.content_id.clone());
            }
        } else {
            self.is_progress(now, outside, release, serving);
            assert!(
                !self.withdrawn.contains(&release.spec.index.content_id),
                "{now}: {name} was rolled back"
            );
            // Suites of behaviour are not asked of those who change none.
            let behavior = |g: &&GateResult| {
                let mut suites = world.pipeline.suites.iter();
                suites.any(|s| s.name == g.suite && s.kind == Kind::Behavior)
            };
            let mut gates = verdict.gates.iter().filter(|g| !behavior(g));
            let not_compared = gates.any(|g| g.outcome == Outcome::NotApplicable);
            assert!(
                !not_compared || serving.is_none(),
                "{now}: {name} was not compared with what serves"
            );
        }
        self.promotions.push(name.to_owned());
    }

    /// What must hold of a world after any action.
    pub fn after(&mut self, world: &World, outside: &Outside) {
        let serving = world
            .releases
            .iter()
            .filter(|r| release_phase(r) == ReleasePhase::Serving)
            .count();
        assert!(serving <= 1, "{serving} releases say that they serve");
        let working = world.runs.iter();
        let working = working.filter(|r| matches!(phase(r), RunPhase::Running | RunPhase::Held));
        let mut lanes = BTreeSet::new();
        for run in working {
            let (kind, adapter) = lane(run);
            let lane = (format!("{kind:?}"), adapter);
            assert!(lanes.insert(lane), "two runs of one lane at once");
        }
        for release in &world.releases {
            let adapters = release.spec.adapters.iter();
            let adapters = adapters.flat_map(|a| [&a.manifest, &a.dataset]);
            for part in adapters.chain([&release.spec.index.revision]) {
                assert!(
                    outside.store.contains_key(&part.parse().unwrap()),
                    "what a kept release serves was collected"
                );
            }
            let verdict = release.status.as_ref().unwrap().verdict.as_ref().unwrap();
            let evaluation = verdict.evaluation.as_ref().map(|e| e.parse().unwrap());
            assert!(
                evaluation.is_none_or(|e| outside.store.contains_key(&e)),
                "an evaluation was collected"
            );
        }
    }

    /// What must hold when nothing is to be done.
    pub fn settled(&mut self, world: &World) {
        let desired = world.serving.desired.as_deref();
        for release in &world.releases {
            let serves = release_phase(release) == ReleasePhase::Serving;
            assert_eq!(
                serves,
                release.metadata.name.as_deref() == desired,
                "phases follow the pointer"
            );
        }
        if world.intents.hold.is_none() && world.pipeline.pin.is_none() {
            assert!(
                world
                    .releases
                    .iter()
                    .all(|r| release_phase(r) != ReleasePhase::Withdrawn)
            );
        }
        let running = world.runs.iter().any(|r| phase(r) == RunPhase::Running);
        for run in &world.runs {
            let ended = |r: &&MemoryRun| phase(r).is_terminal() && lane(r) == lane(run);
            let ended = world.runs.iter().filter(ended).count();
            assert!(ended <= world.pipeline.run_history + 3 || running);
        }
    }

    /// A status says each thing once, and what is so.
    pub fn status(&mut self, now: Timestamp, world: &World, status: &MemoryPipelineStatus) {
        waited::pipeline(now, world, status);
        let kinds: BTreeSet<_> = status.conditions.iter().map(|c| &c.type_).collect();
        assert_eq!((kinds.len(), status.conditions.len()), (8, 8), "{now}");
        let truth = |kind: &str| {
            status
                .conditions
                .iter()
                .find(|c| c.type_ == kind)
                .unwrap()
                .status
                == "True"
        };
        assert_eq!(truth("Ready"), world.serving.current.is_some(), "{now}");
        assert!(
            status.last_refresh_time >= world.status.last_refresh_time,
            "{now}: freshness goes back"
        );
        if let (Some(before), Some(after)) = (&world.status.cost, &status.cost)
            && before.month == after.month
        {
            let micros = |money: &Money| money.to_micros().unwrap();
            assert!(
                micros(&after.spent) >= micros(&before.spent),
                "{now}: what was spent comes back: {before:?}, {after:?}"
            );
        }
        if status.last_refresh_time > world.status.last_refresh_time {
            let content = |name| named(world, name).map(|r| &r.spec.index.content_id);
            let desired = world.serving.desired.as_deref();
            assert_eq!(
                content(came_to(world)),
                content(desired),
                "{now}: fresh though not served"
            );
            let basis = basis(world);
            let fresh = status.last_refresh_time.as_ref().unwrap().0;
            let news = |l: &Look| {
                let changed = l.result == Ok(Difference::Changed);
                changed && Some(l.probe.basis) == basis && l.time <= fresh
            };
            let sources = world.pipeline.sources.iter();
            let mut looks = sources.filter_map(|s| world.looks.get(&s.name));
            assert!(!looks.any(news), "{now}: fresh though a source changed");
        }
    }

    pub fn looked(&mut self, look: &Look) {
        if let Some(due) = look.probe.due {
            self.looks.insert((look.probe.key(), due));
        }
    }

    /// A person lets the pipeline go on.
    pub fn resumed(&mut self) {
        self.withdrawn.clear();
    }
}
