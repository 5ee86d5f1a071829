//! Asks a decoder the cases of a suite.

use std::ops::ControlFlow;

use loci_models::{Adapter, Continuation, Decoder, Generation, Message, ModelError, Prompt};

use super::cases::{Ask, Case, Right};
use super::score::{CaseRecord, choose, is_right, likelihood};
use crate::example;
use crate::passages::turns;

/// Cases asked together.
const BATCH: usize = 16;

/// Who answers, in chat templates.
const ASSISTANT: &str = "assistant";

/// Why cases cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// This model cannot be asked this case.
    #[error("case {id}: {reason}")]
    Case {
        /// The case.
        id: String,
        /// Why not, and the way out.
        reason: String,
    },
    /// The model failed, or was told to stop.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A case in tokens.
enum Asked<'a> {
    /// The prompt is continued, always by the likeliest token.
    Said {
        prompt: Vec<u32>,
        options: Generation,
        right: &'a Right,
    },
    /// Continuations of the prompt are weighed.
    Weighed {
        prompt: Vec<u32>,
        continuations: Vec<Vec<u32>>,
        /// The place of the right one, where they are choices.
        answer: Option<usize>,
    },
}

/// Asks all cases, in batches; each as if it were asked alone. The records are in the order of the cases. `on_progress`
/// gets how many are done, before each batch and with each token that is generated, and stops the work by `Break`.
///
/// # Errors
/// [`AskError::Case`] before any work, when the model has no chat template, its template refuses a case, or a case is
/// longer than the model's context. [`ModelError::Cancelled`] after a `Break`; [`ModelError::OtherBase`] for an adapter
/// of another model.
pub fn ask(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    cases: &[Case],
    on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<CaseRecord>, AskError> {
    let mut asked = Vec::with_capacity(cases.len());
    for case in cases {
        asked.push(tokens(decoder, case).map_err(|reason| AskError::Case {
            id: case.id.clone(),
            reason,
        })?);
    }
    let (mut said, mut weighed) = (Vec::new(), Vec::new());
    for (i, asked) in asked.iter().enumerate() {
        match asked {
            Asked::Said { .. } => said.push(i),
            Asked::Weighed { .. } => weighed.push(i),
        }
    }
    let mut records: Vec<CaseRecord> = cases.iter().map(|c| CaseRecord::new(c, 0.0)).collect();
    let mut done = 0;
    for batch in said.chunks(BATCH).chain(weighed.chunks(BATCH)) {
        if on_progress(done).is_break() {
            return Err(ModelError::Cancelled.into());
        }
        let asked: Vec<(usize, &Asked<'_>)> = batch.iter().map(|&i| (i, &asked[i])).collect();
        let mut flow = || on_progress(done);
        for (i, record) in together(decoder, adapter, &asked, cases, &mut flow)? {
            records[i] = record;
        }
        done += batch.len();
    }
    // What is done is done: nobody is stopped here.
    let _ = on_progress(done);
    Ok(records)
}

/// Asks a batch, in which all is said or all is weighed.
fn together(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    batch: &[(usize, &Asked<'_>)],
    cases: &[Case],
    flow: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<(usize, CaseRecord)>, ModelError> {
    let (mut prompts, mut continuations) = (Vec::new(), Vec::new());
    for (_, asked) in batch {
        match asked {
            Asked::Said {
                prompt, options, ..
            } => prompts.push(Prompt {
                tokens: prompt,
                options,
                adapter,
            }),
            Asked::Weighed {
                prompt,
                continuations: all,
                ..
            } => continuations.extend(all.iter().map(move |tokens| Continuation {
                prompt,
                tokens,
                adapter,
            })),
        }
    }
    let mut said = decoder.generate(&prompts, &mut |_| flow())?.into_iter();
    let mut weights = decoder.log_probabilities(&continuations)?.into_iter();
    let mut records = Vec::with_capacity(batch.len());
    for (i, asked) in batch {
        let case = &cases[*i];
        let record = match asked {
            Asked::Said { right, .. } => {
                let text = said.next().map(|generated| generated.text);
                let score = text.as_ref().is_some_and(|text| is_right(right, text));
                CaseRecord {
                    said: text,
                    ..CaseRecord::new(case, f64::from(score))
                }
            }
            Asked::Weighed {
                continuations,
                answer,
                ..
            } => {
                let own: Vec<Vec<f32>> = weights.by_ref().take(continuations.len()).collect();
                weighed(case, &own, *answer)
            }
        };
        records.push((*i, record));
    }
    Ok(records)
}

fn weighed(case: &Case, log_probabilities: &[Vec<f32>], answer: Option<usize>) -> CaseRecord {
    let Some(answer) = answer else {
        return CaseRecord::new(case, likelihood(&log_probabilities.concat()));
    };
    let chosen = choose(log_probabilities);
    CaseRecord {
        chosen,
        ..CaseRecord::new(case, f64::from(chosen == Some(answer)))
    }
}

/// The case in tokens of the model, when it fits into its context.
fn tokens<'a>(decoder: &Decoder, case: &'a Case) -> Result<Asked<'a>, String> {
    let told = |e: ModelError| e.to_string();
    let asked = match &case.ask {
        Ask::Answer {
            messages,
            max_tokens,
            right,
        } => {
            let options = Generation {
                max_tokens: *max_tokens,
                ..Generation::default()
            };
            Asked::Said {
                prompt: decoder.chat_tokens(&turns(messages), true).map_err(told)?,
                options,
                right,
            }
        }
        Ask::Choice {
            messages,
            choices,
            answer,
        } => answers(decoder, messages, choices, Some(*answer))?,
        Ask::Reference {
            messages,
            reference,
        } => answers(decoder, messages, std::slice::from_ref(reference), None)?,
        Ask::Text(text) => {
            // Nothing comes before the first token, so that only those after it are likely or not.
            let mut prompt = decoder.tokenizer().encode(text).map_err(told)?;
            if prompt.len() < 2 {
                return Err("its text is one token: give a longer one".to_owned());
            }
            let rest = prompt.split_off(1);
            Asked::Weighed {
                prompt,
                continuations: vec![rest],
                answer: None,
            }
        }
    };
    let (count, limit) = (asked.length(), decoder.context());
    if count > limit {
        return Err(told(ModelError::TooLong { count, limit }));
    }
    Ok(asked)
}

/// A prompt with answers to it: each with the token that ends it, as the model's template writes them.
fn answers(
    decoder: &Decoder,
    messages: &[example::Message],
    texts: &[String],
    answer: Option<usize>,
) -> Result<Asked<'static>, String> {
    let mut messages = turns(messages);
    let prompt = decoder.chat_tokens(&messages, true);
    let prompt = prompt.map_err(|e| e.to_string())?;
    let mut continuations = Vec::with_capacity(texts.len());
    for text in texts {
        messages.push(Message {
            role: ASSISTANT.to_owned(),
            content: text.clone(),
        });
        let whole = decoder.chat_tokens(&messages, false);
        let whole = whole.map_err(|e| e.to_string())?;
        messages.pop();
        let Some(turn) = whole.strip_prefix(&prompt[..]) else {
            return Err("the model's template does not write the answer right after the prompt to it (or one token spans both), so that it cannot be weighed".to_owned());
        };
        let ends = &decoder.identity().ends;
        let Some(end) = turn.iter().rposition(|token| ends.contains(token)) else {
            return Err("the model's template ends an answer with no token that ends a text for the model; name that token in eos_token_id of generation_config.json".to_owned());
        };
        continuations.push(turn[..=end].to_vec());
    }
    Ok(Asked::Weighed {
        prompt,
        continuations,
        answer,
    })
}

impl Asked<'_> {
    /// The most tokens that the model must hold.
    fn length(&self) -> usize {
        match self {
            Self::Said {
                prompt, options, ..
            } => prompt.len() + options.max_tokens,
            Self::Weighed {
                prompt,
                continuations,
                ..
            } => prompt.len() + continuations.iter().map(Vec::len).max().unwrap_or(0),
        }
    }
}
