//! From a chat to the tokens that a decoder continues.

use std::sync::Arc;

use axum::http::StatusCode;
use loci_index::Hit;
use loci_models::Message;
use loci_prompt::with_context;

use super::request::Wanted;
use crate::api::error::ApiError;
use crate::api::retrieve;
use crate::chat::Chat;
use crate::engine::Question;
use crate::recall::Recall;
use crate::release::Loaded;
use crate::wire::{ChatCitation, MAX_QUERY_BYTES};

/// Tokens that passages leave to an answer whose length nobody says.
const ANSWER: usize = 256;

pub(super) struct Prompt {
    pub(super) tokens: Vec<u32>,
    /// Tokens that the answer may have.
    pub(super) room: usize,
    /// The passages in it.
    pub(super) cited: Vec<ChatCitation>,
}

/// The prompt for a chat, with the passages that are found for it and fit.
pub(super) async fn build(
    recall: &Recall,
    loaded: &Arc<Loaded>,
    chat: &Arc<Chat>,
    wanted: &Wanted,
) -> Result<Prompt, ApiError> {
    let hits = look_up(recall, loaded, wanted).await?;
    let (chat, messages) = (chat.clone(), wanted.messages.clone());
    let context = recall.options().chat_context;
    let context = context.min(chat.generator.decoder().context());
    let kept = wanted.max_tokens.unwrap_or(ANSWER).min(context / 2);
    let build = move || write(&chat, &messages, hits, context, kept);
    // Templates and tokenizers compute for long on long chats, and queries have threads of their own.
    let built = tokio::task::spawn_blocking(build).await;
    built.map_err(ApiError::internal)?
}

/// The passages for the last question, by the release's own index and embedder, as `/v1/retrieve` finds them.
async fn look_up(
    recall: &Recall,
    loaded: &Arc<Loaded>,
    wanted: &Wanted,
) -> Result<Vec<Hit>, ApiError> {
    let mut turns = wanted.messages.iter();
    let asked = turns.rfind(|message| message.role == "user");
    let text = asked.map_or("", |message| message.content.as_str());
    let mut ends = (0..=text.len().min(MAX_QUERY_BYTES)).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    let text = &text[..end.unwrap_or(0)];
    if wanted.k == 0 || text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let question = Question {
        text: text.to_owned(),
        k: wanted.k,
        filter: wanted.filter.clone(),
    };
    let engine = loaded.clone();
    let answer = recall
        .lanes()
        .query(move |_| engine.engine.answer(question))
        .await??;
    Ok(answer.hits)
}

/// Renders the chat with as many passages as leave `kept` tokens of the context to the answer.
fn write(
    chat: &Chat,
    messages: &[Message],
    hits: Vec<Hit>,
    context: usize,
    kept: usize,
) -> Result<Prompt, ApiError> {
    let decoder = chat.generator.decoder();
    let alone = decoder.chat_tokens(messages, true)?.len();
    refuse_long(alone, context)?;
    let fits = |messages: &[Message]| {
        let tokens = decoder.chat_tokens(messages, true)?;
        Ok::<_, ApiError>(tokens.len() + kept <= context)
    };
    let built = with_context(messages, &hits, &chat.marks, fits)?;
    let tokens = decoder.chat_tokens(&built.messages, true)?;
    refuse_long(tokens.len(), context)?;
    let found = hits.into_iter().enumerate();
    let cited = found.filter(|(place, _)| built.cited.contains(place));
    Ok(Prompt {
        room: context - tokens.len(),
        tokens,
        cited: (1..).zip(cited).map(citation).collect(),
    })
}

fn refuse_long(tokens: usize, context: usize) -> Result<(), ApiError> {
    if tokens < context {
        return Ok(());
    }
    let message = format!(
        "messages: {tokens} tokens leave no room for an answer in the {context} that a chat may have: send fewer or shorter turns"
    );
    let error = ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message);
    Err(error.at("messages"))
}

fn citation((number, (_, hit)): (u64, (usize, Hit))) -> ChatCitation {
    let passage = retrieve::passage(hit);
    ChatCitation {
        number,
        text: passage.text,
        score: passage.score,
        citation: passage.citation,
    }
}
