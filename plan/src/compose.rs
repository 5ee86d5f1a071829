//! What a release is composed of: what serves, with the component replaced that a run built.

use std::collections::BTreeMap;

use loci_crds::release::{
    AdapterComponent, CrossEncoderComponent, EmbedderComponent, IndexComponent,
};
use loci_crds::run::{RunKind, StepName};
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;

use crate::action::Subject;
use crate::view::{Lane, ReleaseView, RunView, View, components, composition};
use crate::world::{Assembled, StepResult};

/// The components of a release that is to be.
pub(crate) struct Composed {
    pub index: IndexComponent,
    pub embedder: EmbedderComponent,
    /// The adapter that is new in it; none when the index is.
    pub adapter: Option<String>,
    pub adapters: Vec<AdapterComponent>,
}

impl Composed {
    /// What the release of a run would be, if it were made now: none while what the run built is not known, or when what
    /// it would be put upon is not there.
    pub fn of(view: &View<'_>, run: &MemoryRun) -> Option<Self> {
        match run.spec.kind {
            RunKind::Refresh => match view.made(run, StepName::Assemble)? {
                StepResult::Assemble(assembled) => Some(Self::with_index(view, assembled)),
                _ => None,
            },
            RunKind::FineTune => Self::with_adapter(view, trained(view, run)?),
            RunKind::Rebase => Self::again(view, view.release(run.spec.release.as_deref()?)?),
        }
    }

    /// What serves, with another index.
    pub fn with_index(view: &View<'_>, assembled: &Assembled) -> Self {
        Self {
            index: IndexComponent {
                revision: assembled.revision.to_string(),
                content_id: assembled.content_id.to_string(),
                documents: assembled.documents as i64,
                passages: assembled.passages as i64,
                cross_encoder: cross_encoder(view, assembled),
            },
            embedder: EmbedderComponent {
                model: view.pipeline.model.clone(),
                identity: assembled.embedder.to_string(),
            },
            adapter: None,
            adapters: beside(view, Lane::Index),
        }
    }

    /// What serves, with another adapter.
    fn with_adapter(view: &View<'_>, adapter: AdapterComponent) -> Option<Self> {
        let serving = view.desired()?;
        let mut adapters = beside(view, Lane::Adapter(&adapter.name));
        let name = adapter.name.clone();
        adapters.push(adapter);
        adapters.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Self {
            index: serving.spec.index.clone(),
            embedder: serving.spec.embedder.clone(),
            adapter: Some(name),
            adapters,
        })
    }

    /// What serves, with what is new in a release. Of an adapter that is not declared any more nothing is.
    pub fn again(view: &View<'_>, release: &MemoryRelease) -> Option<Self> {
        let declared = |name: &&String| view.pipeline.adapter(name).is_some();
        match release.spec.adapter.as_ref().filter(declared) {
            Some(name) => {
                let mut adapters = release.spec.adapters.iter();
                Self::with_adapter(view, adapters.find(|a| a.name == *name)?.clone())
            }
            None => Some(Self {
                index: release.spec.index.clone(),
                embedder: release.spec.embedder.clone(),
                adapter: None,
                adapters: beside(view, Lane::Index),
            }),
        }
    }

    /// The lane whose component is new in it.
    pub fn lane(&self) -> Lane<'_> {
        Lane::of(self.adapter.as_deref())
    }

    /// The identity of all components.
    pub fn composition(&self) -> String {
        composition(&components(&self.index.content_id, &self.adapters))
    }

    /// The component that is new in it, by digest.
    pub fn component(&self) -> Option<&str> {
        let all = components(&self.index.content_id, &self.adapters);
        all.get(self.lane().component()).copied()
    }
}

/// The cross-encoder of an index: what a run made of the declared one.
fn cross_encoder(view: &View<'_>, assembled: &Assembled) -> Option<CrossEncoderComponent> {
    let declared = view.pipeline.rerank.as_ref()?.model.as_ref()?;
    Some(CrossEncoderComponent {
        model: declared.clone(),
        identity: assembled.cross_encoder?.to_string(),
    })
}

/// What a run built, put upon what serves now, as Evaluate asks it.
pub(crate) fn candidate(view: &View<'_>, run: &MemoryRun) -> Option<Subject> {
    let (revision, adapters) = match run.spec.kind {
        RunKind::Refresh => (run.output(StepName::Assemble)?, beside(view, Lane::Index)),
        RunKind::FineTune | RunKind::Rebase => {
            let composed = Composed::of(view, run)?;
            (composed.index.revision.parse().ok()?, composed.adapters)
        }
    };
    subject(revision, &adapters)
}

/// The adapter that is new in what a run built: not of this content in what serves.
pub(crate) fn new_adapter(view: &View<'_>, run: &MemoryRun) -> Option<String> {
    if run.spec.kind == RunKind::Refresh {
        return None;
    }
    let composed = Composed::of(view, run)?;
    let serves = view.desired().and_then(|d| d.component(composed.lane()));
    let adapter = composed.adapter.as_ref();
    adapter.filter(|_| serves != composed.component()).cloned()
}

/// A release as Evaluate asks it.
pub(crate) fn asked(release: &MemoryRelease) -> Option<Subject> {
    subject(release.revision()?, &release.spec.adapters)
}

fn subject(revision: Digest, adapters: &[AdapterComponent]) -> Option<Subject> {
    let adapter = |a: &AdapterComponent| Some((a.name.clone(), a.manifest.parse().ok()?));
    let adapters: Option<BTreeMap<_, _>> = adapters.iter().map(adapter).collect();
    Some(Subject {
        revision,
        adapters: adapters?,
    })
}

/// The adapters of what serves that a release of a lane keeps.
fn beside(view: &View<'_>, lane: Lane<'_>) -> Vec<AdapterComponent> {
    let kept = view.beside(lane);
    let served = view.desired().map(|d| d.spec.adapters.iter());
    let served = served.into_iter().flatten();
    served
        .filter(|a| kept.contains_key(&*a.name))
        .cloned()
        .collect()
}

/// The adapter that a fine-tune trained.
fn trained(view: &View<'_>, run: &MemoryRun) -> Option<AdapterComponent> {
    let StepResult::Train(trained) = view.made(run, StepName::Train)? else {
        return None;
    };
    let adapter = view.pipeline.adapter(run.spec.adapter.as_deref()?)?;
    Some(AdapterComponent {
        name: adapter.name.clone(),
        manifest: trained.output.to_string(),
        adapter: trained.adapter.to_string(),
        base: adapter.base.clone(),
        base_digest: trained.base_digest.to_string(),
        rank: i32::try_from(trained.rank).unwrap_or(i32::MAX),
        dataset: run.output(StepName::Collect)?.to_string(),
    })
}
