use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use loci_digest::Digest;
use tokenizers::{DecoderWrapper, Tokenizer};

use crate::ModelError;

/// A decoder's own tokenizer: byte-level, so that every token stands for some bytes. Cheap to clone.
#[derive(Clone)]
pub struct DecoderTokenizer(Arc<Inner>);

struct Inner {
    tokenizer: Tokenizer,
    digest: Digest,
    /// The bytes of each token, by id.
    pieces: Vec<Vec<u8>>,
    /// Tokens that are marks and no text, by id.
    special: BTreeMap<u32, String>,
}

impl DecoderTokenizer {
    /// The tokenizer in a model's directory, without the model.
    ///
    /// # Errors
    /// When there is no `tokenizer.json`, or none of a decoder.
    pub fn read(directory: &Path) -> Result<Self, ModelError> {
        Self::open(&directory.join("tokenizer.json"), usize::MAX)
    }

    /// Reads `tokenizer.json` for a model of `vocabulary` token embeddings.
    pub(crate) fn open(path: &Path, vocabulary: usize) -> Result<Self, ModelError> {
        let bytes = fs::read(path).map_err(|e| ModelError::opening(path, "the tokenizer", e))?;
        Self::parse(&bytes, path, vocabulary)
    }

    /// A tokenizer in the form of `tokenizer.json`; errors name `path`.
    pub(crate) fn parse(bytes: &[u8], path: &Path, vocabulary: usize) -> Result<Self, ModelError> {
        let refuse = |reason: String| ModelError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let mut tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|e| refuse(format!("not a tokenizer: {e}")))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| refuse(e.to_string()))?;
        refuse_other_decoders(&tokenizer, path)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= vocabulary {
            return Err(refuse(format!(
                "token id {largest} is beyond the model's vocabulary of {vocabulary}; it belongs to another model"
            )));
        }
        let token = |id| tokenizer.id_to_token(id).unwrap_or_default();
        let pieces = (0..=largest as u32)
            .map(|id| bytes_of(&token(id)))
            .collect();
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        let special = special.map(|(id, token)| (*id, token.content.clone()));
        let special = special.collect();
        Ok(Self(Arc::new(Inner {
            tokenizer,
            digest: Digest::of(bytes),
            pieces,
            special,
        })))
    }

    /// The tokens of `text`, with those that the tokenizer puts around a text (most begin one with a mark).
    ///
    /// # Errors
    /// When the text cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokens(text, true)
    }

    /// The tokens of a text that brings its own marks, as a rendered chat does, or that continues another.
    ///
    /// # Errors
    /// When the text cannot be tokenized.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokens(text, false)
    }

    fn tokens(&self, text: &str, marks: bool) -> Result<Vec<u32>, ModelError> {
        let encoding = self.0.tokenizer.encode_fast(text, marks);
        let encoding = encoding.map_err(|e| ModelError::Tokenize(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`, marks left out.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let pieces: Vec<&[u8]> = tokens.iter().map(|&id| self.piece(id)).collect();
        String::from_utf8_lossy(&pieces.concat()).into_owned()
    }

    /// The id of one token, as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.tokenizer.token_to_id(token)
    }

    /// The tokens that are marks and no text, such as those that part the turns of a chat, with their ids.
    pub fn marks(&self) -> impl Iterator<Item = (u32, &str)> {
        let marks = self.0.special.iter();
        marks.map(|(id, mark)| (*id, mark.as_str()))
    }

    /// The digest of `tokenizer.json`.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The bytes that a token adds to a text: none if it is a mark.
    pub(crate) fn piece(&self, id: u32) -> &[u8] {
        match self.0.pieces.get(id as usize) {
            Some(piece) if !self.0.special.contains_key(&id) => piece,
            _ => &[],
        }
    }
}

fn refuse_other_decoders(tokenizer: &Tokenizer, path: &Path) -> Result<(), ModelError> {
    let decoder = match tokenizer.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => return Ok(()),
        None => "none".to_owned(),
        Some(other) => serde_json::to_value(other)
            .ok()
            .and_then(|json| Some(json.get("type")?.as_str()?.to_owned()))
            .unwrap_or_else(|| format!("{other:?}")),
    };
    let supported = "ByteLevel";
    Err(ModelError::unsupported(path, "decoder", decoder, supported))
}

/// The bytes that a byte-level token stands for. Its characters stand for one byte each; a token with any other
/// character is an added one, and stands for itself.
fn bytes_of(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte that GPT-2 writes as this character: printable ones of Latin-1 are themselves, the others come from U+0100
/// on, in their order.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_byte_has_one_character_and_comes_back() {
        let mut next = 0x100;
        let mut seen = BTreeSet::new();
        for byte in 0..=255u8 {
            let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let c = if printable {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            };
            assert_eq!(byte_of(c), Some(byte), "{c:?}");
            assert!(seen.insert(c));
        }
        assert_eq!(next, 0x144);
        assert_eq!((byte_of('\u{144}'), byte_of(' ')), (None, None));
        assert_eq!(bytes_of("Ġcaf\u{c3}\u{a9}"), " café".as_bytes());
        assert_eq!(bytes_of("two words"), b"two words");
    }
}
