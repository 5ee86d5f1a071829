//! What the rules ask of lanes, now that there are several.

use jiff::Timestamp;
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;

use super::{Lane, ReleaseView, RunView, View};
use crate::schedule::Hours;
use crate::spec::Adapter;
use crate::world::StepOutcome;

impl<'a> View<'a> {
    /// The standing request for a run of a lane.
    pub fn asked(&self, lane: Lane<'_>) -> Option<&'a str> {
        let intents = &self.world.intents;
        match lane {
            Lane::Index => intents.refresh.as_deref(),
            Lane::Adapter(name) => intents.tune.get(name).map(String::as_str),
        }
    }

    /// The lanes that look at a source between their runs: the index at what is indexed, an adapter at what it is trained
    /// on when that may trigger a training.
    pub fn looking_at(&self, source: &str) -> Vec<Lane<'a>> {
        let lanes = self.lanes().into_iter();
        lanes
            .filter(|l| self.looks(*l) && self.reads(*l, source))
            .collect()
    }

    /// Whether the sources of a lane are looked at between its runs.
    pub fn looks(&self, lane: Lane<'_>) -> bool {
        match lane {
            Lane::Index => true,
            Lane::Adapter(name) => {
                let adapter = self.pipeline.adapter(name);
                adapter.is_some_and(|a| a.trigger.is_some() && !self.suspends(a))
            }
        }
    }

    /// Whether an adapter starts no runs: its spec says so, or a person.
    pub fn suspends(&self, adapter: &Adapter) -> bool {
        adapter.suspend || self.world.intents.suspended.contains(&adapter.name)
    }

    /// Whether a lane's runs read a source. One that is not declared any more counts as the index's.
    fn reads(&self, lane: Lane<'_>, source: &str) -> bool {
        let declared = self.pipeline.sources.iter().any(|s| s.name == source);
        let mut read = self.pipeline.read_by(lane.adapter());
        read.any(|s| s.name == source) || !declared && lane == Lane::Index
    }

    /// The newest release of a lane: of the index that with the newest index, though its run may not say yet that it made it.
    pub fn tip(&self, lane: Lane<'_>) -> Option<&'a MemoryRelease> {
        let newest = || self.releases_of(lane).next_back();
        if lane != Lane::Index {
            return newest();
        }
        let live = self.live(lane);
        let made = newest().filter(|r| live.is_some_and(|run| r.spec.run == run.name()));
        made.or_else(|| self.target())
    }

    /// The snapshot of the newest of these runs of a lane, or that of its newest release: runs since may have been deleted.
    pub fn last_read(
        &self,
        lane: Lane<'_>,
        runs: impl DoubleEndedIterator<Item = &'a MemoryRun>,
    ) -> Option<Digest> {
        let mut runs = runs.rev();
        let read = runs.find_map(|r| Some((r.ended(), r.output(StepName::Snapshot)?)));
        let mut releases = self.releases_of(lane).rev();
        let released = releases.find_map(|r| Some((self.brought(lane, r), r.snapshot()?)));
        match (read, released) {
            (Some((ended, _)), Some((made, snapshot))) if made > ended => Some(snapshot),
            (Some((_, snapshot)), _) | (None, Some((_, snapshot))) => Some(snapshot),
            (None, None) => None,
        }
    }

    /// When what a release brought to its lane was first released: a rebase makes nothing new.
    fn brought(&self, lane: Lane<'_>, release: &MemoryRelease) -> Option<Timestamp> {
        let same = |r: &&MemoryRelease| r.component(lane) == release.component(lane);
        let created = |r: &MemoryRelease| r.metadata.creation_timestamp.as_ref().map(|t| t.0);
        self.releases_of(lane)
            .filter(same)
            .filter_map(created)
            .min()
    }

    /// The newest run of a lane that trained and succeeded.
    pub fn last_training(&self, lane: Lane<'_>) -> Option<&'a MemoryRun> {
        let trained = |r: &&MemoryRun| {
            r.phase() == RunPhase::Succeeded && r.output(StepName::Train).is_some()
        };
        self.runs_of(lane).rev().find(trained)
    }

    /// What the last training was by, when that was by the settings of now: which examples are new is told from it.
    pub fn last_dataset(&self, lane: Lane<'_>) -> Option<Digest> {
        let run = self.last_training(lane)?;
        let same = run.inputs() == self.inputs(lane).as_deref();
        run.output(StepName::Collect).filter(|_| same)
    }

    /// The last due time of an adapter's schedule that counts as taken: that of a run, or when the schedule was first
    /// seen. None until the status says so.
    pub fn last_schedule(&self, adapter: &Adapter) -> Option<Timestamp> {
        let mut known = self.world.status.adapters.iter();
        let known = known.find(|s| s.name == adapter.name && s.schedule == adapter.cron)?;
        let runs = self.runs_of(Lane::Adapter(&adapter.name));
        let taken = runs.filter_map(|r| r.spec.scheduled_time.as_ref());
        taken.chain(&known.last_schedule_time).map(|t| t.0).max()
    }

    /// The due time of an adapter's schedule that no run stands for yet.
    pub fn due(&self, adapter: &Adapter) -> Option<Timestamp> {
        let schedule = adapter.schedule.as_ref()?;
        schedule.due(self.last_schedule(adapter)?, self.now)
    }

    /// The first time of an adapter's schedule that is still to come.
    pub fn upcoming(&self, adapter: &Adapter) -> Option<Timestamp> {
        let last = self.last_schedule(adapter).unwrap_or(self.now);
        adapter.schedule.as_ref()?.upcoming(last, self.now)
    }

    /// Whether a step of a run may be at work now: Train only while a window of its adapter is open.
    pub fn hours(&self, run: &MemoryRun, step: StepName) -> Hours {
        let adapter = run.spec.adapter.as_deref();
        let adapter = adapter.filter(|_| step == StepName::Train);
        let adapter = adapter.and_then(|name| self.pipeline.adapter(name));
        let windows = adapter.map(|a| a.windows.as_slice());
        Hours::at(windows.unwrap_or_default(), self.now)
    }

    /// How many attempts at a step of a run are known to have failed.
    pub fn failures(&self, run: &MemoryRun, step: StepName) -> i32 {
        let of = |o: &&StepOutcome| o.key.run == run.name() && o.key.step == step;
        let outcomes = self.world.outcomes.iter().filter(of);
        let failed = outcomes.filter(|o| o.result.is_err()).count();
        i32::try_from(failed).unwrap_or(i32::MAX)
    }
}
