//! Encoders: texts to vectors.

mod batch;
mod bert;
mod config;
mod description;
mod identity;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::tokenizer::Tokens;
use crate::weights::Weights;
use crate::{DeviceRequest, ModelError, TextTokenizer};
use batch::{Batch, pack};
use bert::Bert;
use description::Description;
pub use description::Pooling;
pub use identity::EmbedderIdentity;

/// Texts tokenized ahead of the batches they are packed into.
const WINDOW: usize = 1024;

/// What a text is for. Models trained for asymmetric retrieval put different prompts before the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A question, looking for passages.
    Query,
    /// A passage, to be found.
    Passage,
}

/// What an embedding call has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbedProgress {
    /// Texts embedded.
    pub texts: usize,
    /// Tokens embedded, special tokens included.
    pub tokens: usize,
}

/// The vectors of some texts.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Row-major, texts x dimensions, in the order of the texts; of unit length when the model normalises.
    pub vectors: Vec<f32>,
    /// Length of a vector.
    pub dimensions: usize,
    /// Tokens embedded, special tokens and prompts included.
    pub tokens: usize,
    /// How many texts were longer than the model's limit and lost their end.
    pub truncated: usize,
}

/// A text encoder of the BERT family with everything its directory says about it. Share it by `Arc`.
///
/// A text's vector is the same to the bit whatever it is batched with, as long as the processor and the build are
/// the same: each row of each operation is computed in an order of its own length alone.
pub struct Encoder {
    bert: Bert,
    tokenizer: TextTokenizer,
    identity: EmbedderIdentity,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads the model in `dir` onto a device. Memory needed: the weights as f32, and one tensor more.
    ///
    /// # Errors
    /// When a file is missing, malformed or damaged, when files contradict one another, when the model asks for
    /// something that is not supported, or when the device is not available.
    pub fn load(dir: &Path, device: DeviceRequest) -> Result<Self, ModelError> {
        let device = device.open()?;
        let description = Description::read(dir)?;
        let Description {
            config,
            pooling,
            normalize,
            max_tokens,
            lowercase,
            ..
        } = description;
        let tokenizer = TextTokenizer::open(
            &description.tokenizer,
            config.vocab_size,
            max_tokens,
            lowercase,
        )?;
        let mut weights = Weights::open(&description.weights)?;
        let identity = EmbedderIdentity {
            weights: weights.digest()?,
            tokenizer: tokenizer.digest(),
            architecture: config.architecture(),
            pooling,
            normalize,
            query_prompt: description.query_prompt,
            passage_prompt: description.passage_prompt,
            lowercase,
            dtype: "f32",
            max_tokens,
            dimensions: config.hidden_size,
        };
        let bert = Bert::load(&config, &mut weights, &device)?;
        tracing::debug!(dir = %dir.display(), architecture = identity.architecture, "loaded an encoder");
        Ok(Self {
            bert,
            tokenizer,
            identity,
        })
    }

    /// What decides the vectors.
    pub fn identity(&self) -> &EmbedderIdentity {
        &self.identity
    }

    /// Length of the vectors.
    pub fn dimensions(&self) -> usize {
        self.identity.dimensions
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Embeds `texts`, each after the prompt of its `role`. `progress` is called after each batch and stops the
    /// work by `Break`. A single short text is computed on the calling thread.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] after a `Break`; [`ModelError::Tokenize`] and [`ModelError::Compute`] when the
    /// model fails on these texts, also when its weights yield vectors that are not finite.
    pub fn embed(
        &self,
        texts: &[&str],
        role: Role,
        progress: &mut dyn FnMut(EmbedProgress) -> ControlFlow<()>,
    ) -> Result<Embeddings, ModelError> {
        let dimensions = self.dimensions();
        let mut vectors = vec![0.0; texts.len() * dimensions];
        let mut done = EmbedProgress::default();
        let mut truncated = 0;
        for (window, out) in texts
            .chunks(WINDOW)
            .zip(vectors.chunks_mut(WINDOW * dimensions))
        {
            let tokens = self.tokenize(window, role)?;
            truncated += tokens.iter().filter(|text| text.truncated).count();
            for batch in pack(&tokens) {
                self.embed_batch(&batch, out)?;
                done.texts += batch.texts.len();
                done.tokens += batch.ids.len();
                if progress(done).is_break() {
                    return Err(ModelError::Cancelled);
                }
            }
        }
        Ok(Embeddings {
            vectors,
            dimensions,
            tokens: done.tokens,
            truncated,
        })
    }

    fn tokenize(&self, texts: &[&str], role: Role) -> Result<Vec<Tokens>, ModelError> {
        let prompt = match role {
            Role::Query => &self.identity.query_prompt,
            Role::Passage => &self.identity.passage_prompt,
        };
        let tokens = |text: &&str| match prompt.as_str() {
            "" => self.tokenizer.tokens(text),
            prompt => self.tokenizer.tokens(&format!("{prompt}{text}")),
        };
        match texts {
            [text] => Ok(vec![tokens(text)?]),
            _ => texts.par_iter().with_min_len(8).map(tokens).collect(),
        }
    }

    /// Computes a batch and puts its vectors where their texts are in the window `out`.
    fn embed_batch(&self, batch: &Batch, out: &mut [f32]) -> Result<(), ModelError> {
        let EmbedderIdentity {
            pooling,
            normalize,
            dimensions,
            ..
        } = self.identity;
        let vectors =
            self.bert
                .forward(batch.ids.clone(), batch.lengths.clone(), pooling, normalize);
        let vectors = read(vectors)?;
        if !vectors.iter().all(|v| v.is_finite()) {
            return Err(ModelError::Compute(
                "the weights yield vectors that are not finite".to_owned(),
            ));
        }
        for (vector, &text) in vectors.chunks_exact(dimensions).zip(&batch.texts) {
            out[text * dimensions..][..dimensions].copy_from_slice(vector);
        }
        Ok(())
    }
}

fn read(tensor: Tensor<2>) -> Result<Vec<f32>, ModelError> {
    let data = tensor
        .try_into_data()
        .map_err(|e| ModelError::Compute(e.to_string()))?;
    data.try_into_vec::<f32>()
        .map_err(|e| ModelError::Compute(format!("{e:?}")))
}
