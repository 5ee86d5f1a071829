//! How long a chat may be.

use loci_models::{Decoder, Message, ModelError};

/// Tokens that a chat may have with its answer when nobody says otherwise.
pub const CONTEXT: usize = 8192;
/// Tokens of it that passages leave to an answer whose length nobody says.
pub const ANSWER: usize = 256;

/// How long a chat may be, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Tokens of the chat with its answer.
    pub context: usize,
    /// Tokens of it that passages leave to the answer.
    pub answer: usize,
}

impl Room {
    /// `most` tokens, as far as a model takes as many. `answer` of them, or [`ANSWER`], are kept for the answer, and never
    /// more than half.
    pub fn of(decoder: &Decoder, most: usize, answer: Option<usize>) -> Self {
        let context = most.min(decoder.context());
        Self {
            context,
            answer: answer.unwrap_or(ANSWER).min(context / 2),
        }
    }

    /// Whether a chat, up to where its answer begins, leaves the answer room.
    ///
    /// # Errors
    /// When the model's template refuses the chat, or it cannot be tokenized.
    pub fn fits(&self, decoder: &Decoder, messages: &[Message]) -> Result<bool, ModelError> {
        let tokens = decoder.chat_tokens(messages, true)?;
        Ok(tokens.len() + self.answer <= self.context)
    }
}
