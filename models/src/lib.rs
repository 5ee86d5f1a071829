//! Models: text encoders of the BERT family (BERT, MiniLM, BGE, E5 and kin), from the files that they are
//! published in to vectors.
//!
//! [`fetch`] turns a [`ModelRef`] into a directory, out of a cache whose files are checked against their digests.
//! [`Encoder::load`] reads it: `config.json`, `model.safetensors` (F32, F16 or BF16, computed as f32) and
//! `tokenizer.json`, and where they exist `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`,
//! `tokenizer_config.json` and `config_sentence_transformers.json`, which name the pooling, the normalisation, the
//! token limit and the prompts. Vectors agree with sentence-transformers on the same weights; whatever this crate
//! does not compute is refused by name.
//!
//! The device is chosen when the model is loaded, by a [`DeviceRequest`]. [`DeviceRequest::Cuda`] is refused until
//! a build has it. On the CPU, AVX-512, AVX2 or portable code is chosen by asking the processor.

mod device;
mod encoder;
mod error;
mod hub;
mod kernels;
mod reference;
mod tokenizer;
mod weights;

pub use device::{DeviceRequest, limit_threads};
pub use encoder::{EmbedProgress, EmbedderIdentity, Embeddings, Encoder, Pooling, Role};
pub use error::ModelError;
pub use hub::{HubOptions, fetch};
pub use reference::ModelRef;
pub use tokenizer::TextTokenizer;
