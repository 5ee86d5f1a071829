//! The world, looked at for what the rules ask of it.

mod adapters;
mod lane;
mod objects;

use std::collections::BTreeMap;

use jiff::Timestamp;
use loci_crds::release::AdapterComponent;
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryRun, MemoryRunStatus};
use loci_digest::Digest;

pub(crate) use lane::Lane;
pub(crate) use objects::{ReleaseView, RunView, components, composition};

use crate::clock::micro;
use crate::spec::{Pipeline, digest};
use crate::world::{Built, Look, StepKey, StepOutcome, StepResult, Subjects, World, key};

/// Why a run was cancelled when no person did it: the next one starts at once.
pub(crate) const SUPERSEDED: &str = "Superseded";

/// A world at a time, with its runs and releases in order.
pub(crate) struct View<'a> {
    pub now: Timestamp,
    pub world: &'a World,
    pub pipeline: &'a Pipeline,
    /// The runs, oldest first.
    pub runs: Vec<&'a MemoryRun>,
    /// The releases by number.
    pub releases: Vec<&'a MemoryRelease>,
}

/// Who the pipeline is held on, and who wants it.
pub(crate) struct Hold<'a> {
    pub number: i64,
    /// The release, when it may be served.
    pub release: Result<&'a MemoryRelease, String>,
    /// The field or the command that holds it.
    pub by: &'static str,
}

impl<'a> View<'a> {
    pub fn new(now: Timestamp, world: &'a World) -> Self {
        let mut runs: Vec<_> = world.runs.iter().collect();
        runs.sort_by_key(|r| {
            (
                r.metadata.creation_timestamp.as_ref().map(|t| t.0),
                r.name(),
            )
        });
        let mut releases: Vec<_> = world.releases.iter().collect();
        releases.sort_by_key(|r| r.spec.number);
        Self {
            now,
            world,
            pipeline: &world.pipeline,
            runs,
            releases,
        }
    }

    /// The lanes, the index first, then adapters: as they are declared, and those that are not any more and have a run
    /// that has not ended. No run waits for one of another lane.
    pub fn lanes(&self) -> Vec<Lane<'a>> {
        let declared = self.pipeline.adapters.iter();
        let mut lanes = vec![Lane::Index];
        lanes.extend(declared.map(|a| Lane::Adapter(&a.name)));
        for run in self.runs.iter().filter(|r| !r.phase().is_terminal()) {
            if let Some(lane) = run.lane().filter(|l| !lanes.contains(l)) {
                lanes.push(lane);
            }
        }
        lanes
    }

    /// The runs of a lane, oldest first.
    pub fn runs_of(&self, lane: Lane<'_>) -> impl DoubleEndedIterator<Item = &'a MemoryRun> {
        let runs = self.runs.iter().copied();
        runs.filter(move |r| r.lane() == Some(lane))
    }

    /// Rebases, oldest first.
    pub fn rebases(&self) -> impl DoubleEndedIterator<Item = &'a MemoryRun> {
        self.runs.iter().copied().filter(|r| r.lane().is_none())
    }

    /// All in the spec that the runs of a lane build by, as a digest; none when the spec has no such adapter.
    pub fn inputs(&self, lane: Lane<'_>) -> Option<String> {
        match lane {
            Lane::Index => Some(self.pipeline.build_inputs()),
            Lane::Adapter(name) => {
                let adapter = self.pipeline.adapter(name)?;
                Some(self.pipeline.adapter_inputs(adapter))
            }
        }
    }

    /// The run of a lane whose turn it is: the oldest that has not ended.
    pub fn live(&self, lane: Lane<'_>) -> Option<&'a MemoryRun> {
        self.runs_of(lane).find(|r| !r.phase().is_terminal())
    }

    /// The newest run of a lane that has ended.
    pub fn newest_ended(&self, lane: Lane<'_>) -> Option<&'a MemoryRun> {
        self.runs_of(lane).rev().find(|r| r.phase().is_terminal())
    }

    /// The newest run of a lane that succeeded: what the sources held when all went well.
    pub fn newest_succeeded(&self, lane: Lane<'_>) -> Option<&'a MemoryRun> {
        let good = |r: &&MemoryRun| r.phase() == RunPhase::Succeeded && r.snapshot_time().is_some();
        self.runs_of(lane).rev().find(good)
    }

    /// What the newest run of the index that ever succeeded came to, when it is not there to tell: it was deleted.
    pub fn built(&self) -> Option<&'a Built> {
        let newest = self.newest_succeeded(Lane::Index);
        let ended = newest.and_then(RunView::ended);
        let built = self.world.built.as_ref();
        built.filter(|built| ended < Some(built.ended))
    }

    /// The build inputs of the newest run of the index that succeeded.
    pub fn built_inputs(&self) -> Option<&'a str> {
        let run = self.newest_succeeded(Lane::Index);
        match self.built() {
            Some(built) => Some(&built.inputs),
            None => run.map(|r| r.inputs().unwrap_or_default()),
        }
    }

    /// The snapshot that probes compare with: the live run's, or the last good one. What an adapter's run has read and
    /// then failed to train on is not new any more, either.
    pub fn basis(&self, lane: Lane<'_>) -> Option<Digest> {
        let live = self.live(lane).and_then(|r| r.output(StepName::Snapshot));
        let read = || {
            lane.adapter()?;
            self.last_read(lane, self.runs_of(lane).filter(|r| r.phase().is_terminal()))
        };
        live.or_else(read).or_else(|| self.last_listing(lane))
    }

    /// The snapshot of the newest run of a lane that succeeded; when nothing is known of one, that of its newest release.
    pub fn last_listing(&self, lane: Lane<'_>) -> Option<Digest> {
        match self.built().filter(|_| lane == Lane::Index) {
            Some(built) => Some(built.snapshot),
            None => self.last_read(lane, self.newest_succeeded(lane).into_iter()),
        }
    }

    /// When the sources of a lane were last read by a run.
    pub fn last_snapshot(&self, lane: Lane<'_>) -> Option<Timestamp> {
        let built = self.built().filter(|_| lane == Lane::Index);
        let read = self.runs_of(lane).filter_map(|r| r.snapshot_time());
        read.chain(built.map(|b| b.read)).max()
    }

    /// The newest look at a source for a lane, unless a run of that read it since.
    pub fn look(&self, lane: Lane<'_>, source: &str) -> Option<&'a Look> {
        let look = self.world.looks.get(&*key(lane.adapter(), source))?;
        self.last_snapshot(lane)
            .is_none_or(|t| look.time >= t)
            .then_some(look)
    }

    /// When a source was last looked at for a lane. The status tells of looks that are not known any more.
    pub fn last_look(&self, lane: Lane<'_>, source: &str) -> Option<Timestamp> {
        let look = self.world.looks.get(&*key(lane.adapter(), source));
        let look = look.map(|l| l.time);
        look.max(self.last_snapshot(lane))
            .max(self.last_success(source))
    }

    fn last_success(&self, source: &str) -> Option<Timestamp> {
        let sources = &self.world.status.sources;
        let status = sources.iter().find(|s| s.name == source)?;
        status.last_success_time.as_ref().map(|t| t.0)
    }

    /// When the newest look at any source of a lane was taken, in microseconds.
    pub fn newest_look(&self, lane: Lane<'_>) -> Option<Timestamp> {
        let looks = self.world.looks.values();
        let of_lane = looks.filter(|l| l.probe.adapter.as_deref() == lane.adapter());
        of_lane.map(|l| micro(l.time)).max()
    }

    /// The newest look that a run of a lane answers.
    pub fn answered_look(&self, lane: Lane<'_>) -> Option<Timestamp> {
        let times = self.runs_of(lane).filter_map(|r| r.spec.look_time.as_ref());
        times.map(|t| t.0).max()
    }

    /// The releases that a lane made, by number.
    pub fn releases_of(
        &self,
        lane: Lane<'_>,
    ) -> impl DoubleEndedIterator<Item = &'a MemoryRelease> {
        let releases = self.releases.iter().copied();
        releases.filter(move |r| r.lane() == lane)
    }

    pub fn release(&self, name: &str) -> Option<&'a MemoryRelease> {
        self.releases.iter().find(|r| r.name() == name).copied()
    }

    /// The release that is to be served.
    pub fn desired(&self) -> Option<&'a MemoryRelease> {
        self.release(self.world.serving.desired.as_deref()?)
    }

    /// The release with the newest index: what the newest successful run came to.
    pub fn target(&self) -> Option<&'a MemoryRelease> {
        let release = match self.built() {
            Some(built) => built.release.as_deref(),
            None => {
                let run = self.newest_succeeded(Lane::Index)?;
                run.status.as_ref()?.release.as_deref()
            }
        };
        let release = self.release(release?)?;
        // The same index may have been put upon other adapters since.
        let again = |r: &&MemoryRelease| {
            r.spec.number > release.spec.number
                && r.component(Lane::Index) == release.component(Lane::Index)
                && r.composition() != release.composition()
        };
        let again = self.releases_of(Lane::Index).rev().find(again);
        again.or(Some(release))
    }

    /// Whether the component that is new in a release is served.
    pub fn is_served(&self, release: &MemoryRelease) -> bool {
        let lane = release.lane();
        let served = self.desired().and_then(|d| d.component(lane));
        served.is_some() && served == release.component(lane)
    }

    /// The components of what serves that a release of a lane is built upon: all but the lane's own, but for adapters that
    /// are not declared any more, and beside an adapter those of another base: a release has one model.
    pub fn beside(&self, lane: Lane<'_>) -> BTreeMap<&'a str, &'a str> {
        let Some(served) = self.desired() else {
            return BTreeMap::new();
        };
        let own = lane.adapter().and_then(|name| self.pipeline.adapter(name));
        let keeps = |a: &AdapterComponent| {
            let fits = own.is_none_or(|own| own.base == a.base);
            fits && self.pipeline.adapter(&a.name).is_some()
        };
        let mut beside = served.components();
        beside.retain(|name, _| {
            let mut adapters = served.spec.adapters.iter();
            let index = *name == Lane::Index.component();
            *name != lane.component() && (index || adapters.any(|a| a.name == *name && keeps(a)))
        });
        beside
    }

    /// Whether a release holds what serves and is declared, but for the component that is new in it.
    pub fn is_on_top(&self, release: &MemoryRelease) -> bool {
        let mut beside = release.components();
        beside.remove(release.lane().component());
        beside == self.beside(release.lane())
    }

    pub fn hold(&self) -> Option<Hold<'a>> {
        let by_hand = self.world.intents.hold.map(|n| (n, "loci rollback"));
        let (number, by) = by_hand.or(self.pipeline.pin.map(|n| (n, "spec.rollout.pin")))?;
        let release = match self.releases.iter().find(|r| r.spec.number == number) {
            None => Err(format!(
                "{by} names release {number}, which is not kept: name one that `loci releases` lists, or take the hold back"
            )),
            Some(r) if !r.passed() => Err(format!(
                "{by} names {}, which did not pass its gates: name one that did",
                r.name()
            )),
            Some(r) => Ok(*r),
        };
        Some(Hold {
            number,
            release,
            by,
        })
    }

    /// The release that losses of a successor of `serving` are measured against, besides `serving`.
    pub fn anchor_of(&self, serving: &'a MemoryRelease) -> &'a MemoryRelease {
        let name = serving.status.as_ref().and_then(|s| s.anchor.as_deref());
        name.and_then(|n| self.release(n)).unwrap_or(serving)
    }

    /// What a candidate would be judged by now.
    pub fn subjects(&self) -> Subjects {
        let baseline = self.desired();
        let anchor = baseline
            .map(|b| self.anchor_of(b))
            .filter(|a| Some(a.name()) != baseline.map(|b| b.name()));
        let mut adapters = self.beside(Lane::Index);
        adapters.remove(Lane::Index.component());
        Subjects {
            baseline: baseline.map(|r| r.name().to_owned()),
            anchor: anchor.map(|r| r.name().to_owned()),
            suite_data: self.world.suite_data.clone(),
            adapters: adapters.into_keys().map(str::to_owned).collect(),
        }
    }

    /// The key of the verdict that a candidate of a lane with this component would get now. It does not depend on the
    /// other components: a candidate is promoted upon the very ones that it was judged with, and one that was rejected is
    /// not judged again because another lane got further.
    pub fn verdict_key(&self, lane: Lane<'_>, component: &str) -> String {
        let baseline = self.desired();
        let anchor = baseline.map(|b| self.anchor_of(b));
        let gates = self.pipeline.gate_inputs();
        let of = |release: Option<&'a MemoryRelease>| release?.component(lane);
        digest(&(
            "loci/verdict/v1",
            component,
            (of(baseline), of(anchor)),
            gates,
            &self.world.suite_data,
        ))
    }

    /// Whether the verdict of a release is the one that it would get now.
    pub fn verdict_holds(&self, release: &MemoryRelease) -> bool {
        let status = release.status.as_ref();
        let key = status.and_then(|s| s.verdict_inputs.as_deref());
        let lane = release.lane();
        let now = release.component(lane).map(|c| self.verdict_key(lane, c));
        key.is_some() && key == now.as_deref()
    }

    pub fn outcome(&self, key: &StepKey) -> Option<&'a StepOutcome> {
        self.world.outcomes.iter().find(|o| o.key == *key)
    }

    /// What a step of a run made, at its newest good attempt.
    pub fn made(&self, run: &MemoryRun, step: StepName) -> Option<&'a StepResult> {
        let of = |o: &&StepOutcome| o.key.run == run.name() && o.key.step == step;
        let good = self
            .world
            .outcomes
            .iter()
            .filter(of)
            .filter(|o| o.result.is_ok());
        good.max_by_key(|o| o.key.attempt)?.result.as_ref().ok()
    }
}

/// A run's status as a copy to change.
pub(crate) fn status_of(run: &MemoryRun) -> MemoryRunStatus {
    run.status.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
