//! Cross-encoders: query and passage are read together, and one number says how well they fit (Nogueira and Cho, 2019).

mod description;
mod head;
mod identity;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use super::batch::pack;
use super::bert::{Bert, Sequences};
use super::run::Network;
use super::{EmbedProgress, Pooling, WINDOW, of_each};
use crate::tokenizer::Tokens;
use crate::weights::Weights;
use crate::{DeviceRequest, ModelError, TextTokenizer};
use description::Description;
use head::Head;
pub use identity::CrossEncoderIdentity;

/// A BERT with a head for sequence classification, of one label or two. Share it by `Arc`.
///
/// The score of a pair is the same to the bit whatever it is batched with, as long as the processor and the build are
/// the same.
pub struct CrossEncoder {
    network: Network,
    hidden: usize,
    head: Head,
    tokenizer: TextTokenizer,
    identity: CrossEncoderIdentity,
}

impl fmt::Debug for CrossEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossEncoder")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl CrossEncoder {
    /// Loads the model in `dir` onto a device: `config.json` of a `BertForSequenceClassification` with one label or two,
    /// `model.safetensors`, `tokenizer.json` and, where it exists, `tokenizer_config.json`, whose `model_max_length`
    /// limits what is read. Memory needed: the weights as f32, and one tensor more.
    ///
    /// # Errors
    /// When a file is missing, malformed or damaged, when files contradict one another, when the model is another one
    /// or asks for something that is not supported, or when the device is not available.
    pub fn load(dir: &Path, device: DeviceRequest) -> Result<Self, ModelError> {
        // The one device that there is, for which the kernels are.
        device.open()?;
        let Description {
            config,
            labels,
            weights,
            tokenizer: path,
            limits,
        } = Description::read(dir)?;
        let (most, lowercase) = (limits.max_tokens, limits.lowercase);
        let tokenizer = TextTokenizer::open(&path, config.vocab_size, most, lowercase)?;
        refuse_unmarked(&path, &tokenizer)?;
        let mut weights = Weights::open(&weights)?;
        let identity = CrossEncoderIdentity {
            weights: weights.digest()?,
            tokenizer: tokenizer.digest(),
            architecture: config.architecture(),
            labels: labels.count(),
            lowercase,
            dtype: "f32",
            max_tokens: most,
        };
        let cross = Self {
            network: Network::new(Bert::load(&config, 2, &mut weights)?),
            hidden: config.hidden_size,
            head: Head::load(&config, labels, &mut weights)?,
            tokenizer,
            identity,
        };
        tracing::debug!(dir = %dir.display(), architecture = cross.identity.architecture, "loaded a cross-encoder");
        Ok(cross)
    }

    /// What decides the scores.
    pub fn identity(&self) -> &CrossEncoderIdentity {
        &self.identity
    }

    /// How well each of `passages` fits `query`, in their order: of a model with one label its logit, of one with two the
    /// logit of the second (`LABEL_1`, relevant) less that of the first. No activation is applied: those in use keep the
    /// order. Query and passage together are cut at the model's limit, the longer one first. `progress` is called after
    /// each batch and stops the work by `Break`.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] after a `Break`; [`ModelError::Tokenize`] and [`ModelError::Compute`] when the model
    /// fails on these texts, also when its weights yield numbers that are not finite.
    pub fn score(
        &self,
        query: &str,
        passages: &[&str],
        progress: &mut dyn FnMut(EmbedProgress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, ModelError> {
        let query = self.tokenizer.bare(query)?;
        // The tokens of both, and the type of each: 0 up to the separator behind the query, 1 beyond it.
        let pair = |passage: &str| -> Result<(Tokens, Vec<u32>), ModelError> {
            let passage = self.tokenizer.bare(passage)?;
            let whole = query.len() + passage.len() + self.tokenizer.special_tokens_of_pairs();
            let pair = self.tokenizer.pair(query.clone(), passage)?;
            let tokens = Tokens {
                truncated: whole > pair.len(),
                ids: pair.get_ids().to_vec(),
            };
            Ok((tokens, pair.get_type_ids().to_vec()))
        };
        let mut scores = vec![0.0; passages.len()];
        let mut done = EmbedProgress::default();
        for (window, out) in passages.chunks(WINDOW).zip(scores.chunks_mut(WINDOW)) {
            let (tokens, types): (Vec<_>, Vec<_>) = of_each(window, pair)?.into_iter().unzip();
            self.network.run(
                &pack(&tokens),
                &|bert, batch, team, work| {
                    let types = batch.texts.iter().flat_map(|&text| &types[text]);
                    let types: Vec<u32> = types.copied().collect();
                    let sequences = Sequences {
                        types: &types,
                        ..batch.sequences()
                    };
                    bert.forward(sequences, (Pooling::Cls, false), team, work)
                },
                &mut |batch, first| {
                    for (first, &text) in first.chunks_exact(self.hidden).zip(&batch.texts) {
                        out[text] = self.head.score(first)?;
                    }
                    done.add(batch);
                    Ok(progress(done))
                },
            )?;
        }
        Ok(scores)
    }
}

/// A tokenizer that puts two texts together must tell where the first one ends, by a token and by types.
fn refuse_unmarked(path: &Path, tokenizer: &TextTokenizer) -> Result<(), ModelError> {
    let refuse = |reason: String| ModelError::Tokenizer {
        path: path.to_owned(),
        reason,
    };
    let (special, most) = (tokenizer.special_tokens_of_pairs(), tokenizer.max_tokens());
    if special < 3 {
        return Err(refuse(format!(
            "adds {special} special tokens to a pair of texts, and a cross-encoder needs [CLS], [SEP] and [SEP]: its post_processor has no template for pairs"
        )));
    }
    if special + 2 > most {
        return Err(refuse(format!(
            "adds {special} special tokens to a pair of texts, and the model takes {most} tokens in all"
        )));
    }
    let pair = tokenizer.pair(tokenizer.bare("a")?, tokenizer.bare("a")?)?;
    let types = pair.get_type_ids();
    if types.iter().any(|&kind| kind > 1) || !types.contains(&1) || types.first() != Some(&0) {
        return Err(refuse(format!(
            "gives the tokens of a pair of texts the types {types:?}, and a cross-encoder needs 0 for the first text and 1 for the second"
        )));
    }
    Ok(())
}
