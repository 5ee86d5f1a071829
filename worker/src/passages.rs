//! Chats with passages in them, as serving sends them.

use loci_index::Hit;
use loci_models::{Decoder, Message as Turn, ModelError};
use loci_prompt::{CONTEXT, Marks, Room, with_context};

use crate::example::Message;

/// Puts passages into chats with a model.
pub(crate) struct Inserter<'a> {
    decoder: &'a Decoder,
    marks: Marks,
}

/// A chat with passages in it.
pub(crate) struct Inserted {
    /// As many messages as were given, in their order.
    pub messages: Vec<Message>,
    /// How many passages stand before the last question.
    pub passages: usize,
    /// Tokens that they leave to the answer; none when there are none of them.
    pub left: Option<usize>,
}

impl<'a> Inserter<'a> {
    pub fn new(decoder: &'a Decoder) -> Self {
        Self {
            decoder,
            marks: Marks::of(decoder.tokenizer()),
        }
    }

    /// Puts in what leaves room to an answer of so many tokens, or of as many as serving leaves to one whose length nobody
    /// says. A passage with which `also` does not hold is left out, too.
    ///
    /// # Errors
    /// When the model's template refuses the chat.
    pub fn put(
        &self,
        messages: &[Message],
        hits: &[Hit],
        answer: Option<usize>,
        also: impl Fn(&[Turn]) -> Result<bool, ModelError>,
    ) -> Result<Inserted, ModelError> {
        let room = Room::of(self.decoder, CONTEXT, answer);
        let fits =
            |turns: &[Turn]| Ok::<_, ModelError>(room.fits(self.decoder, turns)? && also(turns)?);
        let context = with_context(&turns(messages), hits, &self.marks, fits)?;
        let left = match context.cited.len() {
            0 => None,
            _ => {
                let prompt = self.decoder.chat_tokens(&context.messages, true)?;
                Some(room.context.saturating_sub(prompt.len()))
            }
        };
        let inserted = messages.iter().zip(context.messages);
        let inserted = inserted.map(|(message, turn)| Message {
            role: message.role,
            content: turn.content,
        });
        Ok(Inserted {
            messages: inserted.collect(),
            passages: context.cited.len(),
            left,
        })
    }
}

/// Messages as models take them.
pub(crate) fn turns(messages: &[Message]) -> Vec<Turn> {
    messages.iter().map(turn).collect()
}

pub(crate) fn turn(message: &Message) -> Turn {
    Turn {
        role: message.role.as_str().to_owned(),
        content: message.content.clone(),
    }
}
