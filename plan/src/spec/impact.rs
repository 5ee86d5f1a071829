//! What a change of a spec sets off.

use std::collections::{BTreeMap, BTreeSet};

use loci_crds::source::MemoryClass;

use super::{Adapter, Declared, Pipeline, Source};

/// What the change of a field sets off, from least to most.
///
/// | field changed | impact |
/// |---|---|
/// | `suspend`, `index.refresh`, `index.freshness`, `index.maxDeletion`, `rollout`, `releases`, `runs`, `serving`, `deletionPolicy`, `workers`, `budget`, what else `adapters` say | [`Impact::None`]: holds from now on |
/// | `suites`, `gates` | [`Impact::Judge`]: holds for the next candidate; one that was rejected is judged again |
/// | `adapters`: one taken out | [`Impact::Judge`]: a release without it is judged |
/// | `sources` that are indexed | [`Impact::Refresh`]: a run reads them; only changed documents are cut and embedded |
/// | `retrieval.rerank` | [`Impact::Refresh`]: nothing is embedded for it; the index whose passages are ordered so is judged |
/// | `index.fusion` | [`Impact::Refresh`]: nothing is embedded for it; the index that searches so is judged |
/// | `index.chunking`, `metadata` of `sources` | [`Impact::Rechunk`]: every document is cut anew; passages that stay the same keep their vectors |
/// | `embedder` | [`Impact::Rebuild`]: every passage is embedded anew |
/// | `adapters`: base, sources, heldOut, context, lora, training; procedural `sources` | [`Impact::Retrain`]: the adapter's next run trains, however few examples are new; what is at work begins anew |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Impact {
    /// No run.
    None,
    /// No run unless the newest candidate was rejected.
    Judge,
    /// A run that reads the sources.
    Refresh,
    /// A run that cuts all documents.
    Rechunk,
    /// A run that embeds all passages.
    Rebuild,
    /// No run at once, but the next fine-tune trains.
    Retrain,
}

/// What the change from `old` to `new` sets off, by the field that does; nothing that stayed the same is listed.
pub fn impact(old: &Pipeline, new: &Pipeline) -> BTreeSet<(Impact, &'static str)> {
    let history = |p: &Pipeline| (p.release_history, p.release_min_age);
    let gone = |a: &Adapter| new.adapter(&a.name).is_none();
    let retrained = |a: &Adapter| old.adapter(&a.name).map(trained_by) != Some(trained_by(a));
    let fields = [
        (Impact::None, "spec.suspend", old.suspend != new.suspend),
        (
            Impact::None,
            "spec.index.refresh",
            old.schedule != new.schedule,
        ),
        (
            Impact::None,
            "spec.index.freshness",
            old.freshness != new.freshness,
        ),
        (
            Impact::None,
            "spec.index.maxDeletion",
            old.max_deletion != new.max_deletion,
        ),
        (Impact::None, "spec.rollout.pin", old.pin != new.pin),
        (Impact::None, "spec.releases", history(old) != history(new)),
        (
            Impact::None,
            "spec.runs",
            old.run_history != new.run_history,
        ),
        (
            Impact::None,
            "spec.serving",
            old.latency_budget != new.latency_budget || old.vllm != new.vllm,
        ),
        (
            Impact::None,
            "spec.deletionPolicy",
            old.deletion_policy != new.deletion_policy,
        ),
        (Impact::None, "spec.workers", old.class != new.class),
        (Impact::None, "spec.budget", old.budget != new.budget),
        (Impact::Judge, "spec.suites", old.suites != new.suites),
        (Impact::Judge, "spec.gates", old.gates != new.gates),
        (Impact::None, "spec.adapters", old.adapters != new.adapters),
        (
            Impact::Judge,
            "spec.adapters",
            old.adapters.iter().any(gone),
        ),
        (
            Impact::Retrain,
            "spec.adapters",
            new.adapters.iter().any(retrained),
        ),
        (
            Impact::Retrain,
            "spec.sources",
            procedural(old) != procedural(new),
        ),
        (
            Impact::Refresh,
            "spec.sources",
            !old.read_by(None).eq(new.read_by(None)),
        ),
        (
            Impact::Refresh,
            "spec.index.fusion",
            old.fusion != new.fusion,
        ),
        (
            Impact::Refresh,
            "spec.retrieval.rerank",
            old.rerank != new.rerank,
        ),
        (
            Impact::Rechunk,
            "spec.sources",
            !declared(old).eq(declared(new)),
        ),
        (
            Impact::Rechunk,
            "spec.index.chunking",
            old.chunking != new.chunking,
        ),
        (Impact::Rebuild, "spec.embedder", old.model != new.model),
    ];
    fields
        .into_iter()
        .filter(|f| f.2)
        .map(|(impact, field, _)| (impact, field))
        .collect()
}

fn trained_by(adapter: &Adapter) -> (String, &[String]) {
    (adapter.settings(), &adapter.sources)
}

/// What sources declare of their documents.
fn declared(pipeline: &Pipeline) -> impl Iterator<Item = (&String, &BTreeMap<String, Declared>)> {
    let sources = pipeline.sources.iter().map(|s| (&s.name, &s.metadata));
    sources.filter(|(_, metadata)| !metadata.is_empty())
}

fn procedural(pipeline: &Pipeline) -> Vec<&Source> {
    let sources = pipeline.sources.iter();
    sources
        .filter(|s| s.memory == MemoryClass::Procedural)
        .collect()
}
