//! Texts continued until something ends them.

use std::ops::ControlFlow;

use super::sample::{Sampler, Sampling};
use super::text::{Pieces, Stops};
use super::{Decoder, Text};
use crate::lora::Routes;
use crate::{Adapter, ModelError};

/// Room that a cache has at first for the tokens to come; it doubles when that is used up.
pub(super) const ROOM: usize = 256;

/// How a text is continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens at most. The context ends a text too.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings before which the text ends.
    pub stop: Vec<String>,
}

impl Default for Generation {
    /// 256 tokens, each the likeliest.
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampling: Sampling::default(),
            stop: Vec::new(),
        }
    }
}

/// A text to be continued.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// How it is continued.
    pub options: &'a Generation,
    /// The adapter by which it is continued, if by one. Prompts of one call may have different ones.
    pub adapter: Option<&'a Adapter>,
}

/// What a token adds to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which prompt it continues.
    pub prompt: usize,
    /// The token.
    pub token: u32,
    /// The text that is certain now: whole characters, and none while they may begin a string to stop at.
    pub text: &'a str,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// A string to stop at would have come.
    Stop,
    /// It has as many tokens as were asked for, or as the context takes.
    Length,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Its text.
    pub text: String,
    /// Its tokens, the one that ended it included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// One text on its way.
pub(super) struct Run {
    pub sampler: Sampler,
    pieces: Pieces,
    stops: Stops,
    /// Tokens that may still come.
    pub left: usize,
    text: String,
    tokens: Vec<u32>,
    pub finish: Option<Finish>,
}

impl Decoder {
    /// Continues several texts together, each as it would be continued alone. `on_piece` is called with each token
    /// and stops the work by `Break`.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] after a `Break`; [`ModelError::TooLong`] and [`ModelError::Setting`] for prompts
    /// that cannot be continued; [`ModelError::OtherBase`] for an adapter of another model; [`ModelError::Compute`]
    /// when the weights yield logits that are not finite.
    pub fn generate(
        &self,
        prompts: &[Prompt<'_>],
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, ModelError> {
        let mut runs = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            runs.push(self.begin(prompt)?);
        }
        if runs.iter().all(|run| run.finish.is_some()) {
            return Ok(runs.into_iter().map(Run::done).collect());
        }
        let texts: Vec<Text<'_>> = prompts.iter().map(Prompt::text).collect();
        let adapters = super::adapters(&texts);
        let rooms = texts.iter().zip(&runs);
        let rooms = rooms.map(|(text, run)| text.tokens.len() + run.left.min(ROOM));
        let mut cache = self.cache(texts.len(), rooms.max().unwrap_or(0));
        let mut hidden = self.prefill(&texts, &mut cache);
        // The runs whose last tokens `hidden` has.
        let mut going: Vec<usize> = (0..runs.len()).collect();
        loop {
            let logits = self.read_logits(hidden)?;
            let rows = logits.chunks_exact(self.config.vocabulary);
            let mut new = vec![0; runs.len()];
            let mut ids = Vec::with_capacity(going.len());
            for (&prompt, row) in going.iter().zip(rows) {
                let run = &mut runs[prompt];
                if run.finish.is_some() {
                    continue;
                }
                let token = run.sampler.pick(row)?;
                let text = &run.take(token, self);
                let piece = Piece {
                    prompt,
                    token,
                    text,
                };
                if on_piece(piece).is_break() {
                    return Err(ModelError::Cancelled);
                }
                if run.finish.is_none() {
                    new[prompt] = 1;
                    ids.push(token);
                }
            }
            if ids.is_empty() {
                return Ok(runs.into_iter().map(Run::done).collect());
            }
            going.retain(|&prompt| new[prompt] == 1);
            let routes = Routes::new(&adapters, &new);
            hidden = self.forward(&ids, &new, &routes, &mut cache);
        }
    }

    pub(super) fn begin(&self, prompt: &Prompt<'_>) -> Result<Run, ModelError> {
        self.check(prompt.tokens)?;
        self.check_adapter(prompt.adapter)?;
        let Generation {
            max_tokens,
            sampling,
            stop,
        } = prompt.options;
        if stop.iter().any(String::is_empty) {
            return Err(ModelError::Setting {
                field: "stop",
                value: "\"\"".to_owned(),
                expected: "strings of at least one character",
            });
        }
        let left = (self.context() - prompt.tokens.len()).min(*max_tokens);
        Ok(Run {
            sampler: Sampler::new(sampling)?,
            pieces: Pieces::default(),
            stops: Stops::new(stop),
            left,
            text: String::new(),
            tokens: Vec::new(),
            finish: (left == 0).then_some(Finish::Length),
        })
    }
}

impl<'a> Prompt<'a> {
    fn text(&self) -> Text<'a> {
        Text {
            tokens: self.tokens,
            adapter: self.adapter,
        }
    }
}

impl Run {
    /// Takes the next token, and gives the text that is certain now.
    pub fn take(&mut self, token: u32, decoder: &Decoder) -> String {
        self.tokens.push(token);
        self.left -= 1;
        let ended = decoder.identity.ends.contains(&token);
        let bytes: &[u8] = if ended {
            &[]
        } else {
            decoder.tokenizer.piece(token)
        };
        let whole = self.pieces.push(bytes);
        let (mut text, stopped) = self.stops.push(&whole);
        self.finish = match (stopped, ended) {
            (true, _) => Some(Finish::Stop),
            (_, true) => Some(Finish::End),
            _ if self.left == 0 => Some(Finish::Length),
            _ => None,
        };
        if matches!(self.finish, Some(Finish::End | Finish::Length)) {
            text += &self.stops.push(&self.pieces.finish()).0;
            text += &self.stops.finish();
        }
        self.text += &text;
        text
    }

    fn done(self) -> Generated {
        Generated {
            text: self.text,
            tokens: self.tokens,
            finish: self.finish.unwrap_or(Finish::Length),
        }
    }
}
