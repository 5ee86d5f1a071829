//! Encoders: texts to vectors.

mod batch;
mod bert;
mod config;
mod cross;
mod description;
mod identity;
mod late;
mod load;
mod run;

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;

use crate::tokenizer::Tokens;
use crate::weights::Weights;
use crate::{DeviceRequest, ModelError, TextTokenizer};
use batch::{Batch, pack};
use bert::Bert;
pub use cross::{CrossEncoder, CrossEncoderIdentity};
use description::Description;
pub use description::Pooling;
pub use identity::EmbedderIdentity;
pub use late::{TokenVectors, max_sim};
use run::Network;

/// Texts tokenized ahead of the batches they are packed into.
const WINDOW: usize = 1024;

/// Texts up to which the calling thread tokenizes alone, rather than wait for threads that may have much to do.
const FEW: usize = 16;

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

impl EmbedProgress {
    fn add(&mut self, batch: &Batch) {
        self.texts += batch.texts.len();
        self.tokens += batch.ids.len();
    }
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
/// A text's vector is the same to the bit whatever it is batched with and however many threads there are, as long as
/// the processor and the build are the same: each row of each operation is computed in an order of its own length alone.
pub struct Encoder {
    network: Network,
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
        // The one device that there is, for which the kernels are.
        device.open()?;
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
        let bert = Bert::load(&config, 1, &mut weights)?;
        tracing::debug!(dir = %dir.display(), architecture = identity.architecture, "loaded an encoder");
        Ok(Self {
            network: Network::new(bert),
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
    /// work by `Break`. What makes a few batches is computed on the calling thread, which idle threads help; it never
    /// waits for other calls.
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
        let EmbedderIdentity {
            pooling,
            normalize,
            dimensions,
            ..
        } = self.identity;
        let how = (pooling, normalize);
        let mut vectors = vec![0.0; texts.len() * dimensions];
        let mut done = EmbedProgress::default();
        let mut truncated = 0;
        for (window, out) in texts
            .chunks(WINDOW)
            .zip(vectors.chunks_mut(WINDOW * dimensions))
        {
            let tokens = self.tokenize(window, role)?;
            truncated += tokens.iter().filter(|text| text.truncated).count();
            self.network.run(
                &pack(&tokens),
                &|bert, batch, team, work| bert.forward(batch.sequences(), how, team, work),
                &mut |batch, vectors| {
                    for (vector, &text) in vectors.chunks_exact(dimensions).zip(&batch.texts) {
                        out[text * dimensions..][..dimensions].copy_from_slice(vector);
                    }
                    done.add(batch);
                    Ok(progress(done))
                },
            )?;
        }
        Ok(Embeddings {
            vectors,
            dimensions,
            tokens: done.tokens,
            truncated,
        })
    }

    fn tokenize(&self, texts: &[&str], role: Role) -> Result<Vec<Tokens>, ModelError> {
        of_each(texts, |text| {
            self.tokenizer.tokens(&self.prompted(text, role))
        })
    }

    /// A text behind the prompt of its role.
    fn prompted<'a>(&self, text: &'a str, role: Role) -> Cow<'a, str> {
        let prompt = match role {
            Role::Query => &self.identity.query_prompt,
            Role::Passage => &self.identity.passage_prompt,
        };
        match prompt.as_str() {
            "" => Cow::Borrowed(text),
            prompt => Cow::Owned(format!("{prompt}{text}")),
        }
    }
}

/// What `tokens` makes of each text.
fn of_each<T: Send>(
    texts: &[&str],
    tokens: impl Fn(&str) -> Result<T, ModelError> + Sync,
) -> Result<Vec<T>, ModelError> {
    if texts.len() <= FEW {
        texts.iter().map(|text| tokens(text)).collect()
    } else {
        let texts = texts.par_iter().with_min_len(8);
        texts.map(|text| tokens(text)).collect()
    }
}
