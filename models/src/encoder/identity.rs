use loci_digest::Digest;
use serde::Serialize;

use super::Pooling;

/// Everything that decides which vector a text gets, but for rounding: between builds and processors, vectors of one
/// identity differ in their last digits, which no search tells apart. Two encoders of one identity fill the same index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EmbedderIdentity {
    /// Digest of the weights file.
    pub weights: Digest,
    /// Digest of `tokenizer.json`.
    pub tokenizer: Digest,
    /// The network: kind, sizes, activation and epsilon.
    pub architecture: String,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to unit length.
    pub normalize: bool,
    /// What is put before queries; empty for none.
    pub query_prompt: String,
    /// What is put before passages; empty for none.
    pub passage_prompt: String,
    /// Whether texts are lowercased before tokenizing.
    pub lowercase: bool,
    /// The arithmetic: `f32`.
    pub dtype: &'static str,
    /// Tokens a text may have, special tokens included; the rest is cut.
    pub max_tokens: usize,
    /// Length of the vectors.
    pub dimensions: usize,
}

impl EmbedderIdentity {
    /// One digest over all fields.
    pub fn digest(&self) -> Digest {
        // Strings, numbers and booleans: JSON cannot fail on them, and Debug is as complete.
        Digest::of_json(self).unwrap_or_else(|_| Digest::of(format!("{self:?}")))
    }
}
