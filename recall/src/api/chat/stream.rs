//! An answer piece by piece, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::unfold;
use serde::Serialize;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::answer::{ASSISTANT, Answer, More, reason};
use crate::api::error::ApiError;
use crate::connections::Active;
use crate::metrics::InFlight;
use crate::streams::Streams;
use crate::wire::{ChatChunk, ChatChunkChoice, ChatDelta};

/// Whether a last piece tells the tokens read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage(pub(super) bool);

/// Lasts as long as an answer is sent: the request counts as being answered, and its connection as in use.
pub(super) struct Sending {
    streams: Streams,
    _active: Option<Active>,
    _in_flight: InFlight,
    _running: TaskTrackerToken,
}

impl Sending {
    pub(super) fn new(active: Option<Active>, in_flight: InFlight, streams: Streams) -> Self {
        Self {
            _active: active,
            _in_flight: in_flight,
            _running: streams.enter(),
            streams,
        }
    }
}

/// The pieces of an answer that are not sent yet.
struct Pieces {
    answer: Answer,
    usage: Usage,
    sending: Sending,
    ready: VecDeque<Event>,
    ended: bool,
}

/// Begins to send an answer. The first piece, which has no text, does not wait for the first token.
pub(super) fn response(answer: Answer, usage: Usage, sending: Sending) -> Response {
    let mut pieces = Pieces {
        answer,
        usage,
        sending,
        ready: VecDeque::new(),
        ended: false,
    };
    let first = ChatDelta {
        role: Some(ASSISTANT.to_owned()),
        content: Some(String::new()),
    };
    pieces.add(&pieces.choice(first, None));
    let events = unfold(pieces, |mut pieces| async move {
        let event = pieces.next().await?;
        Some((Ok::<_, Infallible>(event), pieces))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

impl Pieces {
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() && !self.ended {
            let more = tokio::select! {
                more = self.answer.next() => more,
                () = self.sending.streams.stopped() => Err(ApiError::shutting_down()),
            };
            match more {
                Ok(more) => self.take(more),
                Err(error) => {
                    self.ended = true;
                    self.add(&error.into_body());
                }
            }
        }
        self.ready.pop_front()
    }

    fn take(&mut self, more: More) {
        if !more.text.is_empty() {
            let delta = ChatDelta {
                role: None,
                content: Some(more.text),
            };
            self.add(&self.choice(delta, None));
        }
        let Some(finish) = more.finish else {
            return;
        };
        self.ended = true;
        let mut last = self.choice(ChatDelta::default(), Some(reason(finish).to_owned()));
        last.citations = Some(self.answer.head.cited.clone());
        self.add(&last);
        if self.usage == Usage(true) {
            last.choices.clear();
            last.usage = Some(self.answer.usage());
            self.add(&last);
        }
        self.ready.push_back(Event::default().data("[DONE]"));
    }

    fn choice(&self, delta: ChatDelta, finish_reason: Option<String>) -> ChatChunk {
        let head = &self.answer.head;
        ChatChunk {
            id: head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: head.created,
            model: head.model.clone(),
            choices: vec![ChatChunkChoice {
                index: 0,
                delta,
                finish_reason,
            }],
            usage: None,
            citations: None,
            release: head.release.clone(),
        }
    }

    fn add(&mut self, piece: &impl Serialize) {
        // Strings, numbers and lists of them: JSON cannot fail on them.
        let event = Event::default().json_data(piece).unwrap_or_default();
        self.ready.push_back(event);
    }
}
