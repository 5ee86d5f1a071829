//! What a request for a chat asks for.

use std::hash::{BuildHasher, Hasher, RandomState};

use loci_index::Filter;
use loci_models::{Message, Sampling};
use serde_json::{Value, json};

use super::messages;
use super::stream::Usage;
use crate::api::body::{Fields, Refused, kind, missing, shorten, unsupported};
use crate::api::error::ApiError;
use crate::auth::Access;
use crate::engine::Engine;
use crate::wire::{DEFAULT_K, MAX_CHAT_K, MAX_STOP_BYTES, MAX_STOPS};

/// Fields of a request.
pub(crate) const FIELDS: [&str; 12] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "k",
    "filters",
];

/// What OpenAI's API has besides, and the values by which clients ask for nothing.
const REFUSED: &[Refused] = &[
    refused(
        "n",
        |v| *v == 1,
        "each request has one answer: ask again for another",
    ),
    refused("frequency_penalty", is_zero, NO_PENALTIES),
    refused("presence_penalty", is_zero, NO_PENALTIES),
    refused(
        "logit_bias",
        is_empty,
        "no token is made more or less likely: say it in words",
    ),
    refused("logprobs", |v| *v == false, NO_PROBABILITIES),
    refused("top_logprobs", is_zero, NO_PROBABILITIES),
    refused("tools", is_empty, NO_TOOLS),
    refused("tool_choice", |v| *v == "none" || *v == "auto", NO_TOOLS),
    refused("parallel_tool_calls", Value::is_boolean, NO_TOOLS),
    refused("functions", is_empty, NO_TOOLS),
    refused("function_call", |v| *v == "none" || *v == "auto", NO_TOOLS),
    refused(
        "response_format",
        |v| *v == json!({"type": "text"}),
        "answers are text of no certain form: ask for one in words, and check it",
    ),
    refused("modalities", |v| *v == json!(["text"]), ONLY_TEXT),
    refused("audio", never, ONLY_TEXT),
    refused(
        "prediction",
        never,
        "answers are not written along a guess: leave it out",
    ),
    refused("reasoning_effort", |v| *v == "none", NO_REASONING),
    refused("verbosity", |v| *v == "medium", NO_REASONING),
    refused(
        "web_search_options",
        never,
        "only the pipeline's own passages are looked up: declare the pages as a source",
    ),
    refused("store", |v| *v == false, NOTHING_KEPT),
    refused("metadata", is_empty, NOTHING_KEPT),
    refused("user", never, NOTHING_KEPT),
    refused("safety_identifier", never, NOTHING_KEPT),
    refused("prompt_cache_key", never, NOTHING_KEPT),
    refused("prompt_cache_retention", never, NOTHING_KEPT),
    refused(
        "service_tier",
        |v| *v == "auto" || *v == "default",
        "there is one tier: leave it out",
    ),
    refused(
        "moderation",
        never,
        "answers are not moderated: do so yourself",
    ),
];

const NO_PENALTIES: &str = "tokens are not penalised for coming again: leave it out or send 0";
const NO_PROBABILITIES: &str = "probabilities of tokens are not told: leave it out";
const NO_TOOLS: &str = "the model calls no tools: leave it out";
const ONLY_TEXT: &str = "answers are text: leave it out";
const NO_REASONING: &str = "how the model answers is up to the model: say it in words";
const NOTHING_KEPT: &str = "nothing of a request is kept: leave it out";

const fn refused(name: &'static str, idle: fn(&Value) -> bool, reason: &'static str) -> Refused {
    Refused { name, idle, reason }
}

fn never(_: &Value) -> bool {
    false
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_empty(value: &Value) -> bool {
    *value == json!([]) || *value == json!({})
}

pub(super) struct Wanted {
    pub(super) model: Option<String>,
    pub(super) messages: Vec<Message>,
    pub(super) max_tokens: Option<usize>,
    pub(super) sampling: Sampling,
    /// The seed that was asked for, if one was.
    pub(super) seed: Option<u64>,
    pub(super) stop: Vec<String>,
    /// None for an answer in one piece.
    pub(super) streamed: Option<Usage>,
    pub(super) k: usize,
    pub(super) filter: Option<Filter>,
    pub(super) access: Access,
}

pub(super) fn parse(body: &[u8], access: Access) -> Result<Wanted, ApiError> {
    let mut fields = Fields::parse_without(body, &FIELDS, REFUSED)?;
    let messages = fields
        .take("messages")
        .ok_or_else(|| missing("messages", "it is the chat so far, a list of turns"))?;
    let k = fields.integer("k", 0, MAX_CHAT_K)?.unwrap_or(DEFAULT_K);
    let filter = fields
        .object("filters")?
        .map(|filters| Engine::filter(&filters))
        .transpose()?;
    let seed = fields.integer("seed", 0, u64::MAX)?;
    Ok(Wanted {
        model: fields.string("model")?,
        messages: messages::parse(messages)?,
        max_tokens: max_tokens(&mut fields)?,
        sampling: sampling(&mut fields, seed.unwrap_or_else(random))?,
        seed,
        stop: stop(fields.take("stop"))?,
        streamed: streamed(&mut fields)?,
        k: k as usize,
        filter,
        access,
    })
}

fn max_tokens(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let old = fields.integer("max_tokens", 1, u64::MAX)?;
    let new = fields.integer("max_completion_tokens", 1, u64::MAX)?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        let reason = format!("{old}, and max_completion_tokens is {new}: give one of the two");
        return Err(ApiError::field("max_tokens", reason));
    }
    let most = new.or(old);
    Ok(most.map(|most| usize::try_from(most).unwrap_or(usize::MAX)))
}

fn sampling(fields: &mut Fields, seed: u64) -> Result<Sampling, ApiError> {
    let heat = |t: f64| (0.0..=2.0).contains(&t);
    let share = |p: f64| p > 0.0 && p <= 1.0;
    let temperature = fields.number("temperature", "a number from 0 to 2", heat)?;
    let top_p = fields.number("top_p", "a number above 0, at most 1", share)?;
    let top_p = top_p.map_or(1.0, |p| p as f32);
    Ok(Sampling {
        temperature: temperature.map_or(1.0, |t| t as f32),
        top_p: top_p.max(f32::MIN_POSITIVE),
        top_k: None,
        seed,
    })
}

fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let items = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => return Ok(vec![stop_at("stop", Value::String(one))?]),
        Some(Value::Array(items)) => items,
        Some(other) => {
            let reason = format!("{} is neither a string nor a list of strings", kind(&other));
            return Err(ApiError::field("stop", reason));
        }
    };
    if items.len() > MAX_STOPS {
        let reason = format!("{} strings: send up to {MAX_STOPS}", items.len());
        return Err(ApiError::field("stop", reason));
    }
    let items = items.into_iter().enumerate();
    items
        .map(|(i, item)| stop_at(&format!("stop[{i}]"), item))
        .collect()
}

fn stop_at(place: &str, item: Value) -> Result<String, ApiError> {
    match item {
        Value::String(text) if text.is_empty() => {
            Err(ApiError::field(place, "empty: leave it out"))
        }
        Value::String(text) if text.len() > MAX_STOP_BYTES => Err(ApiError::field(
            place,
            format!(
                "{} bytes are more than the {MAX_STOP_BYTES} that are taken",
                text.len()
            ),
        )),
        Value::String(text) => Ok(text),
        other => Err(ApiError::field(
            place,
            format!("{} is not a string", kind(&other)),
        )),
    }
}

fn streamed(fields: &mut Fields) -> Result<Option<Usage>, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else {
        return Ok(stream.then_some(Usage(false)));
    };
    if !stream {
        let reason = "it is for streamed answers: leave it out, or send stream: true";
        return Err(ApiError::field("stream_options", reason));
    }
    let mut usage = Usage(false);
    for (name, value) in options.as_object().into_iter().flatten() {
        let place = format!("stream_options.{}", shorten(name));
        match (name.as_str(), value) {
            (_, Value::Null) | ("include_obfuscation", Value::Bool(false)) => {}
            ("include_usage", Value::Bool(wanted)) => usage = Usage(*wanted),
            ("include_usage", other) => {
                let reason = format!("{} is not true or false", kind(other));
                return Err(ApiError::field(place, reason));
            }
            _ => return Err(unsupported(&place, "there is include_usage")),
        }
    }
    Ok(Some(usage))
}

/// A number that nobody can tell beforehand, from the keys of the standard library's hash maps.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
