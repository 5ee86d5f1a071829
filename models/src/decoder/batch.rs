//! Texts continued together, of which each may come and go by itself (Orca's iteration-level scheduling, Yu et al., 2022).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::Decoder;
use super::cache::Cache;
use super::generate::{Finish, Generation, Prompt, ROOM, Run};
use super::llama::rows;
use super::math::FEW;
use crate::lora::Routes;
use crate::{Adapter, ModelError};

/// Tokens of a prompt that one step reads. Between the parts of a longer one the other texts go on.
const PART: usize = 256;

/// Texts that are continued together; between two steps others may join and leave. Each is continued as it would be
/// alone, by its own adapter. Keys and values of a text take memory as it grows; all of it is given back when no text
/// is left.
pub struct Batch {
    decoder: Arc<Decoder>,
    cache: Cache,
    seats: Vec<Option<Member>>,
    /// Seats of the texts whose prompts are not wholly read, in the order in which they joined.
    unread: VecDeque<usize>,
    /// Whether the last step read a prompt.
    read: bool,
}

/// A text on its way.
struct Member {
    prompt: Vec<u32>,
    /// Tokens of the prompt that are read.
    read: usize,
    adapter: Option<Arc<Adapter>>,
    run: Run,
    /// Its last token, which the next step computes; none before the prompt is read.
    last: Option<u32>,
}

/// What a step brings to one text.
#[derive(Debug)]
pub struct Added {
    /// The text's seat.
    pub seat: usize,
    /// Its next token, or why there is none: then the text has left.
    pub token: Result<Token, ModelError>,
}

/// The next token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// The text that is certain now, as in [`crate::Piece`].
    pub text: String,
    /// Why the text ends here, if it does: then it has left.
    pub finish: Option<Finish>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.seats.iter().flatten().count();
        f.debug_struct("Batch")
            .field("seats", &self.seats.len())
            .field("taken", &taken)
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// The most seats: what a step computes for a text then depends on no other text, to the bit.
    pub const MAX_SEATS: usize = FEW;

    /// A batch without texts, with 1 to [`Self::MAX_SEATS`] seats.
    pub fn new(decoder: Arc<Decoder>, seats: usize) -> Self {
        let seats = seats.clamp(1, Self::MAX_SEATS);
        Self {
            cache: decoder.cache(seats, ROOM),
            decoder,
            seats: (0..seats).map(|_| None).collect(),
            unread: VecDeque::new(),
            read: false,
        }
    }

    /// Takes a text in, and says in which seat it is from now on until it has ended or left. Nothing is computed yet.
    ///
    /// # Errors
    /// [`ModelError::Setting`] when no seat is free, or the text could get no token; otherwise as
    /// [`Decoder::generate`].
    pub fn join(
        &mut self,
        prompt: Vec<u32>,
        options: &Generation,
        adapter: Option<Arc<Adapter>>,
    ) -> Result<usize, ModelError> {
        let refuse = |field, value: String, expected| {
            Err(ModelError::Setting {
                field,
                value,
                expected,
            })
        };
        let Some(seat) = self.seats.iter().position(Option::is_none) else {
            let value = format!("of {} texts", self.seats.len());
            return refuse("batch", value, "a free seat; join when a text has left");
        };
        let run = self.decoder.begin(&Prompt {
            tokens: &prompt,
            options,
            adapter: adapter.as_deref(),
        })?;
        if run.finish.is_some() {
            let expected = "1 or more, and a prompt that leaves room for it in the context";
            return refuse("max_tokens", "0".to_owned(), expected);
        }
        self.cache.reserve(prompt.len() + run.left.min(ROOM));
        self.unread.push_back(seat);
        self.seats[seat] = Some(Member {
            prompt,
            read: 0,
            adapter,
            run,
            last: None,
        });
        Ok(seat)
    }

    /// Lets a text go before it has ended. Nothing happens when the seat is free.
    pub fn leave(&mut self, seat: usize) {
        if self.seats.get_mut(seat).and_then(Option::take).is_none() {
            return;
        }
        self.unread.retain(|unread| *unread != seat);
        self.cache.clear(seat);
        if self.is_empty() {
            self.cache = self.decoder.cache(self.seats.len(), ROOM);
        }
    }

    /// Whether no text is there.
    pub fn is_empty(&self) -> bool {
        self.seats.iter().all(Option::is_none)
    }

    /// Goes on by one step: reads up to 256 tokens of the prompt that has waited longest, or gives a token to each text
    /// whose prompt is read; by turns, when there is both to do. A text whose prompt becomes whole gets its first token.
    ///
    /// # Errors
    /// [`ModelError::Compute`] when the device fails: then no text can go on, and a new batch is needed. What fails
    /// for one text alone is in its [`Added`].
    pub fn step(&mut self) -> Result<Vec<Added>, ModelError> {
        let going = self.seats.iter().flatten().any(|text| text.last.is_some());
        let unread = self.unread.front().copied();
        let next = unread.filter(|_| !(self.read && going));
        self.read = next.is_some();
        match next {
            Some(seat) => self.read_on(seat),
            None => self.write(),
        }
    }

    /// Reads a part of a prompt.
    fn read_on(&mut self, seat: usize) -> Result<Vec<Added>, ModelError> {
        let Some(text) = &self.seats[seat] else {
            return Ok(Vec::new());
        };
        let end = text.prompt.len().min(text.read + PART);
        let part = &text.prompt[text.read..end];
        let mut new = vec![0; self.seats.len()];
        new[seat] = part.len();
        let whole = end == text.prompt.len();
        let routes = routes(&self.seats, &new);
        let hidden = self.decoder.forward(part, &new, &routes, &mut self.cache);
        let last = rows(&hidden, vec![part.len() as i32 - 1]);
        if let Some(text) = &mut self.seats[seat] {
            text.read = end;
        }
        if !whole {
            return Ok(Vec::new());
        }
        self.unread.retain(|unread| *unread != seat);
        let logits = self.decoder.read_logits(last)?;
        Ok(self.take(seat, &logits).into_iter().collect())
    }

    /// Gives a token to each text that has its prompt read.
    fn write(&mut self) -> Result<Vec<Added>, ModelError> {
        let mut new = vec![0; self.seats.len()];
        let mut ids = Vec::new();
        for (seat, new) in self.seats.iter().zip(&mut new) {
            if let Some(last) = seat.as_ref().and_then(|text| text.last) {
                *new = 1;
                ids.push(last);
            }
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let routes = routes(&self.seats, &new);
        let hidden = self.decoder.forward(&ids, &new, &routes, &mut self.cache);
        let logits = self.decoder.read_logits(hidden)?;
        let rows = logits.chunks_exact(self.decoder.config.vocabulary);
        let going = (0..new.len()).filter(|&seat| new[seat] == 1);
        let added = going
            .zip(rows)
            .filter_map(|(seat, row)| self.take(seat, row));
        Ok(added.collect())
    }

    /// Chooses the next token of a text, which leaves when it ends with that.
    fn take(&mut self, seat: usize, logits: &[f32]) -> Option<Added> {
        let text = self.seats.get_mut(seat)?.as_mut()?;
        let token = text.run.sampler.pick(logits).map(|id| {
            text.last = Some(id);
            Token {
                id,
                text: text.run.take(id, &self.decoder),
                finish: text.run.finish,
            }
        });
        if !matches!(&token, Ok(token) if token.finish.is_none()) {
            self.leave(seat);
        }
        Some(Added { seat, token })
    }
}

fn routes<'a>(seats: &'a [Option<Member>], new: &[usize]) -> Routes<'a> {
    let adapters = seats.iter().map(|seat| seat.as_ref()?.adapter.as_deref());
    Routes::new(&adapters.collect::<Vec<_>>(), new)
}
