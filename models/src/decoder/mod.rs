//! Decoders: texts continued, token by token.

mod batch;
mod cache;
mod chat;
mod config;
mod directory;
mod generate;
mod identity;
pub(crate) mod llama;
pub(crate) mod math;
mod packed;
#[cfg(test)]
mod packed_tests;
#[cfg(test)]
pub(crate) mod plain;
pub(crate) mod rope;
mod sample;
mod score;
mod source;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod tokenizer;

use std::fmt;
use std::path::Path;

use burn::tensor::{Device, Tensor};

use crate::lora::Routes;
use crate::{Adapter, DeviceRequest, ModelError};
pub use batch::{Added, Batch, Token};
use cache::Cache;
use chat::ChatTemplate;
pub use chat::Message;
use config::LlamaConfig;
pub use generate::{Finish, Generated, Generation, Piece, Prompt};
pub use identity::DecoderIdentity;
use llama::{Llama, rows};
pub use sample::Sampling;
pub use score::Continuation;
use source::Source;
pub use tokenizer::DecoderTokenizer;

/// Tokens computed at once, where texts are many: as for encoders.
const TOKENS: usize = 2048;

/// A text decoder of the Llama family with everything that its files say about it. Share it by `Arc`.
pub struct Decoder {
    llama: Llama,
    config: LlamaConfig,
    device: Device,
    tokenizer: DecoderTokenizer,
    chat: Option<ChatTemplate>,
    identity: DecoderIdentity,
}

/// A text that is read.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// The adapter by which it is read, if by one.
    pub adapter: Option<&'a Adapter>,
}

impl<'a> From<&'a [u32]> for Text<'a> {
    /// Read by the model alone.
    fn from(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            adapter: None,
        }
    }
}

/// A linear layer of a decoder, which an adapter may target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// As transformers and PEFT call it: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Columns that go in.
    pub inputs: usize,
    /// Columns that come out.
    pub outputs: usize,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Loads a model onto a device: a directory with `config.json`, or a `.gguf` file, or a directory that has one.
    /// Memory needed: the weights as f32, and one tensor more.
    ///
    /// # Errors
    /// When a file is missing, malformed or damaged, when files contradict one another, when the model asks for
    /// something that is not supported, or when the device is not available.
    pub fn load(path: &Path, device: DeviceRequest) -> Result<Self, ModelError> {
        let device = device.open()?;
        let Source {
            config,
            mut tensors,
            weights,
            tokenizer,
            chat,
            ends,
        } = Source::open(path)?;
        let identity = DecoderIdentity {
            weights,
            tokenizer: tokenizer.digest(),
            chat_template: chat.as_ref().map(ChatTemplate::digest),
            architecture: config.architecture(),
            dtype: "f32",
            context: config.context,
            ends,
        };
        let llama = Llama::load(&config, tensors.as_mut(), &device)?;
        tracing::debug!(path = %path.display(), architecture = identity.architecture, "loaded a decoder");
        Ok(Self {
            llama,
            config,
            device,
            tokenizer,
            chat,
            identity,
        })
    }

    /// Bytes of memory that [`Self::load`] takes at its height, by the headers of the files alone.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn memory(path: &Path) -> Result<u64, ModelError> {
        source::memory(path)
    }

    /// Bytes of memory that generating takes for a text of so many tokens, or of all that the model has room for: its
    /// keys and values as f32.
    pub fn text_memory(&self, tokens: usize) -> u64 {
        self.config.text_memory(tokens)
    }

    /// The same of a model that is not loaded.
    ///
    /// # Errors
    /// When a file is missing, damaged or asks for something that is not supported.
    pub fn text_memory_of(path: &Path, tokens: usize) -> Result<u64, ModelError> {
        Ok(source::config(path)?.text_memory(tokens))
    }

    /// What decides what the decoder says.
    pub fn identity(&self) -> &DecoderIdentity {
        &self.identity
    }

    /// Tokens that a text may have.
    pub fn context(&self) -> usize {
        self.config.context
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &DecoderTokenizer {
        &self.tokenizer
    }

    /// The linear layers that an adapter may target, with their sizes.
    pub fn projections(&self) -> Vec<Projection> {
        let projection = |linear: &llama::Linear| {
            let [inputs, outputs] = linear.weight.dims();
            let name = linear.name.clone();
            Projection {
                name,
                inputs,
                outputs,
            }
        };
        self.llama.linears().map(projection).collect()
    }

    /// A chat as the model was trained to read it; with `prompt`, up to where the assistant's next turn begins.
    ///
    /// # Errors
    /// [`ModelError::Chat`] when the model has no chat template, or the template refuses the chat.
    pub fn render(&self, messages: &[Message], prompt: bool) -> Result<String, ModelError> {
        let Some(chat) = &self.chat else {
            let reason =
                "the model has no chat template; take an instruction-tuned one, or complete a text";
            return Err(ModelError::Chat(reason.to_owned()));
        };
        chat.render(messages, prompt)
    }

    /// The tokens of a rendered chat.
    ///
    /// # Errors
    /// As [`Self::render`], and when the text cannot be tokenized.
    pub fn chat_tokens(&self, messages: &[Message], prompt: bool) -> Result<Vec<u32>, ModelError> {
        self.tokenizer.encode_bare(&self.render(messages, prompt)?)
    }

    /// The logits after each token of each text: tokens x vocabulary, row-major.
    ///
    /// # Errors
    /// When a text has no tokens, more than the context, one that is not in the vocabulary, or an adapter of another
    /// model.
    pub fn logits(&self, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut logits = Vec::with_capacity(texts.len());
        for text in texts {
            self.check(text.tokens)?;
            self.check_adapter(text.adapter)?;
        }
        for window in windows(texts) {
            let lengths: Vec<usize> = window.iter().map(|text| text.tokens.len()).collect();
            let mut cache = self.cache(window.len(), lengths.iter().copied().max().unwrap_or(0));
            let routes = Routes::new(&adapters(window), &lengths);
            let hidden = self.forward(&ids(window), &lengths, &routes, &mut cache);
            let mut all = self.read_logits(hidden)?;
            for length in lengths {
                let rest = all.split_off(length * self.config.vocabulary);
                logits.push(std::mem::replace(&mut all, rest));
            }
        }
        Ok(logits)
    }

    /// The network.
    pub(crate) fn llama(&self) -> &Llama {
        &self.llama
    }

    /// Refuses an adapter of another model.
    fn check_adapter(&self, adapter: Option<&Adapter>) -> Result<(), ModelError> {
        adapter.map_or(Ok(()), |adapter| adapter.check(self))
    }

    /// Refuses a text that cannot be read.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let (count, limit) = (tokens.len(), self.config.context);
        if count == 0 {
            let expected = "at least one token; begin with the model's own mark, or an end of text";
            return Err(ModelError::Setting {
                field: "text",
                value: "of no tokens".to_owned(),
                expected,
            });
        }
        if count > limit {
            return Err(ModelError::TooLong { count, limit });
        }
        let vocabulary = self.config.vocabulary;
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocabulary) {
            return Err(ModelError::Setting {
                field: "token",
                value: id.to_string(),
                expected: "an id of the model's vocabulary; these are another model's tokens",
            });
        }
        Ok(())
    }

    fn cache(&self, sequences: usize, room: usize) -> Cache {
        Cache::new(&self.config, sequences, room, &self.device)
    }

    /// [`Llama::forward`] on a thread of the pool, so that its many small operations do not each wait for one.
    fn forward(
        &self,
        ids: &[u32],
        new: &[usize],
        routes: &Routes<'_>,
        cache: &mut Cache,
    ) -> Tensor<2> {
        rayon::scope(|_| self.llama.forward(ids, new, routes, cache))
    }

    fn read_logits(&self, rows: Tensor<2>) -> Result<Vec<f32>, ModelError> {
        read(rayon::scope(|_| self.llama.logits(rows)))
    }

    /// Computes texts from their first tokens on, a window of them at a time, and gives what the last layer says of
    /// each one's last token.
    fn prefill(&self, texts: &[Text<'_>], cache: &mut Cache) -> Tensor<2> {
        let mut lasts = Vec::new();
        let mut first = 0;
        for window in windows(texts) {
            let mut new = vec![0; texts.len()];
            let mut end = 0;
            let mut ends = Vec::with_capacity(window.len());
            for (text, new) in window.iter().zip(&mut new[first..]) {
                *new = text.tokens.len();
                end += text.tokens.len();
                ends.push(end as i32 - 1);
            }
            let routes = Routes::new(&adapters(texts), &new);
            let hidden = self.forward(&ids(window), &new, &routes, cache);
            lasts.push(rows(&hidden, ends));
            first += window.len();
        }
        Tensor::cat(lasts, 0)
    }
}

/// Texts in stretches of at most [`TOKENS`] tokens, or of one longer text.
fn windows<'a, 'b>(texts: &'a [Text<'b>]) -> impl Iterator<Item = &'a [Text<'b>]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut tokens = 0;
        let fitting = rest.iter().take_while(|text| {
            tokens += text.tokens.len();
            tokens <= TOKENS
        });
        let (window, further) = rest.split_at(fitting.count().max(1));
        rest = further;
        Some(window)
    })
}

fn ids(texts: &[Text<'_>]) -> Vec<u32> {
    let ids = texts.iter().flat_map(|text| text.tokens);
    ids.copied().collect()
}

fn adapters<'a>(texts: &[Text<'a>]) -> Vec<Option<&'a Adapter>> {
    texts.iter().map(|text| text.adapter).collect()
}

fn read(tensor: Tensor<2>) -> Result<Vec<f32>, ModelError> {
    let data = tensor.try_into_data().map_err(ModelError::computing)?;
    data.try_into_vec::<f32>()
        .map_err(|e| ModelError::Compute(format!("{e:?}")))
}
