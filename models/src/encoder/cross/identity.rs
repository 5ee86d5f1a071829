use loci_digest::Digest;
use serde::Serialize;

/// Everything that decides which score a pair of texts gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrossEncoderIdentity {
    /// Digest of the weights file.
    pub weights: Digest,
    /// Digest of `tokenizer.json`.
    pub tokenizer: Digest,
    /// The network: kind, sizes, activation and epsilon.
    pub architecture: String,
    /// Labels of its head, 1 or 2.
    pub labels: usize,
    /// Whether texts are lowercased before tokenizing.
    pub lowercase: bool,
    /// The arithmetic: `f32`.
    pub dtype: &'static str,
    /// Tokens that a pair may have, special tokens included; the rest is cut.
    pub max_tokens: usize,
}

impl CrossEncoderIdentity {
    /// One digest over all fields.
    pub fn digest(&self) -> Digest {
        // Strings, numbers and booleans: JSON cannot fail on them, and Debug is as complete.
        Digest::of_json(self).unwrap_or_else(|_| Digest::of(format!("{self:?}")))
    }
}
