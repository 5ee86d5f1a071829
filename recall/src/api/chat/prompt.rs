//! From a chat to the tokens that a decoder continues.

use std::sync::Arc;

use axum::http::StatusCode;
use loci_index::Hit;
use loci_models::{Decoder, Message};
use loci_prompt::{Marks, Room, with_context};
use loci_rerank::Outcome;

use super::request::Wanted;
use crate::api::error::ApiError;
use crate::api::retrieve;
use crate::chat::Chat;
use crate::engine::Question;
use crate::generate::Generator;
use crate::recall::Recall;
use crate::release::Loaded;
use crate::wire::ChatCitation;

pub(super) struct Prompt {
    pub(super) tokens: Vec<u32>,
    /// Tokens that the answer may have.
    pub(super) room: usize,
    /// The passages in it.
    pub(super) cited: Vec<ChatCitation>,
}

/// The prompt of `generator` for a chat, with the passages that are found for it and fit.
pub(super) async fn build(
    recall: &Recall,
    loaded: &Arc<Loaded>,
    (chat, generator): (&Arc<Chat>, &Arc<Generator>),
    wanted: &Wanted,
) -> Result<Prompt, ApiError> {
    let hits = look_up(recall, loaded, wanted).await?;
    let (chat, messages) = (chat.clone(), wanted.messages.clone());
    let decoder = generator.decoder().clone();
    let most = recall.options().chat_context;
    let room = Room::of(&decoder, most, wanted.max_tokens);
    let build = move || write(&decoder, &chat.marks, &messages, hits, room);
    // Templates and tokenizers compute for long on long chats, and queries have threads of their own.
    let built = tokio::task::spawn_blocking(build).await;
    built.map_err(ApiError::internal)?
}

/// The passages for the last question, by the release's own index and embedder, as `/v1/retrieve` finds them.
pub(super) async fn look_up(
    recall: &Recall,
    loaded: &Arc<Loaded>,
    wanted: &Wanted,
) -> Result<Vec<Hit>, ApiError> {
    let text = loci_prompt::question(&wanted.messages);
    let Some(text) = text.filter(|_| wanted.k > 0) else {
        return Ok(Vec::new());
    };
    let question = Question {
        text: text.to_owned(),
        k: wanted.k,
        filter: wanted.filter.clone(),
        access: wanted.access.clone(),
        left: None,
    };
    let engine = loaded.clone();
    let answer = recall
        .lanes()
        .query(move |_| engine.engine.answer(question))
        .await??;
    if let Some(rerank) = &answer.rerank {
        let applied = matches!(rerank.outcome, Outcome::Applied(_));
        recall.metrics().reranked(&loaded.pipeline, applied);
    }
    Ok(answer.hits)
}

/// Renders the chat with as many passages as leave the answer its room.
fn write(
    decoder: &Decoder,
    marks: &Marks,
    messages: &[Message],
    hits: Vec<Hit>,
    room: Room,
) -> Result<Prompt, ApiError> {
    let alone = decoder.chat_tokens(messages, true)?.len();
    refuse_long(alone, room.context)?;
    let fits = |messages: &[Message]| room.fits(decoder, messages);
    let built = with_context(messages, &hits, marks, fits)?;
    let tokens = decoder.chat_tokens(&built.messages, true)?;
    refuse_long(tokens.len(), room.context)?;
    let found = hits.into_iter().enumerate();
    let cited = found.filter(|(place, _)| built.cited.contains(place));
    Ok(Prompt {
        room: room.context - tokens.len(),
        tokens,
        cited: (1..).zip(cited).map(citation).collect(),
    })
}

pub(super) fn refuse_long(tokens: usize, context: usize) -> Result<(), ApiError> {
    if tokens < context {
        return Ok(());
    }
    let message = format!(
        "messages: {tokens} tokens leave no room for an answer in the {context} that a chat may have: send fewer or shorter turns"
    );
    let error = ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message);
    Err(error.at("messages"))
}

pub(super) fn citation((number, (_, hit)): (u64, (usize, Hit))) -> ChatCitation {
    let passage = retrieve::passage(hit);
    ChatCitation {
        number,
        text: passage.text,
        score: passage.score,
        citation: passage.citation,
    }
}
