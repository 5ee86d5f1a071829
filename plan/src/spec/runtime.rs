//! What answers chats.

use loci_crds::MemoryPipelineSpec;

use super::fields::Fields;

/// A vLLM that answers chats in place of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vllm {
    /// Its Service, in the pipeline's namespace.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    /// Its name for the model without adapter.
    pub model: String,
    /// The largest rank that it loads.
    pub max_lora_rank: usize,
}

impl Fields {
    /// The vLLM, when it loads all adapters.
    pub(super) fn vllm(&mut self, spec: &MemoryPipelineSpec) -> Option<Vllm> {
        let field = |leaf: &str| format!("spec.serving.runtime.vllm.{leaf}");
        let vllm = &spec.serving.runtime.as_ref()?.vllm;
        if spec.adapters.is_empty() {
            let reason = "chats are answered by releases with adapters, and the pipeline has none: declare one in spec.adapters, or remove the field";
            self.error("spec.serving.runtime", reason);
        }
        let fits = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
        let name = &vllm.service;
        let ends = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
        if name.len() > 63 || !name.chars().all(fits) || !ends {
            let reason = "the name of a Service is 1 to 63 lower case letters, digits and hyphens, a letter first";
            self.error(field("service"), reason);
        }
        if vllm.model().is_empty() {
            let reason = "give the name that vLLM has for the base, or leave the field out";
            self.error(field("model"), reason);
        }
        let port = self.count(&field("port"), Some(vllm.port()), 1..=65_535, 8000);
        let most = Some(vllm.max_lora_rank());
        let most = self.count(&field("maxLoraRank"), most, 1..=512, 16);
        for (i, adapter) in spec.adapters.iter().enumerate() {
            let rank = adapter.lora.rank.unwrap_or(8);
            if usize::try_from(rank).is_ok_and(|rank| rank > most) {
                let reason = format!(
                    "{rank} is more than the {most} that the vLLM of spec.serving.runtime loads: lower it, or start vLLM with a larger --max-lora-rank and say so in maxLoraRank"
                );
                self.error(format!("spec.adapters[{i}].lora.rank"), reason);
            }
        }
        Some(Vllm {
            service: name.clone(),
            port: u16::try_from(port).unwrap_or(u16::MAX),
            model: vllm.model().to_owned(),
            max_lora_rank: most,
        })
    }
}
