//! A service that writes answers, as vLLM does: OpenAI's `/v1/models` and `/v1/chat/completions`, and `/tokenize`.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use loci_models::Message;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::events::Events;
use crate::wire::ChatUsage;

/// The longest time for a connection, and for an answer that is no chat's.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// What is said of an error's text.
const QUOTED: usize = 300;

/// The way to a service; releases that it answers for share it.
pub(crate) struct Service {
    url: Url,
    http: Client,
    places: Arc<Semaphore>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("{url} cannot be asked: {reason}")]
    Client { url: String, reason: String },
    #[error("{url} does not answer: {reason}")]
    Away { url: String, reason: String },
    #[error("{url} answers {status}: {message}")]
    Refused {
        url: String,
        status: StatusCode,
        message: String,
        param: Option<String>,
    },
    #[error("{url} answers what cannot be read: {reason}")]
    Unreadable { url: String, reason: String },
}

/// How long a chat is as the model reads it, and how long it may be with its answer, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Length {
    #[serde(rename = "count")]
    pub(crate) tokens: usize,
    #[serde(rename = "max_model_len")]
    pub(crate) context: usize,
}

/// A chat to be answered. What vLLM would otherwise take from the model's `generation_config.json` is said.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) max_tokens: usize,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Vec<String>,
    #[serde(flatten)]
    pub(crate) fixed: Fixed,
}

/// What is the same for all chats: all tokens are drawn from, none is penalised, and the answer comes in pieces.
#[derive(Debug, Serialize)]
pub(crate) struct Fixed {
    top_k: i32,
    min_p: f32,
    repetition_penalty: f32,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            top_k: -1,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
            },
        }
    }
}

/// A piece of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Chunk {
    #[serde(default)]
    pub(crate) choices: Vec<Choice>,
    #[serde(default)]
    pub(crate) usage: Option<ChatUsage>,
    #[serde(default)]
    error: Option<Detail>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    pub(crate) delta: Delta,
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Delta {
    #[serde(default)]
    pub(crate) content: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    error: Detail,
}

/// An error in OpenAI's shape; vLLM's `code` is the status.
#[derive(Debug, Deserialize)]
struct Detail {
    message: String,
    #[serde(default)]
    param: Option<String>,
    #[serde(default)]
    code: Value,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

#[derive(Serialize)]
struct Tokenize<'a> {
    model: &'a str,
    messages: &'a [Message],
}

impl Service {
    /// At `url`, for so many chats at once.
    pub(crate) fn new(url: Url, chats: usize) -> Result<Self, ServiceError> {
        // A connection for each request: behind the service's address are several, and one that was kept would go to
        // the same for ever, or be closed there at this moment.
        let http = Client::builder()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let http = http.map_err(|e| ServiceError::Client {
            url: url.to_string(),
            reason: told(&e),
        })?;
        Ok(Self {
            url,
            http,
            places: Arc::new(Semaphore::new(chats.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// A place for one answer, until it is written; none when too many are written or wait.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// The names that it answers to.
    pub(crate) async fn models(&self) -> Result<BTreeSet<String>, ServiceError> {
        let asked = self.http.get(self.at("/v1/models")).timeout(ANSWER);
        let models: Models = self.read(self.send(asked).await?).await?;
        Ok(models.data.into_iter().map(|model| model.id).collect())
    }

    /// How long a chat is to a model.
    pub(crate) async fn length(
        &self,
        model: &str,
        messages: &[Message],
    ) -> Result<Length, ServiceError> {
        let asked = self.http.post(self.at("/tokenize")).timeout(ANSWER);
        let asked = asked.json(&Tokenize { model, messages });
        self.read(self.send(asked).await?).await
    }

    /// Has a chat answered.
    pub(crate) async fn chat(&self, asked: &Asked) -> Result<Writing, ServiceError> {
        let asked = self.http.post(self.at("/v1/chat/completions")).json(asked);
        Ok(Writing {
            response: self.send(asked).await?,
            events: Events::default(),
            url: self.url.clone(),
        })
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }

    async fn send(&self, asked: RequestBuilder) -> Result<Response, ServiceError> {
        let answer = asked.send().await.map_err(|e| self.away(&e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        Err(match serde_json::from_str(&text) {
            Ok(Failure { error }) => refused(&self.url, status, error),
            Err(_) => ServiceError::Refused {
                url: self.url.to_string(),
                status,
                message: text.chars().take(QUOTED).collect(),
                param: None,
            },
        })
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T, ServiceError> {
        let bytes = answer.bytes().await.map_err(|e| self.away(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| unreadable(&self.url, &e))
    }

    fn away(&self, error: &reqwest::Error) -> ServiceError {
        away(&self.url, error)
    }
}

/// An answer that is being written. Dropping it hangs up, and the service gives the answer up.
pub(crate) struct Writing {
    response: Response,
    events: Events,
    url: Url,
}

impl Writing {
    /// The next piece; none when no more comes. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Chunk>, ServiceError> {
        loop {
            if let Some(data) = self.events.next() {
                return self.chunk(&data);
            }
            let more = self.response.chunk().await;
            let Some(more) = more.map_err(|e| away(&self.url, &e))? else {
                return Ok(None);
            };
            let taken = self.events.push(&more);
            taken.map_err(|reason| unreadable(&self.url, &reason))?;
        }
    }

    fn chunk(&self, data: &str) -> Result<Option<Chunk>, ServiceError> {
        if data == "[DONE]" {
            return Ok(None);
        }
        let mut chunk: Chunk = serde_json::from_str(data).map_err(|e| unreadable(&self.url, &e))?;
        match chunk.error.take() {
            Some(error) => Err(refused(&self.url, StatusCode::INTERNAL_SERVER_ERROR, error)),
            None => Ok(Some(chunk)),
        }
    }
}

fn away(url: &Url, error: &reqwest::Error) -> ServiceError {
    ServiceError::Away {
        url: url.to_string(),
        reason: told(error),
    }
}

fn unreadable(url: &Url, reason: &dyn ToString) -> ServiceError {
    ServiceError::Unreadable {
        url: url.to_string(),
        reason: reason.to_string(),
    }
}

/// The status is the error's own, if it has one.
fn refused(url: &Url, status: StatusCode, error: Detail) -> ServiceError {
    let own = error
        .code
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let own = own.and_then(|code| StatusCode::from_u16(code).ok());
    ServiceError::Refused {
        url: url.to_string(),
        status: own.unwrap_or(status),
        message: error.message.chars().take(QUOTED).collect(),
        param: error.param,
    }
}

/// The whole of an error: the library tells its causes apart.
fn told(error: &reqwest::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        told = format!("{told}: {because}");
        cause = because.source();
    }
    told
}
