//! Assemble: the revision that a delta describes, never in place.

use std::path::Path;

use loci_bus::Unit;
use loci_digest::Digest;
use loci_index::{Identity, RerankMethod, Reranking, RevisionInfo};
use loci_plan::spec::{Fusion, Normalization, Rerank, RerankMethod as Declared};
use loci_store::Tree;
use serde::{Deserialize, Serialize};

use super::{DELTA, DeltaManifest, Reporter, StepContext, StepError, StepInput, blocking};

/// The kind of a revision's manifest.
pub const REVISION: &str = "revision";

/// A revision: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionManifest {
    /// What the index says of itself.
    pub info: RevisionInfo,
    /// Its files.
    pub tree: Tree,
    /// Blob: what it was built from.
    pub corpus: Digest,
    /// The embedder's reference.
    pub model: String,
    /// The reference of the cross-encoder that puts what is found into another order, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_encoder: Option<String>,
}

/// What Assemble made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssembleOutput {
    /// The revision's manifest.
    pub revision: Digest,
    /// Equal for equal content.
    pub content_id: Digest,
    /// The embedder's identity.
    pub embedder: Digest,
    /// The embedder's reference.
    pub model: String,
    /// The cross-encoder's identity, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_encoder: Option<Digest>,
    /// Documents.
    pub documents: u64,
    /// Passages.
    pub passages: u64,
    /// Bytes that were not in the store before.
    pub new_bytes: u64,
}

pub(super) async fn run(
    context: &StepContext,
    pipeline: &str,
    input: &StepInput,
    delta: &Digest,
    (fusion, rerank): (&Fusion, Option<&Rerank>),
    reporter: &Reporter,
) -> Result<AssembleOutput, StepError> {
    let reranking = match rerank {
        Some(rerank) => Some(reranking(context, rerank).await?),
        None => None,
    };
    let model = reranking.as_ref().and_then(|r| r.model);
    let key = input.key(pipeline, model.as_ref())?;
    let plan: DeltaManifest = context.store.get_manifest(DELTA, delta).await?;
    let base = match &plan.base {
        Some(digest) => Some(context.revisions.manifest(digest).await?),
        None => None,
    };
    let mut known = base.map(|b| b.tree).unwrap_or_default();
    // The one file that keeps its name while its content changes.
    known.remove(loci_index::MANIFEST);
    if let Some(revision) = context.store.lookup(&key).await? {
        let manifest = context.revisions.manifest(&revision).await?;
        return Ok(output(revision, &manifest, &known));
    }
    let out = context.revisions.scratch()?;
    let identity = Identity {
        rerank: reranking,
        ..plan.identity()
    };
    let made = (identity, index_fusion(fusion)?);
    let info = build(context, &plan, made, &out, reporter).await?;
    let tree = context.store.put_tree(&out, &known).await?;
    let manifest = RevisionManifest {
        info,
        tree,
        corpus: plan.corpus,
        model: plan.model.clone(),
        cross_encoder: rerank.and_then(|rerank| rerank.model.clone()),
    };
    let refs: Vec<Digest> = manifest
        .tree
        .values()
        .map(|f| f.digest)
        .chain([manifest.corpus])
        .collect();
    let revision = context
        .store
        .put_manifest(REVISION, &refs, &manifest)
        .await?;
    let winner = context.store.record(&key, &revision).await?;
    if winner == revision {
        context.revisions.adopt(&revision, out).await?;
        return Ok(output(revision, &manifest, &known));
    }
    let manifest = context.revisions.manifest(&winner).await?;
    Ok(output(winner, &manifest, &known))
}

/// Builds the revision's files in `out`.
async fn build(
    context: &StepContext,
    plan: &DeltaManifest,
    (identity, fusion): (Identity, loci_index::Fusion),
    out: &Path,
    reporter: &Reporter,
) -> Result<RevisionInfo, StepError> {
    let documents = context.store.get(&plan.documents).await?;
    let vectors = context.store.get(&plan.vectors).await?;
    let base = match &plan.base {
        Some(digest) => Some(context.revisions.directory(digest).await?),
        None => None,
    };
    let (plan, out, reporter) = (plan.clone(), out.to_owned(), reporter.clone());
    blocking(move || {
        let delta = plan.delta(&documents, &vectors)?;
        let mut progress = |p: loci_index::AssembleProgress| {
            reporter.report(p.done, Some(p.total), Unit::Chunks, None);
            reporter.flow()
        };
        loci_index::assemble(
            base.as_deref(),
            delta,
            &identity,
            fusion,
            &out,
            &mut progress,
        )
        .map_err(|e| match e {
            loci_index::IndexError::Cancelled => StepError::Cancelled,
            e => e.into(),
        })
    })
    .await
}

/// A pipeline's fusion as the index has it.
fn index_fusion(fusion: &Fusion) -> Result<loci_index::Fusion, StepError> {
    let normalization = match fusion.normalization {
        Normalization::MinMax => loci_index::Normalization::MinMax,
        Normalization::TheoreticalMinMax => loci_index::Normalization::TheoreticalMinMax,
        Normalization::ZScore => loci_index::Normalization::ZScore,
        Normalization::ReciprocalRank => loci_index::Normalization::ReciprocalRank,
    };
    let weight = fusion.dense_weight as f32;
    Ok(loci_index::Fusion::new(normalization, weight)?)
}

/// A pipeline's re-ranking as a revision has it: with the model that is there now, by its identity.
async fn reranking(context: &StepContext, rerank: &Rerank) -> Result<Reranking, StepError> {
    let model = match &rerank.model {
        Some(model) => {
            let cross = context.encoders.cross_encoder(model).await?;
            Some(cross.identity().digest())
        }
        None => None,
    };
    Ok(Reranking {
        method: match rerank.method {
            Declared::LateInteraction => RerankMethod::LateInteraction,
            Declared::CrossEncoder => RerankMethod::CrossEncoder,
        },
        model,
        candidates: rerank.candidates,
        budget_ms: rerank.budget_ms,
    })
}

fn output(revision: Digest, manifest: &RevisionManifest, known: &Tree) -> AssembleOutput {
    let shared: std::collections::HashSet<&Digest> = known.values().map(|f| &f.digest).collect();
    AssembleOutput {
        revision,
        content_id: manifest.info.content_id,
        embedder: manifest.info.embedder,
        model: manifest.model.clone(),
        cross_encoder: manifest.info.rerank.as_ref().and_then(|r| r.model),
        documents: manifest.info.documents,
        passages: manifest.info.passages,
        new_bytes: manifest
            .tree
            .values()
            .filter(|f| !shared.contains(&f.digest))
            .map(|f| f.size)
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_that_says_nothing_fuses_by_default_and_every_name_is_the_same_in_both() {
        let said = index_fusion(&Fusion::default()).unwrap();
        assert_eq!(said, loci_index::Fusion::default());
        for theirs in loci_index::Normalization::ALL {
            let normalization = serde_json::from_value(theirs.name().into()).unwrap();
            let fusion = Fusion {
                normalization,
                dense_weight: 0.25,
            };
            let said = index_fusion(&fusion).unwrap();
            assert_eq!((said.normalization(), said.dense_weight()), (theirs, 0.25));
        }
    }

    #[test]
    fn the_input_of_a_pipeline_that_says_nothing_is_what_it_was() {
        let delta = Digest::of("delta");
        let input = |fusion, rerank| StepInput::Assemble {
            delta,
            fusion,
            rerank,
        };
        let written = serde_json::to_value(input(Fusion::default(), None)).unwrap();
        let before = serde_json::json!({"step": "assemble", "delta": delta});
        assert_eq!(written, before);
        assert_eq!(
            serde_json::from_value::<StepInput>(before).unwrap(),
            input(Fusion::default(), None)
        );
        let rerank = Rerank {
            method: Declared::LateInteraction,
            model: None,
            candidates: 20,
            budget_ms: 200,
        };
        let input = input(Fusion::default(), Some(rerank));
        let written = serde_json::to_value(&input).unwrap();
        assert_eq!(written["rerank"]["method"], "lateInteraction");
        let read: StepInput = serde_json::from_value(written).unwrap();
        assert_eq!(read, input);
    }
}
