use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use loci_digest::Digest;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{
    Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
    truncate_encodings,
};

use crate::ModelError;

/// The model's own tokenizer. Cheap to clone.
///
/// Truncation and padding written in `tokenizer.json` are set aside: the limit is the model's, and
/// batches carry no padding.
#[derive(Clone)]
pub struct TextTokenizer(Arc<Inner>);

struct Inner {
    tokenizer: Tokenizer,
    digest: Digest,
    max_tokens: usize,
    special_tokens: usize,
}

/// A text as the model reads it.
pub(crate) struct Tokens {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Whether the text was longer than the model's limit.
    pub truncated: bool,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` for a model of `vocabulary` token embeddings which takes `max_tokens` at most.
    /// With `lowercase`, texts are lowercased first.
    pub(crate) fn open(
        path: &Path,
        vocabulary: usize,
        max_tokens: usize,
        lowercase: bool,
    ) -> Result<Self, ModelError> {
        let refuse = |reason: String| ModelError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let bytes = fs::read(path).map_err(|e| ModelError::opening(path, "the tokenizer", e))?;
        let mut tokenizer =
            Tokenizer::from_bytes(&bytes).map_err(|e| refuse(format!("not a tokenizer: {e}")))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| refuse(e.to_string()))?;
        if lowercase {
            let own = tokenizer.get_normalizer().cloned();
            let steps = [Some(NormalizerWrapper::from(Lowercase)), own]
                .into_iter()
                .flatten()
                .collect();
            tokenizer.with_normalizer(Some(Sequence::new(steps)));
        }
        let special_tokens = tokenizer
            .get_post_processor()
            .map_or(0, |p| p.added_tokens(false));
        if special_tokens == 0 {
            return Err(refuse(
                "adds no special tokens, and a BERT encoder needs [CLS] and [SEP]".to_owned(),
            ));
        }
        if special_tokens >= max_tokens {
            return Err(refuse(format!(
                "adds {special_tokens} special tokens, and the model takes {max_tokens} tokens in all"
            )));
        }
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= vocabulary {
            return Err(refuse(format!(
                "token id {largest} is beyond the model's vocabulary of {vocabulary}; it belongs to another model"
            )));
        }
        let digest = Digest::of(&bytes);
        Ok(Self(Arc::new(Inner {
            tokenizer,
            digest,
            max_tokens,
            special_tokens,
        })))
    }

    /// How many tokens `text` has, special tokens not counted. A text that cannot be tokenized counts one
    /// for each of its bytes; embedding it fails.
    pub fn count(&self, text: &str) -> usize {
        self.0
            .tokenizer
            .encode_fast(text, false)
            .map_or(text.len(), |encoding| encoding.len())
    }

    /// The byte range of each token in `text`, special tokens left out. A text that cannot be tokenized
    /// has one range for each character.
    pub fn offsets(&self, text: &str) -> Vec<Range<usize>> {
        match self.0.tokenizer.encode(text, false) {
            Ok(encoding) => encoding
                .get_offsets()
                .iter()
                .map(|&(start, end)| start..end)
                .collect(),
            Err(_) => text
                .char_indices()
                .map(|(at, c)| at..at + c.len_utf8())
                .collect(),
        }
    }

    /// How many tokens the model takes, special tokens included; longer texts are cut at the end.
    pub fn max_tokens(&self) -> usize {
        self.0.max_tokens
    }

    /// How many special tokens are added to each text.
    pub fn special_tokens(&self) -> usize {
        self.0.special_tokens
    }

    /// The digest of `tokenizer.json`.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The tokens of `text` with special tokens, cut at the model's limit.
    pub(crate) fn tokens(&self, text: &str) -> Result<Tokens, ModelError> {
        let (encoding, truncated) = self.encoding(text)?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            truncated,
        })
    }

    /// The same, and of each token whether it is the text's own: none that was added to it.
    pub(crate) fn marked(&self, text: &str) -> Result<(Tokens, Vec<bool>), ModelError> {
        let (encoding, truncated) = self.encoding(text)?;
        let special = encoding.get_special_tokens_mask().iter();
        let own = special.map(|&special| special == 0).collect();
        let ids = encoding.get_ids().to_vec();
        Ok((Tokens { ids, truncated }, own))
    }

    fn encoding(&self, text: &str) -> Result<(Encoding, bool), ModelError> {
        let room = self.0.max_tokens - self.0.special_tokens;
        let mut encoding = self.bare(text)?;
        let truncated = encoding.len() > room;
        if truncated {
            encoding.truncate(room, 0, TruncationDirection::Right);
            encoding.take_overflowing();
        }
        let encoding = self.0.tokenizer.post_process(encoding, None, true);
        Ok((encoding.map_err(failed)?, truncated))
    }

    /// The tokens of `text` alone.
    pub(crate) fn bare(&self, text: &str) -> Result<Encoding, ModelError> {
        let encoding = self.0.tokenizer.encode_fast(text, false);
        encoding.map_err(failed)
    }

    /// How many special tokens are added to two texts that are read together.
    pub(crate) fn special_tokens_of_pairs(&self) -> usize {
        let processor = self.0.tokenizer.get_post_processor();
        processor.map_or(0, |p| p.added_tokens(true))
    }

    /// Two texts as one, cut at the model's limit: the longer one first, and both to a half when both are too long.
    pub(crate) fn pair(&self, first: Encoding, second: Encoding) -> Result<Encoding, ModelError> {
        let limit = TruncationParams {
            max_length: (self.0.max_tokens).saturating_sub(self.special_tokens_of_pairs()),
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        let (mut first, second) =
            truncate_encodings(first, Some(second), &limit).map_err(failed)?;
        first.take_overflowing();
        let second = second.map(|mut second| {
            second.take_overflowing();
            second
        });
        let pair = self.0.tokenizer.post_process(first, second, true);
        pair.map_err(failed)
    }
}

fn failed(error: tokenizers::Error) -> ModelError {
    ModelError::Tokenize(error.to_string())
}
