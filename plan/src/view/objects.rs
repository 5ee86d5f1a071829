//! Runs and releases, read as the rules read them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use loci_crds::release::{AdapterComponent, Outcome, ReleasePhase};
use loci_crds::run::{RunKind, RunPhase, StepName, StepStatus};
use loci_crds::{MemoryRelease, MemoryReleaseStatus, MemoryRun};
use loci_digest::Digest;

use super::Lane;
use crate::spec::digest;

pub(crate) trait RunView {
    fn name(&self) -> &str;
    /// The lane that it is of. None of a rebase: that builds nothing.
    fn lane(&self) -> Option<Lane<'_>>;
    fn phase(&self) -> RunPhase;
    fn ended(&self) -> Option<Timestamp>;
    fn reason(&self) -> &str;
    fn inputs(&self) -> Option<&str>;
    fn step(&self, name: StepName) -> Option<&StepStatus>;
    /// The output of a step that ended.
    fn output(&self, name: StepName) -> Option<Digest>;
    /// All outputs of steps that ended.
    fn outputs(&self) -> Vec<Digest>;
    /// When the run read its sources, if it did.
    fn snapshot_time(&self) -> Option<Timestamp>;
    /// The step that has begun and not ended.
    fn open(&self) -> Option<StepName>;
}

impl RunView for MemoryRun {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn lane(&self) -> Option<Lane<'_>> {
        match self.spec.kind {
            RunKind::Refresh => Some(Lane::Index),
            RunKind::FineTune => Some(Lane::of(self.spec.adapter.as_deref())),
            RunKind::Rebase => None,
        }
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

    fn outputs(&self) -> Vec<Digest> {
        let steps = StepName::of(self.spec.kind).iter();
        steps.filter_map(|s| self.output(*s)).collect()
    }

    fn snapshot_time(&self) -> Option<Timestamp> {
        self.output(StepName::Snapshot)?;
        self.step(StepName::Snapshot).map(|s| s.start_time.0)
    }

    fn open(&self) -> Option<StepName> {
        let steps = &self.status.as_ref()?.steps;
        let open = steps.iter().find(|s| s.completion_time.is_none())?;
        Some(open.name)
    }
}

pub(crate) trait ReleaseView {
    fn name(&self) -> &str;
    /// Whose run made it: that lane's component is new in it.
    fn lane(&self) -> Lane<'_>;
    fn phase(&self) -> ReleasePhase;
    /// The components by digest, the index under no name.
    fn components(&self) -> BTreeMap<&str, &str>;
    /// The component of a lane, by digest.
    fn component(&self, lane: Lane<'_>) -> Option<&str>;
    /// The identity of all that it holds.
    fn composition(&self) -> String;
    fn revision(&self) -> Option<Digest>;
    /// The sources as the release was built from.
    fn snapshot(&self) -> Option<Digest>;
    fn passed(&self) -> bool;
    fn state(&self) -> MemoryReleaseStatus;
    /// What it cannot be served or built upon without: the revision, the adapters, what they were trained on. None when
    /// one of them is no digest.
    fn needs(&self) -> Option<Vec<Digest>>;
    /// What it needs of the store: what it serves, what that was trained on, the evaluation, the snapshot.
    fn roots(&self) -> Vec<Digest>;
}

impl ReleaseView for MemoryRelease {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn lane(&self) -> Lane<'_> {
        Lane::of(self.spec.adapter.as_deref())
    }

    fn phase(&self) -> ReleasePhase {
        self.status.as_ref().map(|s| s.phase).unwrap_or_default()
    }

    fn components(&self) -> BTreeMap<&str, &str> {
        components(&self.spec.index.content_id, &self.spec.adapters)
    }

    fn component(&self, lane: Lane<'_>) -> Option<&str> {
        self.components().get(lane.component()).copied()
    }

    fn composition(&self) -> String {
        composition(&self.components())
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

    fn needs(&self) -> Option<Vec<Digest>> {
        needs(self).collect()
    }

    fn roots(&self) -> Vec<Digest> {
        let verdict = self.status.as_ref().and_then(|s| s.verdict.as_ref());
        let evaluation = verdict.and_then(|v| v.evaluation.as_ref()?.parse().ok());
        let beside = [evaluation, self.snapshot()];
        needs(self).chain(beside).flatten().collect()
    }
}

/// The revision, the adapters and what they were trained on; nothing for what is no digest.
fn needs(release: &MemoryRelease) -> impl Iterator<Item = Option<Digest>> {
    let adapters = release.spec.adapters.iter();
    let adapters = adapters.flat_map(|a| [a.manifest.parse().ok(), a.dataset.parse().ok()]);
    std::iter::once(release.revision()).chain(adapters)
}

/// Components by digest, the index under no name.
pub(crate) fn components<'a>(
    content: &'a str,
    adapters: &'a [AdapterComponent],
) -> BTreeMap<&'a str, &'a str> {
    let adapters = adapters.iter().map(|a| (&*a.name, &*a.adapter));
    let index = (Lane::Index.component(), content);
    std::iter::once(index).chain(adapters).collect()
}

/// The identity of components: of an index alone it is that of its content.
pub(crate) fn composition(components: &BTreeMap<&str, &str>) -> String {
    match components.get(Lane::Index.component()) {
        Some(content) if components.len() == 1 => (*content).to_owned(),
        _ => digest(&("loci/release/v1", components)),
    }
}
