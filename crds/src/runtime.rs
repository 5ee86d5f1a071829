//! What answers chats.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What answers chats in place of the replicas themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeSpec {
    /// A vLLM that serves the base of the adapters, with `loci adapters` beside it. In a cluster only: `loci up` refuses it.
    pub vllm: VllmSpec,
}

/// A vLLM, and how it was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VllmSpec {
    /// Its Service, in the pipeline's namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), extend("example" = "support-vllm"))]
    pub service: String,
    /// The Service's port; 8000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Its name for the base, `--served-model-name`; `base` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,
    /// The largest rank that it loads, `--max-lora-rank`; 16 when absent, as with vLLM. An adapter of a larger rank is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub max_lora_rank: Option<i32>,
}

impl VllmSpec {
    /// The Service's port.
    pub fn port(&self) -> i32 {
        self.port.unwrap_or(8000)
    }

    /// Its name for the base.
    pub fn model(&self) -> &str {
        self.model.as_deref().unwrap_or("base")
    }

    /// The largest rank that it loads.
    pub fn max_lora_rank(&self) -> i32 {
        self.max_lora_rank.unwrap_or(16)
    }
}
