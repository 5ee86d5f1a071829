//! From a dataset's lines to tokens.

use std::fmt;

use bytes::Bytes;
use loci_models::{Decoder, Example};
use serde::de::Error;
use serde::{Deserialize, Serialize};

use crate::dataset::{Origin, Part, examples, lineage};
use crate::example;
use crate::passages::turn;
use crate::step::{Reporter, StepError};

/// Examples between two looks at whether to stop.
const LOOK: usize = 64;

/// The parts of a dataset, as they are stored.
pub(super) struct Written {
    pub train: Bytes,
    pub held_out: Bytes,
    pub lineage: Bytes,
    /// Whether of each line the last answer alone is learned: each answer has a line of its own.
    pub last: bool,
}

/// The longest example.
#[derive(Clone, Copy, Debug)]
pub(super) struct Longest {
    pub tokens: usize,
    /// Whose limit that is.
    pub of: &'static str,
}

/// What can be trained on, in the dataset's order, and the rest.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub train: Vec<Example>,
    pub held_out: Vec<Example>,
    pub left_out: Vec<LeftOut>,
}

/// An example of a dataset that this model cannot learn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Which part of the dataset it is in.
    pub part: Part,
    /// The first place where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// The reason, and the way out.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

impl Longest {
    /// By what is asked for and what the model takes.
    pub fn of(asked: Option<usize>, decoder: &Decoder) -> Self {
        let context = decoder.context();
        match asked.filter(|asked| *asked < context) {
            Some(tokens) => Self {
                tokens,
                of: "training.maxTokens",
            },
            None => Self {
                tokens: context,
                of: "the model's context",
            },
        }
    }
}

/// Renders and cuts all examples by the model's own template and tokenizer.
pub(super) fn prepare(
    decoder: &Decoder,
    written: &Written,
    longest: Longest,
    reporter: &Reporter,
) -> Result<Prepared, StepError> {
    let (train, held_out) = (examples(&written.train)?, examples(&written.held_out)?);
    let lines = lineage(&written.lineage)?;
    if lines.len() != train.len() + held_out.len() {
        let reason = format!(
            "a dataset of {} examples says of {} where they come from",
            train.len() + held_out.len(),
            lines.len()
        );
        return Err(serde_json::Error::custom(reason).into());
    }
    let mut prepared = Prepared::default();
    let all = train.into_iter().chain(held_out).zip(lines);
    for (i, (example, line)) in all.enumerate() {
        if i % LOOK == 0 {
            reporter.check()?;
        }
        match tokens(decoder, &example, longest, written.last) {
            Ok(example) => match line.part {
                Part::Train => prepared.train.push(example),
                Part::HeldOut => prepared.held_out.push(example),
            },
            Err(reason) => prepared
                .left_out
                .extend(line.origins.first().map(|origin| LeftOut {
                    part: line.part,
                    origin: origin.clone(),
                    reason,
                })),
        }
    }
    Ok(prepared)
}

/// An example's tokens, or why it cannot be learned from.
fn tokens(
    decoder: &Decoder,
    example: &example::Example,
    longest: Longest,
    last: bool,
) -> Result<Example, String> {
    let told = |e: loci_models::ModelError| e.to_string();
    let tokenizer = decoder.tokenizer();
    let mut messages = Vec::with_capacity(example.messages.len());
    for message in &example.messages {
        let own = tokenizer.encode_bare(&message.content).map_err(told)?;
        // A mark is no text. Those of a chat come from the template alone.
        if own.iter().any(|id| tokenizer.decode(&[*id]).is_empty()) {
            return Err(
                "it says what this model reads as a mark of its own and not as text: take that out"
                    .to_owned(),
            );
        }
        messages.push(turn(message));
    }
    let made = match last {
        true => Example::answer(decoder, &messages),
        false => Example::chat(decoder, &messages),
    };
    let made = made.map_err(told)?;
    let Longest { tokens: limit, of } = longest;
    match made.tokens().len() {
        count if count > limit => Err(format!(
            "it has {count} tokens, more than the {limit} of {of}: shorten it, or make several of it"
        )),
        _ => Ok(made),
    }
}
