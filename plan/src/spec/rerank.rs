//! How the best of what is found is put into another order.

use std::time::Duration;

use loci_crds::MemoryPipelineSpec;
pub use loci_crds::retrieval::RerankMethod;
use serde::{Deserialize, Serialize};

use super::fields::Fields;

/// Passages that are compared when a pipeline does not say how many.
const CANDIDATES: usize = 20;
/// How long that may take when a pipeline does not say.
const BUDGET: Duration = Duration::from_millis(200);

/// How the best of what is found is put into another order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rerank {
    /// How passages are compared with the query.
    pub method: RerankMethod,
    /// The cross-encoder's reference; none of late interaction, which has the embedder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Passages that are compared.
    pub candidates: usize,
    /// How long that may take a query, in milliseconds.
    pub budget_ms: u64,
}

impl Fields {
    pub(super) fn rerank(&mut self, spec: &MemoryPipelineSpec) -> Option<Rerank> {
        let field = |leaf: &str| format!("spec.retrieval.rerank.{leaf}");
        let rerank = spec.retrieval.as_ref()?.rerank.as_ref()?;
        let model = rerank.model.as_ref();
        match (rerank.method, model) {
            (RerankMethod::CrossEncoder, None) => {
                let reason = "a crossEncoder is a model of its own: write hf://org/name@revision, or file:// and a directory";
                self.error(field("model"), reason);
            }
            (RerankMethod::LateInteraction, Some(_)) => {
                let reason = "lateInteraction compares by the embedder: remove the field, or use method crossEncoder";
                self.error(field("model"), reason);
            }
            _ => {}
        }
        let budget = self.duration(&field("budget"), rerank.budget.as_ref(), BUDGET);
        if !budget.is_zero() && budget < Duration::from_millis(1) {
            self.error(field("budget"), "a budget is at least 1ms");
        }
        let candidates = &field("candidates");
        Some(Rerank {
            method: rerank.method,
            model: model.map(|model| self.model(&field("model"), model)),
            candidates: self.count(candidates, rerank.candidates, 2..=200, CANDIDATES),
            budget_ms: u64::try_from(budget.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
