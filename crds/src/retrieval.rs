//! How queries are answered.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::GoDuration;

/// How queries are answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrievalSpec {
    /// How the best of what is found is read once more, and put into another order. Not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankSpec>,
}

/// Re-ranking: the best of what a search finds is compared with the query anew, by something slower and better. What changes here is judged by the suites before it is served; nothing is embedded anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.method != 'crossEncoder' || has(self.model)").message("a crossEncoder is a model of its own: name it in model"),
    validation = Rule::new("self.method != 'lateInteraction' || !has(self.model)").message("lateInteraction compares by the embedder: remove model, or use crossEncoder"),
)]
pub struct RerankSpec {
    /// How passages are compared with the query: lateInteraction, token by token with the embedder's own vectors, or crossEncoder, by a model that reads both together.
    pub method: RerankMethod,
    /// The cross-encoder: a BERT with a head for sequence classification, `hf://org/name@revision`, or `file://` and a directory for `loci up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^(hf://[^/@]+/[^/@]+@[^@]+|file://.+)$"), extend("example" = "hf://cross-encoder/ms-marco-MiniLM-L6-v2@main"))]
    pub model: Option<String>,
    /// How many of the best passages are compared; 20 when absent. Suites are judged with all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 200))]
    pub candidates: Option<i32>,
    /// How long that may take a query; 200ms when absent. Where fewer passages fit, fewer are compared; where not even two do, the order stays and the answer says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<GoDuration>,
}

/// How passages are compared with the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RerankMethod {
    /// MaxSim over the token vectors of the embedder.
    LateInteraction,
    /// A model that reads query and passage together.
    CrossEncoder,
}
