//! Passages in a dataset: what serving would put before each question, so that training sees the same.

use std::sync::Arc;

use loci_bus::Unit;
use loci_digest::Digest;
use loci_models::{Decoder, Message as Turn, ModelError};
use serde::{Deserialize, Serialize};

use super::{BYTES, CollectError};
use crate::dataset::{Dataset, Member};
use crate::example::{Example, Message, Role};
use crate::passages::{Inserter, turn};
use crate::step::lookup::Lookup;
use crate::step::{Reporter, StepContext, StepError};

/// What passages are to stand before questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextInput {
    /// The revision in which they are looked up.
    pub revision: Digest,
    /// The reference of the model that is to be trained: they fit into what it takes.
    pub base: String,
    /// The most tokens of an example that is trained on: a passage that would make it longer is left out of it.
    pub max_tokens: usize,
}

/// What passages stand in a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetContext {
    /// The revision in which they were looked up.
    pub revision: Digest,
    /// The identity of the model whose room they fit.
    pub model: Digest,
    /// Questions, each with its answer a line of the dataset.
    pub questions: u64,
    /// Passages before all of them.
    pub passages: u64,
}

/// Puts passages into a dataset.
pub(super) struct Shower {
    revision: Digest,
    lookup: Lookup,
    base: Arc<Decoder>,
    most: usize,
    pace: Arc<dyn Fn() + Send + Sync>,
    reporter: Reporter,
}

impl Shower {
    pub async fn new(
        context: &StepContext,
        wanted: &ContextInput,
        base: Arc<Decoder>,
        reporter: Reporter,
    ) -> Result<Self, StepError> {
        Ok(Self {
            revision: wanted.revision,
            lookup: Lookup::open(context, &wanted.revision).await?,
            most: wanted.max_tokens.min(base.context()),
            base,
            pace: context.pace.clone(),
            reporter,
        })
    }

    /// Makes of each example one for each of its answers, with passages before the question to that. In serving, too, only
    /// the last question of a chat has any.
    pub fn show(&self, dataset: &mut Dataset) -> Result<DatasetContext, StepError> {
        let inserter = Inserter::new(&self.base);
        let mut context = DatasetContext {
            revision: self.revision,
            model: self.base.identity().digest(),
            questions: 0,
            passages: 0,
        };
        let mut bytes = 0;
        for part in [&mut dataset.train, &mut dataset.held_out] {
            let mut shown = Vec::with_capacity(part.len());
            for member in part.drain(..) {
                self.reporter.check()?;
                (self.pace)();
                for (example, passages) in self.answers(&inserter, &member.example)? {
                    context.questions += 1;
                    context.passages += passages as u64;
                    bytes += said(&example);
                    shown.push(Member {
                        example,
                        ..member.clone()
                    });
                }
                if bytes > BYTES {
                    return Err(CollectError::TooMany.into());
                }
                self.reporter
                    .report(context.questions, None, Unit::Queries, None);
            }
            *part = shown;
        }
        Ok(context)
    }

    /// An example for each answer, and how many passages stand in it.
    fn answers(
        &self,
        inserter: &Inserter<'_>,
        example: &Example,
    ) -> Result<Vec<(Example, usize)>, StepError> {
        let turns = example.messages.iter().enumerate();
        let answers = turns.filter(|(_, message)| message.role == Role::Assistant);
        let shown =
            |(at, answer): (usize, &Message)| self.shown(inserter, &example.messages[..at], answer);
        answers.map(shown).collect()
    }

    fn shown(
        &self,
        inserter: &Inserter<'_>,
        asked: &[Message],
        answer: &Message,
    ) -> Result<(Example, usize), StepError> {
        let hits = self.lookup.passages(asked)?;
        let whole = |shown: &[Turn]| {
            let whole = [shown, &[turn(answer)]].concat();
            let tokens = self.base.chat_tokens(&whole, false)?;
            Ok::<_, ModelError>(tokens.len() <= self.most)
        };
        // What the model's template refuses stays as it is: Train leaves it out, and names it.
        let (mut messages, passages) = match inserter.put(asked, &hits, None, whole) {
            Ok(put) => (put.messages, put.passages),
            Err(_) => (asked.to_vec(), 0),
        };
        messages.push(answer.clone());
        Ok((Example { messages }, passages))
    }
}

/// The bytes that an example says.
fn said(example: &Example) -> usize {
    let messages = example.messages.iter();
    messages.map(|message| message.content.len()).sum()
}
