//! A chat that a service answers: its prompt, and its answer as it comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use loci_index::Hit;
use loci_models::{Finish, Message};
use loci_prompt::{ANSWER, with_context};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{More, Source};
use super::prompt::{citation, look_up, refuse_long};
use super::request::Wanted;
use super::{Begun, Chosen, too_many};
use crate::api::error::ApiError;
use crate::chat::Chat;
use crate::metrics::InFlight;
use crate::model::adapter_name;
use crate::recall::Recall;
use crate::release::Loaded;
use crate::service::{Asked, Chunk, Fixed, Length, Service, ServiceError, Writing};
use crate::wire::{ChatCitation, ChatUsage};

/// Has a chat answered by `service`, whose name for the model without adapter is `base`.
pub(super) async fn begin(
    recall: &Recall,
    chosen: &Chosen,
    (service, base): (&Service, &str),
    wanted: Wanted,
    arrived: Instant,
) -> Result<Begun, ApiError> {
    let place = service.enter().ok_or_else(too_many)?;
    let in_flight = recall.metrics().chat();
    let model = match &chosen.meant.adapter {
        Some((name, digest)) => adapter_name(name, *digest),
        None => base.to_owned(),
    };
    let hits = look_up(recall, &chosen.loaded, &wanted).await?;
    let reader = Reader {
        service,
        model: &model,
        chat: &chosen.chat,
        wanted: &wanted,
        hits: &hits,
        limit: recall.options().chat_context,
    };
    let read = reader.fitting().await?;
    let cited = citations(&hits, &read.chosen);
    let room = read.context - read.tokens;
    let asked = Asked {
        messages: read.messages,
        max_tokens: wanted.max_tokens.map_or(room, |most| most.min(room)),
        temperature: wanted.sampling.temperature,
        top_p: wanted.sampling.top_p,
        seed: wanted.seed.map(seed),
        stop: wanted.stop,
        fixed: Fixed::default(),
        model,
    };
    let limit = recall.options().chat_timeout;
    let forwarded = Forwarded {
        writing: service.chat(&asked).await?,
        deadline: arrived + limit,
        limit,
        finish: None,
        usage: None,
        _held: (chosen.loaded.clone(), in_flight, place),
    };
    Ok(Begun {
        source: Source::Service(Box::new(forwarded)),
        prompt_tokens: read.tokens as u64,
        cited,
    })
}

/// Seeds of vLLM are signed, and -1 is none.
fn seed(seed: u64) -> i64 {
    (seed & i64::MAX as u64) as i64
}

fn citations(hits: &[Hit], chosen: &[usize]) -> Vec<ChatCitation> {
    let hits = chosen.iter().map(|place| (*place, hits[*place].clone()));
    (1..).zip(hits).map(citation).collect()
}

/// Tries which passages a chat has room for.
struct Reader<'a> {
    service: &'a Service,
    model: &'a str,
    chat: &'a Arc<Chat>,
    wanted: &'a Wanted,
    hits: &'a [Hit],
    /// Tokens that a chat may have with its answer, if the model has as many.
    limit: usize,
}

/// A chat with some of the passages.
struct Read {
    messages: Vec<Message>,
    /// The places of the passages.
    chosen: Vec<usize>,
    tokens: usize,
    /// Tokens that it may have with its answer.
    context: usize,
    /// Whether it leaves as many as the answer should have.
    fits: bool,
}

impl Reader<'_> {
    /// The chat with as many passages as leave room for the answer. Mostly all do, so that is tried first; otherwise
    /// they are put in one after another, as in [`with_context`].
    async fn fitting(&self) -> Result<Read, ApiError> {
        let all = self.with((0..self.hits.len()).collect()).await?;
        if all.fits {
            return Ok(all);
        }
        let mut best = self.with(Vec::new()).await?;
        refuse_long(best.tokens, best.context)?;
        for place in 0..self.hits.len() {
            let mut more = best.chosen.clone();
            more.push(place);
            let more = self.with(more).await?;
            if more.fits {
                best = more;
            }
        }
        Ok(best)
    }

    async fn with(&self, chosen: Vec<usize>) -> Result<Read, ApiError> {
        let (chat, messages) = (self.chat.clone(), self.wanted.messages.clone());
        let hits: Vec<Hit> = chosen.iter().map(|p| self.hits[*p].clone()).collect();
        let build = move || {
            let all = |_: &[Message]| Ok::<_, Infallible>(true);
            let Ok(context) = with_context(&messages, &hits, &chat.marks, all);
            context.messages
        };
        let messages = tokio::task::spawn_blocking(build).await;
        let messages = messages.map_err(ApiError::internal)?;
        let Length { tokens, context } = self.service.length(self.model, &messages).await?;
        let context = context.min(self.limit);
        let room = context.saturating_sub(tokens);
        let kept = self.wanted.max_tokens.unwrap_or(ANSWER).min(context / 2);
        Ok(Read {
            messages,
            chosen,
            tokens,
            context,
            fits: room > 0 && kept <= room,
        })
    }
}

/// An answer that a service writes. Dropping it hangs up there.
pub(super) struct Forwarded {
    writing: Writing,
    deadline: Instant,
    limit: Duration,
    /// Told already, but the tokens read and written are still to come.
    finish: Option<Finish>,
    usage: Option<ChatUsage>,
    _held: (Arc<Loaded>, InFlight, OwnedSemaphorePermit),
}

impl Forwarded {
    /// Waits for more; the end comes last, without text. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<More, ApiError> {
        let (deadline, limit) = (self.deadline, self.limit);
        let read = tokio::time::timeout_at(deadline.into(), self.read()).await;
        read.unwrap_or_else(|_| Err(ApiError::overdue(limit)))
    }

    /// Tokens read and written, when it has ended.
    pub(super) fn usage(&self) -> Option<ChatUsage> {
        self.usage
    }

    async fn read(&mut self) -> Result<More, ApiError> {
        while let Some(chunk) = self.writing.next().await? {
            if let Some(text) = self.take(chunk)? {
                return Ok(More { text, finish: None });
            }
        }
        let broken = || ApiError::unanswered("the service broke off in the middle of an answer");
        Ok(More {
            text: String::new(),
            finish: Some(self.finish.ok_or_else(broken)?),
        })
    }

    fn take(&mut self, chunk: Chunk) -> Result<Option<String>, ApiError> {
        self.usage = chunk.usage.or(self.usage);
        let Some(choice) = chunk.choices.into_iter().next() else {
            return Ok(None);
        };
        if let Some(reason) = choice.finish_reason {
            self.finish = Some(match reason.as_str() {
                "stop" => Finish::Stop,
                "length" => Finish::Length,
                other => {
                    let reason = format!("the service ended an answer by \"{other}\"");
                    return Err(ApiError::unanswered(&reason));
                }
            });
        }
        Ok(choice.delta.content.filter(|text| !text.is_empty()))
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let told = error.to_string();
        match error {
            ServiceError::Refused {
                status: StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY,
                message,
                param,
                ..
            } => {
                let message = format!("the model's service refuses the chat: {message}");
                let error = Self::new(StatusCode::BAD_REQUEST, "refused_by_service", message);
                match param {
                    Some(param) => error.at(param),
                    None => error,
                }
            }
            ServiceError::Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                ..
            } => too_many(),
            ServiceError::Away { .. }
            | ServiceError::Refused {
                status: StatusCode::SERVICE_UNAVAILABLE | StatusCode::NOT_FOUND,
                ..
            } => {
                tracing::warn!("a chat is not answered: {told}");
                let message = "the model's service cannot answer now: ask again after Retry-After";
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "service_unavailable",
                    message,
                )
            }
            ServiceError::Client { .. }
            | ServiceError::Refused { .. }
            | ServiceError::Unreadable { .. } => Self::unanswered(&told),
        }
    }
}

impl ApiError {
    /// The service failed on a chat.
    fn unanswered(reason: &str) -> Self {
        tracing::error!("a chat is not answered: {reason}");
        Self::new(
            StatusCode::BAD_GATEWAY,
            "service_failed",
            "the model's service failed on this chat; the server's log has the reason",
        )
    }
}
