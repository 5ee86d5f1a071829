//! Encoders: texts to vectors.

mod batch;
mod bert;
mod config;
mod description;
mod identity;
mod load;

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rayon::prelude::*;

use crate::kernels::encoder::{MOST, Team};
use crate::tokenizer::Tokens;
use crate::weights::Weights;
use crate::{DeviceRequest, ModelError, TextTokenizer};
use batch::{Batch, pack};
use bert::{Bert, Work};
use description::Description;
pub use description::Pooling;
pub use identity::EmbedderIdentity;

/// Texts tokenized ahead of the batches they are packed into.
const WINDOW: usize = 1024;

/// Texts up to which the calling thread tokenizes alone, rather than wait for threads that may have much to do.
const FEW: usize = 16;

/// Multiplications up to which one thread is done before another has begun.
const LITTLE: usize = 4_000_000;

/// How long a thread of the pool that waits for a batch does not look for other work.
const PATIENCE: Duration = Duration::from_millis(1);

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
/// A text's vector is the same to the bit whatever it is batched with and however many threads there are, as long as
/// the processor and the build are the same: each row of each operation is computed in an order of its own length alone.
pub struct Encoder {
    bert: Bert,
    tokenizer: TextTokenizer,
    identity: EmbedderIdentity,
    /// What no call computes in now. As many as there were calls and threads at once.
    work: Mutex<Vec<Work>>,
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
        let bert = Bert::load(&config, &mut weights)?;
        tracing::debug!(dir = %dir.display(), architecture = identity.architecture, "loaded an encoder");
        Ok(Self {
            bert,
            tokenizer,
            identity,
            work: Mutex::default(),
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
            self.embed_batches(&pack(&tokens), out, &mut |batch| {
                done.texts += batch.texts.len();
                done.tokens += batch.ids.len();
                progress(done)
            })?;
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
        if texts.len() <= FEW {
            texts.iter().map(tokens).collect()
        } else {
            texts.par_iter().with_min_len(8).map(tokens).collect()
        }
    }

    /// Computes batches and puts their vectors where their texts are in the window `out`.
    fn embed_batches(
        &self,
        batches: &[Batch],
        out: &mut [f32],
        done: &mut dyn FnMut(&Batch) -> ControlFlow<()>,
    ) -> Result<(), ModelError> {
        let mut finish = |batch: &Batch, vectors: Vec<f32>| {
            self.place(batch, &vectors, out);
            match done(batch) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(ModelError::Cancelled),
            }
        };
        let threads = rayon::current_num_threads();
        if batches.len() < 2 * threads.min(MOST) {
            let tokens = batches.iter().map(|batch| batch.ids.len()).sum();
            let little = self.bert.products(tokens) < LITTLE;
            let team = if little {
                Team::alone()
            } else {
                Team::gather()
            };
            return batches
                .iter()
                .try_for_each(|batch| finish(batch, self.compute(batch, &team)?));
        }
        let (sender, receiver) = mpsc::channel();
        rayon::in_place_scope_fifo(|scope| {
            let mut waiting = batches.iter();
            // A few at a time: calls at the same time take turns, and a caller that pauses in `done` pauses the work.
            let mut start = |count| {
                for batch in waiting.by_ref().take(count) {
                    let sender = sender.clone();
                    scope.spawn_fifo(move |_| {
                        let compute = || self.compute(batch, &Team::alone());
                        let computed = catch_unwind(AssertUnwindSafe(compute));
                        // Nobody listens when the call has ended.
                        let _ = sender.send((batch, computed));
                    });
                }
            };
            start(threads + threads.div_ceil(2));
            for _ in batches {
                let (batch, computed) = next(&receiver);
                let vectors = computed.unwrap_or_else(|panic| resume_unwind(panic))?;
                finish(batch, vectors)?;
                start(1);
            }
            Ok(())
        })
    }

    /// The vectors of a batch.
    fn compute(&self, batch: &Batch, team: &Team) -> Result<Vec<f32>, ModelError> {
        let EmbedderIdentity {
            pooling,
            normalize,
            dimensions,
            ..
        } = self.identity;
        let unused = || self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = unused().pop();
        let mut work = kept.unwrap_or_else(|| self.bert.work());
        let mut vectors = vec![0.0; batch.lengths.len() * dimensions];
        let (ids, lengths) = (&batch.ids, &batch.lengths);
        let how = (pooling, normalize);
        self.bert
            .forward(ids, lengths, how, team, &mut work, &mut vectors);
        unused().push(work);
        if !vectors.iter().all(|v| v.is_finite()) {
            return Err(ModelError::Compute(
                "the weights yield vectors that are not finite".to_owned(),
            ));
        }
        Ok(vectors)
    }

    fn place(&self, batch: &Batch, vectors: &[f32], out: &mut [f32]) {
        let dimensions = self.dimensions();
        for (vector, &text) in vectors.chunks_exact(dimensions).zip(&batch.texts) {
            out[text * dimensions..][..dimensions].copy_from_slice(vector);
        }
    }
}

/// The next batch that is done. A thread of the pool works meanwhile: it may be the only one.
fn next<T>(receiver: &Receiver<T>) -> T {
    loop {
        if let Ok(done) = receiver.try_recv() {
            return done;
        }
        let worked = rayon::yield_now() == Some(rayon::Yield::Executed);
        if !worked && let Ok(done) = receiver.recv_timeout(PATIENCE) {
            return done;
        }
    }
}
