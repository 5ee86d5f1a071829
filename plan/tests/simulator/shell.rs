//! A shell without a disk: what it writes lasts, what it dispatched is lost in a crash.

mod ends;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::{MemoryPipeline, MemoryPipelineStatus, MemoryRelease, MemoryRun};
use loci_plan::{
    Action, Pipeline, Probe, Serving, StepInput, StepKey, World, plan, record, restore,
};

use crate::checks::Checks;
use crate::draws::Draws;
use crate::outside::Outside;
use crate::progress;

/// How often things go wrong, once in so many; 0 for never.
#[derive(Clone, Copy, Default)]
pub struct Trouble {
    pub crash: u64,
    pub step: u64,
    /// Of the steps that fail, these are not worth another attempt.
    pub fatal: u64,
    pub prepare: u64,
}

pub struct Shell {
    pub now: Timestamp,
    pub world: World,
    pub resource: MemoryPipeline,
    pub outside: Outside,
    pub checks: Checks,
    pub draws: Draws,
    pub trouble: Trouble,
    /// Crash once, right after this many actions.
    pub crash_after: Option<u64>,
    pub actions: u64,
    pub watched: bool,
    /// The most seconds that a training takes; it goes on until it is let go when that is not said.
    pub training: Option<u64>,
    wake_at: Option<Timestamp>,
    steps: BTreeMap<StepKey, (Timestamp, StepInput)>,
    /// When each attempt began.
    begun: BTreeMap<StepKey, Timestamp>,
    probes: BTreeMap<String, (Timestamp, Timestamp, Probe)>,
    loads: BTreeMap<String, Timestamp>,
    /// When all replicas answer with what is to be served.
    follows: Option<Timestamp>,
}

/// A resource as it is planned for.
fn typed(resource: &MemoryPipeline) -> Pipeline {
    Pipeline::from_resource(resource).unwrap()
}

/// A pipeline that was applied just now.
pub fn empty(resource: &MemoryPipeline) -> World {
    World {
        pipeline: typed(resource),
        generation: 1,
        intents: Default::default(),
        suite_data: BTreeMap::new(),
        looks: BTreeMap::new(),
        probing: BTreeSet::new(),
        hints: BTreeMap::new(),
        runs: Vec::new(),
        outcomes: Vec::new(),
        in_flight: BTreeSet::new(),
        reported: BTreeMap::new(),
        releases: Vec::new(),
        serving: Serving::default(),
        status: Default::default(),
        collected: None,
        built: None,
        workers: None,
    }
}

impl Shell {
    pub fn new(resource: MemoryPipeline, start: Timestamp, seed: u64) -> Self {
        let pipeline = typed(&resource);
        let mut outside = Outside::default();
        for source in &pipeline.sources {
            outside.change(&source.name, 20);
        }
        Self {
            now: start,
            world: empty(&resource),
            resource,
            outside,
            checks: Checks::default(),
            draws: Draws::new(seed),
            trouble: Trouble::default(),
            crash_after: None,
            actions: 0,
            watched: false,
            training: Some(3600),
            wake_at: None,
            steps: BTreeMap::new(),
            begun: BTreeMap::new(),
            probes: BTreeMap::new(),
            loads: BTreeMap::new(),
            follows: None,
        }
    }

    /// Changes the spec as a person would.
    pub fn edit(&mut self, change: impl FnOnce(&mut MemoryPipeline)) {
        change(&mut self.resource);
        self.world.pipeline = typed(&self.resource);
        self.world.generation += 1;
    }

    /// Changes a source; a watch tells of it when there is one.
    pub fn change(&mut self, source: &str, documents: u64) {
        self.outside.change(source, documents);
        if self.watched {
            self.world.hints.insert(source.to_owned(), self.now);
        }
    }

    pub fn sleep(&mut self, time: Duration) {
        self.run_until(self.now.checked_add(time).unwrap());
    }

    /// Plans and acts until `end`.
    pub fn run_until(&mut self, end: Timestamp) {
        loop {
            self.settle();
            let next = self.next_event().filter(|t| *t <= end);
            let Some(next) = next else {
                self.now = self.now.max(end);
                return;
            };
            assert!(
                next > self.now || self.is_due(),
                "time stands still at {}",
                self.now
            );
            self.now = self.now.max(next);
            self.finish();
        }
    }

    fn is_due(&self) -> bool {
        self.completions().any(|t| t <= self.now)
    }

    fn completions(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let steps = self.steps.values().map(|s| s.0);
        steps
            .chain(self.probes.values().map(|p| p.0))
            .chain(self.loads.values().copied())
            .chain(self.follows)
    }

    fn next_event(&self) -> Option<Timestamp> {
        self.completions().chain(self.wake_at).min()
    }

    /// All resources of the pipeline are deleted, with the process down, and the pipeline is made anew.
    pub fn recreate(&mut self, uid: &str) {
        self.crash();
        let kept = record(&self.world);
        let usable: BTreeSet<_> = self.outside.store.keys().copied().collect();
        let restored = restore(&kept, None, &[], &usable);
        assert_eq!(restored.lost, Vec::<String>::new());
        // What was looked at before is looked at again.
        self.checks.looks.clear();
        self.resource.metadata.uid = Some(uid.to_owned());
        let created = self.second();
        self.world = World {
            pipeline: typed(&self.resource),
            generation: 1,
            hints: kept
                .sources
                .iter()
                .map(|s| (s.name.clone(), self.now))
                .collect(),
            releases: restored.releases,
            serving: Serving {
                desired: restored.desired,
                ..Serving::default()
            },
            built: restored.built,
            status: MemoryPipelineStatus {
                cost: kept.cost.clone(),
                ..MemoryPipelineStatus::default()
            },
            ..empty(&self.resource)
        };
        for release in &mut self.world.releases {
            release.metadata.creation_timestamp = Some(created.clone());
        }
    }

    /// Plans until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.world.built = record(&self.world).built;
            for (key, (end, input)) in &self.steps {
                let mut report = progress::report(self.now, key, *end);
                report.device_seconds = self.used(key, input);
                self.world.reported.insert(key.run.clone(), report);
            }
            let decision = plan(self.now, &self.world);
            if self.actions.is_multiple_of(16) {
                assert_eq!(
                    decision,
                    plan(self.now, &self.world),
                    "the same world gives the same decision"
                );
            }
            self.checks.status(self.now, &self.world, &decision.status);
            self.world.status = decision.status;
            self.wake_at = decision.wake_at;
            if decision.actions.is_empty() {
                self.checks.settled(&self.world);
                return;
            }
            for action in decision.actions {
                self.checks
                    .before(self.now, &self.world, &self.outside, &action);
                self.apply(action);
                self.checks.after(&self.world, &self.outside);
                self.actions += 1;
                if self.crash_after == Some(self.actions) || self.draws.once_in(self.trouble.crash)
                {
                    self.crash();
                    break;
                }
            }
        }
        panic!("no end of actions at {}", self.now);
    }

    /// All that is not written is lost; the process is back after a while.
    pub fn crash(&mut self) {
        // Some of what was under way had got as far as the store, though not to an outcome.
        for (key, (_, input)) in std::mem::take(&mut self.steps) {
            if self.draws.once_in(2) {
                let _ = self.outside.work(&self.world.pipeline, &key.run, &input);
            }
        }
        self.world.outcomes = record(&self.world).results;
        self.probes.clear();
        self.loads.clear();
        self.follows = None;
        self.world.in_flight.clear();
        self.world.reported.clear();
        self.world.probing.clear();
        self.world.hints.clear();
        let desired = self.world.serving.desired.take();
        self.world.serving = Serving {
            desired,
            ..Serving::default()
        };
        self.now = self.now.checked_add(self.draws.within(300)).unwrap();
        if self.watched {
            let names = self.world.pipeline.sources.iter().map(|s| s.name.clone());
            self.world.hints = names.map(|n| (n, self.now)).collect();
        }
    }

    fn after(&mut self, seconds: u64) -> Timestamp {
        let delay = self.draws.within(seconds);
        self.now.checked_add(delay).unwrap()
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Probe(probe) => {
                let done = self.after(20);
                self.world.probing.insert(probe.key());
                self.probes.insert(probe.key(), (done, self.now, probe));
            }
            Action::CreateRun { name, spec } => {
                let mut run = MemoryRun::new(&name, spec);
                run.metadata.creation_timestamp = Some(self.second());
                self.world.runs.push(run);
            }
            Action::UpdateRun { name, status } => {
                if status.phase.is_terminal() && self.draws.once_in(2) {
                    self.world.outcomes.retain(|o| o.key.run != name);
                }
                self.run(&name).status = Some(*status);
            }
            Action::Dispatch { key, input } => {
                let most = match input {
                    StepInput::Train { .. } => self.training,
                    _ => Some(120),
                };
                let done = most.map_or(Timestamp::MAX, |most| self.after(most));
                let done = done.min(self.stopped_at(&input));
                self.world.in_flight.insert(key.clone());
                self.begun.insert(key.clone(), self.now);
                self.steps.insert(key, (done, input));
            }
            Action::Stop { run } => {
                self.steps.retain(|k, _| k.run != run);
                self.world.in_flight.retain(|k| k.run != run);
            }
            Action::CreateRelease { name, spec, status } => {
                let mut release = MemoryRelease::new(&name, *spec);
                release.metadata.creation_timestamp = Some(self.second());
                release.status = Some(*status);
                self.world.releases.push(release);
            }
            Action::UpdateRelease { name, status } => self.release(&name).status = Some(*status),
            Action::Prepare { release } => {
                let done = self.after(10);
                self.world.serving.preparing.insert(release.clone());
                self.loads.insert(release, done);
            }
            Action::Promote { release } => {
                self.follows = Some(self.after(5));
                let serving = &mut self.world.serving;
                serving.desired = Some(release.clone());
                serving.prepared.retain(|r| *r == release);
                if self.draws.once_in(2) {
                    self.follow();
                }
            }
            Action::DeleteRun { name } => {
                self.world
                    .runs
                    .retain(|r| r.metadata.name.as_ref() != Some(&name));
                self.world.outcomes.retain(|o| o.key.run != name);
            }
            Action::DeleteRelease { name } => self
                .world
                .releases
                .retain(|r| r.metadata.name.as_ref() != Some(&name)),
            Action::CollectGarbage { roots } => {
                let pinned = record(&self.world).roots();
                self.outside.collect(&[roots, pinned].concat());
                self.world.collected = Some(self.now);
            }
        }
    }

    fn follow(&mut self) {
        self.follows = None;
        let serving = &mut self.world.serving;
        serving.current = serving.desired.clone();
    }

    /// Now, as resources keep it.
    fn second(&self) -> Time {
        Time(Timestamp::from_second(self.now.as_second()).unwrap())
    }

    fn run(&mut self, name: &str) -> &mut MemoryRun {
        self.world
            .runs
            .iter_mut()
            .find(|r| r.metadata.name.as_deref() == Some(name))
            .unwrap()
    }

    fn release(&mut self, name: &str) -> &mut MemoryRelease {
        self.world
            .releases
            .iter_mut()
            .find(|r| r.metadata.name.as_deref() == Some(name))
            .unwrap()
    }
}

fn due<K: Clone, V>(all: &BTreeMap<K, V>, is_due: impl Fn(&V) -> bool) -> Vec<K> {
    let due = all.iter().filter(|(_, value)| is_due(value));
    due.map(|(key, _)| key.clone()).collect()
}
