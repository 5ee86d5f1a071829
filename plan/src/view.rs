//! The world, looked at for what the rules ask of it.

use jiff::Timestamp;
use loci_crds::release::{Outcome, ReleasePhase};
use loci_crds::run::{RunPhase, StepName, StepStatus};
use loci_crds::{MemoryRelease, MemoryReleaseStatus, MemoryRun, MemoryRunStatus};
use loci_digest::Digest;

use crate::clock::micro;
use crate::spec::{Pipeline, digest};
use crate::world::{Built, Look, StepKey, StepOutcome, StepResult, Subjects, World};

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

pub(crate) trait RunView {
    fn name(&self) -> &str;
    fn phase(&self) -> RunPhase;
    fn ended(&self) -> Option<Timestamp>;
    fn reason(&self) -> &str;
    fn inputs(&self) -> Option<&str>;
    fn step(&self, name: StepName) -> Option<&StepStatus>;
    /// The output of a step that ended.
    fn output(&self, name: StepName) -> Option<Digest>;
    /// When the run read its sources, if it did.
    fn snapshot_time(&self) -> Option<Timestamp>;
}

impl RunView for MemoryRun {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn phase(&self) -> RunPhase {
        self.status.as_ref().map(|s| s.phase).unwrap_or_default()
    }

    fn ended(&self) -> Option<Timestamp> {
        self.status.as_ref()?.completion_time.as_ref().map(|t| t.0)
    }

    fn reason(&self) -> &str {
        self.status
            .as_ref()
            .and_then(|s| s.reason.as_deref())
            .unwrap_or_default()
    }

    fn inputs(&self) -> Option<&str> {
        self.status.as_ref()?.inputs.as_deref()
    }

    fn step(&self, name: StepName) -> Option<&StepStatus> {
        self.status.as_ref()?.steps.iter().find(|s| s.name == name)
    }

    fn output(&self, name: StepName) -> Option<Digest> {
        let step = self.step(name).filter(|s| s.completion_time.is_some())?;
        step.output.as_ref()?.parse().ok()
    }

    fn snapshot_time(&self) -> Option<Timestamp> {
        self.output(StepName::Snapshot)?;
        self.step(StepName::Snapshot).map(|s| s.start_time.0)
    }
}

pub(crate) trait ReleaseView {
    fn name(&self) -> &str;
    fn phase(&self) -> ReleasePhase;
    fn content(&self) -> &str;
    fn revision(&self) -> Option<Digest>;
    /// The sources as the release was built from.
    fn snapshot(&self) -> Option<Digest>;
    fn passed(&self) -> bool;
    fn state(&self) -> MemoryReleaseStatus;
    /// What it needs of the store: the revision, the evaluation, the snapshot.
    fn roots(&self) -> Vec<Digest>;
}

impl ReleaseView for MemoryRelease {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn phase(&self) -> ReleasePhase {
        self.status.as_ref().map(|s| s.phase).unwrap_or_default()
    }

    fn content(&self) -> &str {
        &self.spec.index.content_id
    }

    fn revision(&self) -> Option<Digest> {
        self.spec.index.revision.parse().ok()
    }

    fn snapshot(&self) -> Option<Digest> {
        self.status.as_ref()?.snapshot.as_ref()?.parse().ok()
    }

    fn passed(&self) -> bool {
        let verdict = self.status.as_ref().and_then(|s| s.verdict.as_ref());
        verdict.is_some_and(|v| v.outcome == Outcome::Passed)
    }

    fn state(&self) -> MemoryReleaseStatus {
        self.status.clone().unwrap_or_default()
    }

    fn roots(&self) -> Vec<Digest> {
        let verdict = self.status.as_ref().and_then(|s| s.verdict.as_ref());
        let evaluation = verdict.and_then(|v| v.evaluation.as_ref()?.parse().ok());
        let all = [self.revision(), evaluation, self.snapshot()];
        all.into_iter().flatten().collect()
    }
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

    /// The run whose turn it is: the oldest that has not ended.
    pub fn live(&self) -> Option<&'a MemoryRun> {
        self.runs.iter().find(|r| !r.phase().is_terminal()).copied()
    }

    /// The newest run that has ended.
    pub fn newest_ended(&self) -> Option<&'a MemoryRun> {
        self.runs
            .iter()
            .rev()
            .find(|r| r.phase().is_terminal())
            .copied()
    }

    /// The newest run that succeeded: what the sources held when all went well.
    pub fn newest_succeeded(&self) -> Option<&'a MemoryRun> {
        let good =
            |r: &&&MemoryRun| r.phase() == RunPhase::Succeeded && r.snapshot_time().is_some();
        self.runs.iter().rev().find(good).copied()
    }

    /// What the newest run that ever succeeded came to, when it is not there to tell: it was deleted.
    pub fn built(&self) -> Option<&'a Built> {
        let ended = self.newest_succeeded().and_then(RunView::ended);
        let built = self.world.built.as_ref();
        built.filter(|built| ended < Some(built.ended))
    }

    /// The build inputs of the newest run that succeeded.
    pub fn built_inputs(&self) -> Option<&'a str> {
        let run = self.newest_succeeded();
        match self.built() {
            Some(built) => Some(&built.inputs),
            None => run.map(|r| r.inputs().unwrap_or_default()),
        }
    }

    /// The snapshot that probes compare with: the live run's, or the last good one.
    pub fn basis(&self) -> Option<Digest> {
        let live = self.live().and_then(|r| r.output(StepName::Snapshot));
        live.or_else(|| self.last_listing())
    }

    /// The snapshot of the newest run that succeeded; when nothing is known of one, that of the newest release.
    pub fn last_listing(&self) -> Option<Digest> {
        match (self.built(), self.newest_succeeded()) {
            (Some(built), _) => Some(built.snapshot),
            (None, Some(run)) => run.output(StepName::Snapshot),
            (None, None) => self.releases.iter().rev().find_map(|r| r.snapshot()),
        }
    }

    /// When all sources were last read by a run.
    pub fn last_snapshot(&self) -> Option<Timestamp> {
        let built = self.built().map(|b| b.read);
        let read = self.runs.iter().filter_map(|r| r.snapshot_time());
        read.chain(built).max()
    }

    /// The newest look at a source, unless a run read it since.
    pub fn look(&self, source: &str) -> Option<&'a Look> {
        let look = self.world.looks.get(source)?;
        self.last_snapshot()
            .is_none_or(|t| look.time >= t)
            .then_some(look)
    }

    /// When a source was last looked at. The status tells of looks that are not known any more.
    pub fn last_look(&self, source: &str) -> Option<Timestamp> {
        let look = self.world.looks.get(source).map(|l| l.time);
        look.max(self.last_snapshot())
            .max(self.last_success(source))
    }

    fn last_success(&self, source: &str) -> Option<Timestamp> {
        let sources = &self.world.status.sources;
        let status = sources.iter().find(|s| s.name == source)?;
        status.last_success_time.as_ref().map(|t| t.0)
    }

    /// When the newest look at any source was taken, in microseconds.
    pub fn newest_look(&self) -> Option<Timestamp> {
        self.world.looks.values().map(|l| micro(l.time)).max()
    }

    /// The newest look that a run answers.
    pub fn answered_look(&self) -> Option<Timestamp> {
        let times = self.runs.iter().filter_map(|r| r.spec.look_time.as_ref());
        times.map(|t| t.0).max()
    }

    pub fn release(&self, name: &str) -> Option<&'a MemoryRelease> {
        self.releases.iter().find(|r| r.name() == name).copied()
    }

    /// The release that is to be served.
    pub fn desired(&self) -> Option<&'a MemoryRelease> {
        self.release(self.world.serving.desired.as_deref()?)
    }

    /// The release with the newest content: what the newest successful run came to.
    pub fn target(&self) -> Option<&'a MemoryRelease> {
        let release = match self.built() {
            Some(built) => built.release.as_deref(),
            None => self.newest_succeeded()?.status.as_ref()?.release.as_deref(),
        };
        self.release(release?)
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
        Subjects {
            baseline: baseline.map(|r| r.name().to_owned()),
            anchor: anchor.map(|r| r.name().to_owned()),
            suite_data: self.world.suite_data.clone(),
        }
    }

    /// The key of the verdict that a candidate with this content would get now.
    pub fn verdict_key(&self, content: &str) -> String {
        let baseline = self.desired();
        let anchor = baseline.map(|b| self.anchor_of(b));
        let gates = self.pipeline.gate_inputs();
        let contents = (
            baseline.map(ReleaseView::content),
            anchor.map(ReleaseView::content),
        );
        digest(&(
            "loci/verdict/v1",
            content,
            contents,
            gates,
            &self.world.suite_data,
        ))
    }

    /// Whether the verdict of a release is the one that it would get now.
    pub fn verdict_holds(&self, release: &MemoryRelease) -> bool {
        let key = release
            .status
            .as_ref()
            .and_then(|s| s.verdict_inputs.as_deref());
        key == Some(self.verdict_key(release.content()).as_str())
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
