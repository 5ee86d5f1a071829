//! Models: text encoders of the BERT family (BERT, MiniLM, BGE, E5 and kin), from the files that they are published
//! in to vectors, and decoders of the Llama family, to texts and how likely they are, with adapters that are trained
//! here.
//!
//! [`fetch`] turns a [`ModelRef`] into a directory, out of a cache whose files are checked against their digests.
//! [`Encoder::load`] reads it: `config.json`, `model.safetensors` (F32, F16 or BF16, computed as f32) and
//! `tokenizer.json`, and where they exist `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`,
//! `tokenizer_config.json` and `config_sentence_transformers.json`, which name the pooling, the normalisation, the
//! token limit and the prompts. Vectors agree with sentence-transformers on the same weights; whatever this crate
//! does not compute is refused by name.
//!
//! [`Encoder::token_vectors`] gives one vector for each token, which [`max_sim`] compares (late interaction).
//! [`CrossEncoder::load`] reads the same files with the head of `BertForSequenceClassification`: it reads query and
//! passage together and says how well they fit. Its logits agree with transformers on the same weights.
//!
//! [`Decoder::load`] reads what transformers writes (`config.json`, `model.safetensors`, whole or in shards,
//! `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json`) or one GGUF file (F32,
//! F16, BF16, Q8_0, Q4_1, computed as f32). Logits agree with transformers on the same weights, rendered chats token
//! for token with its `apply_chat_template`. [`Decoder::generate`] continues texts that are there together, a [`Batch`]
//! texts that come and go.
//!
//! [`Trainer`] trains an [`Adapter`] of a decoder on [`Example`]s by low-rank adaptation, step by step, to the same
//! bits for the same seed. Adapters are read and written in PEFT's layout, bound to the weights that they were
//! trained on; each text that a decoder reads or continues may pass its own. A [`Probe`] shows after loading that an
//! adapter computes what it computed when it was judged.
//!
//! The device is chosen when the model is loaded, by a [`DeviceRequest`]. [`DeviceRequest::Cuda`] is refused until a
//! build has it. On the CPU, AVX-512, AVX2 or portable code is chosen by asking the processor.

mod decoder;
mod device;
mod encoder;
mod error;
mod fault;
mod gguf;
mod hub;
mod json;
mod kernels;
mod lora;
mod matrix;
mod random;
mod reference;
mod tokenizer;
mod train;
mod weights;

pub use decoder::{
    Added, Batch, Continuation, Decoder, DecoderIdentity, DecoderTokenizer, Finish, Generated,
    Generation, Message, Piece, Projection, Prompt, Sampling, Text, Token,
};
pub use device::{DeviceRequest, arithmetic, limit_threads};
pub use encoder::{
    CrossEncoder, CrossEncoderIdentity, EmbedProgress, EmbedderIdentity, Embeddings, Encoder,
    Pooling, Role, TokenVectors, max_sim,
};
pub use error::ModelError;
pub use fault::{Fault, kernel_fallbacks, kernel_fell_back};
pub use hub::{HubOptions, fetch, fetch_tokenizer};
pub use lora::{Adapter, AdapterBase, LoraConfig, Probe};
pub use reference::ModelRef;
pub use tokenizer::TextTokenizer;
pub use train::{Example, Schedule, Trainer, TrainingRecord, TrainingSettings, TrainingStep};
