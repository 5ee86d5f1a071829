//! A pipeline as it was accepted.

use std::collections::HashMap;
use std::sync::Arc;

use loci_crds::MemoryPipeline;
use loci_digest::Digest;
use loci_plan::Pipeline;

/// A declared pipeline.
#[derive(Clone)]
pub struct Declared {
    /// The resource, with generation, uid and status.
    pub resource: MemoryPipeline,
    /// Its typed spec.
    pub pipeline: Arc<Pipeline>,
    /// The embedder's reference, absolute.
    pub model: String,
    /// The reference of the adapters' base model, absolute; none without adapters.
    pub base: Option<String>,
    /// The reference of the cross-encoder, absolute; none where none puts what is found into another order.
    pub cross_encoder: Option<String>,
    /// The suites' data in the store.
    pub suites: HashMap<String, Digest>,
    /// Watched sources.
    pub watched: Vec<String>,
}

impl Declared {
    /// The reference of a base model, absolute where it is the one that the spec names.
    pub(crate) fn absolute<'a>(&'a self, base: &'a str) -> &'a str {
        let declared = self.pipeline.adapters.iter().any(|a| a.base == base);
        let absolute = self.base.as_deref().filter(|_| declared);
        absolute.unwrap_or(base)
    }

    /// The reference of a cross-encoder, absolute where it is the one that the spec names.
    pub(crate) fn absolute_cross_encoder<'a>(&'a self, model: &'a str) -> &'a str {
        let declared = self.pipeline.rerank.as_ref();
        let declared = declared.and_then(|rerank| rerank.model.as_deref()) == Some(model);
        let absolute = self.cross_encoder.as_deref().filter(|_| declared);
        absolute.unwrap_or(model)
    }
}
