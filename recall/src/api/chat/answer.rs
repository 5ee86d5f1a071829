//! An answer while it is written.

use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use loci_models::Finish;
use tokio::sync::mpsc::UnboundedReceiver;

use super::forward::Forwarded;
use crate::api::error::ApiError;
use crate::generate::Written;
use crate::recall::Recall;
use crate::wire::{ChatAnswer, ChatChoice, ChatCitation, ChatResponse, ChatUsage};

/// What is known of an answer before its first token.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) release: String,
    pub(super) prompt_tokens: u64,
    pub(super) cited: Vec<ChatCitation>,
}

/// Where an answer comes from.
pub(super) enum Source {
    /// A thread of this process, token by token.
    Here(UnboundedReceiver<Written>),
    /// A service.
    Service(Box<Forwarded>),
}

/// More of an answer.
pub(super) struct More {
    pub(super) text: String,
    /// Why it ends here, if it does.
    pub(super) finish: Option<Finish>,
}

/// An answer that is being written. Dropping it gives it up.
pub(super) struct Answer {
    pub(super) head: Head,
    recall: Recall,
    source: Source,
    arrived: Instant,
    begun: bool,
    tokens: u64,
}

impl Answer {
    pub(super) fn new(recall: Recall, head: Head, source: Source, arrived: Instant) -> Self {
        Self {
            head,
            recall,
            source,
            arrived,
            begun: false,
            tokens: 0,
        }
    }

    /// Waits for more. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<More, ApiError> {
        let before = self.tokens;
        let more = match &mut self.source {
            Source::Here(written) => {
                let limit = self.recall.options().chat_timeout;
                let token = match written.recv().await {
                    Some(written) => written.map_err(|e| ApiError::unwritten(e, limit))?,
                    None => return Err(ApiError::internal("nobody writes the answer any more")),
                };
                self.tokens += 1;
                More {
                    text: token.text,
                    finish: token.finish,
                }
            }
            Source::Service(forwarded) => {
                let more = forwarded.next().await?;
                // A piece may be several tokens: how many they were is told at the end.
                if let Some(usage) = forwarded.usage().filter(|_| more.finish.is_some()) {
                    self.tokens = usage.completion_tokens;
                    self.head.prompt_tokens = usage.prompt_tokens;
                }
                more
            }
        };
        let waited = (!self.begun).then(|| self.arrived.elapsed());
        self.begun = true;
        let metrics = self.recall.metrics();
        metrics.generated(self.tokens - before, waited);
        Ok(more)
    }

    /// Tokens read and written, once it has ended.
    pub(super) fn usage(&self) -> ChatUsage {
        let (prompt_tokens, completion_tokens) = (self.head.prompt_tokens, self.tokens);
        ChatUsage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
        }
    }

    /// Waits for all of it.
    pub(super) async fn whole(mut self) -> Result<Response, ApiError> {
        let mut content = String::new();
        let finish = loop {
            let more = self.next().await?;
            content.push_str(&more.text);
            if let Some(finish) = more.finish {
                break finish;
            }
        };
        let usage = self.usage();
        let head = self.head;
        let choice = ChatChoice {
            index: 0,
            message: ChatAnswer {
                role: ASSISTANT.to_owned(),
                content,
            },
            finish_reason: reason(finish).to_owned(),
        };
        let response = ChatResponse {
            id: head.id,
            object: "chat.completion".to_owned(),
            created: head.created,
            model: head.model,
            choices: vec![choice],
            usage,
            citations: head.cited,
            release: head.release,
        };
        Ok(Json(response).into_response())
    }
}

/// Whose turn an answer is.
pub(super) const ASSISTANT: &str = "assistant";

/// Why an answer ends, in OpenAI's words.
pub(super) fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::End | Finish::Stop => "stop",
        Finish::Length => "length",
    }
}
