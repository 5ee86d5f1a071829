use serde::{Deserialize, Serialize};

use crate::{Adapter, Continuation, Decoder, ModelError};

/// What the log-probability of an answer may differ by for each of its tokens: far more than processors round apart,
/// far less than another adapter makes.
const TOLERANCE: f64 = 1e-4;

/// A prompt, an answer, and how likely an adapter made the answer when it was judged. Asked again wherever the adapter
/// is loaded, it shows that the same is computed there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// The text before the answer with its marks, as [`Decoder::render`] gives it.
    pub prompt: String,
    /// The answer.
    pub completion: String,
    /// The natural logarithm of its probability: the sum over its tokens.
    pub log_probability: f64,
}

impl Probe {
    /// Asks for the first time.
    ///
    /// # Errors
    /// [`ModelError::Setting`] when prompt or completion has no tokens; otherwise as [`Decoder::log_probabilities`].
    pub fn record(
        decoder: &Decoder,
        adapter: Option<&Adapter>,
        prompt: String,
        completion: String,
    ) -> Result<Self, ModelError> {
        let (log_probability, _) = measure(decoder, adapter, &prompt, &completion)?;
        Ok(Self {
            prompt,
            completion,
            log_probability,
        })
    }

    /// Asks again.
    ///
    /// # Errors
    /// [`ModelError::Probe`] when the log-probability is another one, by more than 1e-4 for each token of the answer;
    /// otherwise as [`Self::record`].
    pub fn check(&self, decoder: &Decoder, adapter: Option<&Adapter>) -> Result<(), ModelError> {
        let (got, tokens) = measure(decoder, adapter, &self.prompt, &self.completion)?;
        let recorded = self.log_probability;
        if (got - recorded).abs() <= TOLERANCE * tokens as f64 {
            return Ok(());
        }
        let beginning: String = self.completion.chars().take(40).collect();
        Err(ModelError::Probe {
            completion: format!("{beginning:?}"),
            recorded,
            got,
        })
    }
}

/// The log-probability of the completion, and how many tokens it has.
fn measure(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    prompt: &str,
    completion: &str,
) -> Result<(f64, usize), ModelError> {
    let tokenizer = decoder.tokenizer();
    let (prompt, tokens) = (
        tokenizer.encode_bare(prompt)?,
        tokenizer.encode_bare(completion)?,
    );
    if tokens.is_empty() {
        return Err(ModelError::Setting {
            field: "completion",
            value: "of no tokens".to_owned(),
            expected: "an answer whose probability can be asked for",
        });
    }
    let each = decoder.log_probabilities(&[Continuation {
        prompt: &prompt,
        tokens: &tokens,
        adapter,
    }])?;
    let sum = each.iter().flatten().map(|p| f64::from(*p)).sum();
    Ok((sum, tokens.len()))
}
