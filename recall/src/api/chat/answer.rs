//! An answer while it is written.

use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use loci_models::{Finish, Token};
use tokio::sync::mpsc::UnboundedReceiver;

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

/// An answer that is being written. Dropping it gives it up.
pub(super) struct Answer {
    pub(super) head: Head,
    recall: Recall,
    written: UnboundedReceiver<Written>,
    arrived: Instant,
    tokens: u64,
}

impl Answer {
    pub(super) fn new(
        recall: Recall,
        head: Head,
        written: UnboundedReceiver<Written>,
        arrived: Instant,
    ) -> Self {
        Self {
            head,
            recall,
            written,
            arrived,
            tokens: 0,
        }
    }

    /// Waits for the next token. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Token, ApiError> {
        let limit = self.recall.options().chat_timeout;
        let token = match self.written.recv().await {
            Some(written) => written.map_err(|e| ApiError::unwritten(e, limit))?,
            None => return Err(ApiError::internal("nobody writes the answer any more")),
        };
        let waited = (self.tokens == 0).then(|| self.arrived.elapsed());
        self.recall.metrics().generated(waited);
        self.tokens += 1;
        Ok(token)
    }

    /// Tokens read and written so far.
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
            let token = self.next().await?;
            content.push_str(&token.text);
            if let Some(finish) = token.finish {
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
