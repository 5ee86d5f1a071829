use loci_digest::Digest;
use serde::Serialize;

/// Everything that decides what a decoder says. An adapter is bound to the weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecoderIdentity {
    /// Digest of the weights: of model.safetensors, of the .gguf file, or over the digests of several files.
    pub weights: Digest,
    /// Digest of `tokenizer.json`, or of the tokenizer that a .gguf file describes.
    pub tokenizer: Digest,
    /// Digest of the chat template, where the model has one.
    pub chat_template: Option<Digest>,
    /// The network: kind, sizes, activation, epsilon and positions.
    pub architecture: String,
    /// The arithmetic: `f32`.
    pub dtype: &'static str,
    /// Tokens that a text may have.
    pub context: usize,
    /// The ids that end a text.
    pub ends: Vec<u32>,
}

impl DecoderIdentity {
    /// One digest over all fields.
    pub fn digest(&self) -> Digest {
        // Strings, numbers and lists of them: JSON cannot fail on them, and Debug is as complete.
        Digest::of_json(self).unwrap_or_else(|_| Digest::of(format!("{self:?}")))
    }
}
