//! What is asked of a vLLM: OpenAI's `/v1/models` and `/v1/completions`, `/tokenize`, and vLLM's own loading and unloading of
//! adapters, which it offers when `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True` is in its environment.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use loci_models::Probe;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::probe::Asked;

/// The longest time for an answer that computes nothing, also under much load; and for the others.
const SHORT: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(120);
/// What is said of an error's text.
const QUOTED: usize = 300;

/// A vLLM on this machine.
pub struct Vllm {
    url: Url,
    http: Client,
}

/// What it serves by one name.
#[derive(Clone, Debug, Deserialize)]
pub struct Card {
    /// The name.
    pub id: String,
    /// Where an adapter was loaded from.
    #[serde(default)]
    pub root: Option<String>,
    /// The name of an adapter's model; none for the model itself.
    #[serde(default)]
    pub parent: Option<String>,
}

#[derive(Deserialize)]
struct Cards {
    data: Vec<Card>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    /// Of each token of the prompt but the first: it, and the likeliest, by their ids.
    prompt_logprobs: Vec<Option<BTreeMap<String, Scored>>>,
}

#[derive(Deserialize)]
struct Scored {
    logprob: f64,
}

impl Vllm {
    /// At `url`.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(url: Url) -> Result<Self> {
        let http = Client::builder().no_proxy().build()?;
        Ok(Self { url, http })
    }

    /// All that it serves.
    pub async fn cards(&self) -> Result<Vec<Card>> {
        let asked = self.http.get(self.at("/v1/models")).timeout(SHORT);
        let cards: Cards = self.send(asked).await?.json().await?;
        Ok(cards.data)
    }

    /// Loads an adapter from a directory; with `again`, also one that it has by this name.
    pub async fn load(&self, name: &str, from: &Path, again: bool) -> Result<()> {
        let from = from.to_str();
        let from = from.context("vLLM reads paths that are UTF-8 only: give another --state")?;
        let mut body = json!({"lora_name": name, "lora_path": from});
        if again {
            body["load_inplace"] = true.into();
        }
        self.change("/v1/load_lora_adapter", &body).await
    }

    /// Unloads an adapter.
    pub async fn unload(&self, name: &str) -> Result<()> {
        let body = json!({"lora_name": name});
        self.change("/v1/unload_lora_adapter", &body).await
    }

    async fn change(&self, path: &str, body: &Value) -> Result<()> {
        let asked = self.http.post(self.at(path)).timeout(LONG).json(body);
        self.send(asked).await?;
        Ok(())
    }

    /// A prompt and its answer as the tokenizer of the model called `name` has them, each by itself. Their marks are in them.
    pub async fn tokens(&self, name: &str, probe: &Probe) -> Result<Asked> {
        Ok(Asked {
            prompt: self.tokenize(name, &probe.prompt).await?,
            answer: self.tokenize(name, &probe.completion).await?,
        })
    }

    async fn tokenize(&self, name: &str, text: &str) -> Result<Vec<u32>> {
        let body = json!({"model": name, "prompt": text, "add_special_tokens": false});
        let asked = self.http.post(self.at("/tokenize"));
        let asked = asked.timeout(SHORT).json(&body);
        let answer: Tokens = self.send(asked).await?.json().await?;
        Ok(answer.tokens)
    }

    /// The logarithm of the probability that the model called `name` gives to each token of the answer.
    pub async fn log_probabilities(&self, name: &str, probe: &Asked) -> Result<Vec<f64>> {
        let all = [probe.prompt.as_slice(), &probe.answer].concat();
        let body = json!({
            "model": name, "prompt": all, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1,
        });
        let asked = self.http.post(self.at("/v1/completions"));
        let asked = asked.timeout(LONG).json(&body);
        let answer: Completion = self.send(asked).await?.json().await?;
        let choice = answer.choices.first().context("vLLM says nothing")?;
        let scored = choice.prompt_logprobs.get(probe.prompt.len()..);
        let scored = scored.unwrap_or_default().iter().zip(&probe.answer);
        let of = |(scored, id): (&Option<BTreeMap<String, Scored>>, &u32)| {
            Some(scored.as_ref()?.get(&id.to_string())?.logprob)
        };
        let each: Option<Vec<f64>> = scored.map(of).collect();
        match each {
            Some(each) if !each.is_empty() && each.len() == probe.answer.len() => Ok(each),
            _ => bail!("vLLM does not say how likely each token of a prompt is"),
        }
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }

    async fn send(&self, asked: RequestBuilder) -> Result<Response> {
        let answer = asked.send().await;
        let answer = answer.with_context(|| format!("vLLM at {} does not answer", self.url))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let path = answer.url().path().to_owned();
        let text = answer.text().await.unwrap_or_default();
        // What FastAPI says of a path that it does not have; vLLM's own errors have an `error`.
        if status == StatusCode::NOT_FOUND && text.contains("\"detail\"") {
            bail!(
                "vLLM has no {path}: start it with --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
            );
        }
        let message = serde_json::from_str::<Value>(&text).ok();
        let message = message.and_then(|m| Some(m["error"]["message"].as_str()?.to_owned()));
        let message = message.unwrap_or(text);
        let message: String = message.chars().take(QUOTED).collect();
        bail!("vLLM answers {path} with {status}: {message}")
    }
}
