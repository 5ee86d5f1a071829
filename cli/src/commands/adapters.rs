//! `loci adapters`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use loci_operator::{AdapterOptions, AdapterTerms};

use super::{Shared, api_server, service_log, until_terminated};
use crate::up::duration;

/// Keeps the adapters of one pipeline's releases loaded in a vLLM: a container beside it runs this. Both mount the state
/// directory by the same path
#[derive(Debug, Args)]
pub struct Adapters {
    /// The pipeline
    #[arg(long)]
    pipeline: String,
    /// Its namespace
    #[arg(long, env = "LOCI_NAMESPACE")]
    namespace: String,
    /// Where vLLM is; it wants --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    vllm: url::Url,
    /// Where it says which releases are loaded; its /readyz is the pod's readiness
    #[arg(long, default_value = "127.0.0.1:7701")]
    status: SocketAddr,
    /// The largest rank that vLLM loads, as it was started with; adapters of larger ones are refused before they are fetched
    #[arg(long)]
    max_lora_rank: Option<usize>,
    /// How far an adapter's answers to fixed prompts may be from those recorded when it was trained, in nats a token. vLLM
    /// computes in bfloat16 by default, which rounds much; for float32, 0.002 is enough
    #[arg(long, default_value_t = 0.1, value_parser = tolerance)]
    tolerance: f64,
    /// How long chats may go on with an adapter of a release that is not wanted any more; no less than recall gives a chat
    #[arg(long, default_value = "10m", value_parser = duration)]
    drain: Duration,
}

impl Adapters {
    /// Runs until Ctrl-C or SIGTERM; what is loaded stays loaded.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        let client = api_server().await?;
        let options = AdapterOptions {
            namespace: self.namespace,
            pipeline: self.pipeline,
            state: shared.state.clone(),
            vllm: self.vllm,
            status: self.status,
            terms: AdapterTerms {
                max_rank: self.max_lora_rank,
                tolerance: self.tolerance,
                drain: self.drain,
            },
        };
        loci_operator::adapt(client, options, until_terminated()).await
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let fits = number.filter(|number| *number > 0.0 && *number < 10.0);
    fits.ok_or_else(|| "write a number of nats above 0 and below 10, such as 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::tolerance;

    #[test]
    fn a_tolerance_is_a_small_number() {
        assert_eq!(tolerance("0.002"), Ok(0.002));
        for text in ["", "0", "-0.1", "10", "NaN", "inf", "some"] {
            assert!(tolerance(text).is_err(), "{text}");
        }
    }
}
