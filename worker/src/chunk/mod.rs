//! Chunking: a document's blocks, packed under their headings into passages of a bounded length.
//!
//! A chunk never crosses a heading. Within a section whole blocks are packed greedily; a block too
//! long for one chunk is cut at line ends (code, tables; a table's header is repeated) or at sentence
//! ends, then at word ends. Neighbouring chunks of a section overlap by whole sentences, else words.

mod cut;
mod heading;
mod pack;

use std::ops::Range;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::document::{BlockKind, ParsedDocument};

/// Counts tokens as the embedder's tokenizer does, special tokens left aside.
pub trait TokenCounter {
    /// Tokens of `text`.
    fn count(&self, text: &str) -> usize;
    /// The byte range of each token in `text`, in order.
    fn offsets(&self, text: &str) -> Vec<Range<usize>>;
}

/// How documents are cut. Part of an index's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChunkerConfig {
    /// The most tokens of a chunk, its title and heading path included.
    pub max_tokens: usize,
    /// The most tokens that a chunk repeats of the one before it, at most half of `max_tokens`.
    pub overlap_tokens: usize,
}

/// A chunker setting out of range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChunkerError {
    /// Chunks this short mean nothing.
    #[error("chunking.maxTokens: {0} is too small; use at least {min}", min = ChunkerConfig::MIN_TOKENS)]
    MaxTokens(usize),
    /// More overlap than new text.
    #[error("chunking.overlapTokens: {overlap} is more than half of maxTokens ({max}); use at most {}", max / 2)]
    Overlap {
        /// `overlap_tokens`.
        overlap: usize,
        /// `max_tokens`.
        max: usize,
    },
}

impl ChunkerConfig {
    /// Changes when the same settings would cut differently; part of [`ChunkerConfig::digest`].
    pub const VERSION: u32 = 1;
    /// The least `max_tokens`.
    pub const MIN_TOKENS: usize = 16;

    /// Checks the ranges of both settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn validate(&self) -> Result<(), ChunkerError> {
        let Self {
            max_tokens: max,
            overlap_tokens: overlap,
        } = *self;
        if max < Self::MIN_TOKENS {
            return Err(ChunkerError::MaxTokens(max));
        }
        if overlap > max / 2 {
            return Err(ChunkerError::Overlap { overlap, max });
        }
        Ok(())
    }

    /// Identifies the chunker: its version, its settings and the tokenizer that it counts with.
    pub fn digest(&self, tokenizer: Digest) -> Digest {
        let Self {
            max_tokens,
            overlap_tokens,
        } = self;
        Digest::of(format!(
            "chunker {} {max_tokens} {overlap_tokens} {tokenizer}",
            Self::VERSION
        ))
    }
}

/// A passage of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its place among the document's chunks, from 0.
    pub ordinal: u32,
    /// Its text, without the headings above it; line ends are `\n`.
    pub text: String,
    /// The smallest byte range of the source that covers the text (a repeated table header aside).
    pub span: Range<u64>,
    /// The headings above it, outermost first; left out or shortened where they would take more than
    /// half of the chunk.
    pub headings: Vec<String>,
}

/// Cuts `document` by `config`, counting with `counter`. Deterministic.
///
/// `title` is the one that will lead the text when it is embedded (the document's own, as a rule).
///
/// # Errors
/// When `config` is out of range.
pub fn chunk(
    document: &ParsedDocument,
    title: Option<&str>,
    config: &ChunkerConfig,
    counter: &dyn TokenCounter,
) -> Result<Vec<Chunk>, ChunkerError> {
    config.validate()?;
    let mut chunks = Vec::new();
    let mut path = heading::Path::new(title, config.max_tokens, counter);
    let mut blocks = document.blocks.as_slice();
    while let Some(first) = blocks.first() {
        let heading = match first.kind {
            BlockKind::Heading(level) => {
                blocks = &blocks[1..];
                let deeper = matches!(blocks.first(), Some(next) if is_deeper(next.kind, level));
                let body = !matches!(
                    blocks.first().map(|b| b.kind),
                    None | Some(BlockKind::Heading(_))
                );
                let told = path.enter(level, &first.text);
                // A heading that nothing below it will repeat is text of its own.
                Some(first).filter(|_| !told || !(deeper || body))
            }
            _ => None,
        };
        let end = blocks
            .iter()
            .position(|b| matches!(b.kind, BlockKind::Heading(_)))
            .unwrap_or(blocks.len());
        let (body, rest) = blocks.split_at(end);
        let section: Vec<_> = heading.into_iter().chain(body).collect();
        let packer = pack::Packer::new(&section, path.room(), config.overlap_tokens, counter);
        chunks.extend(
            packer
                .pack()
                .into_iter()
                .map(|(text, span)| (text, span, path.headings())),
        );
        blocks = rest;
    }
    let numbered = (0..).zip(chunks);
    Ok(numbered
        .map(|(ordinal, (text, span, headings))| Chunk {
            ordinal,
            text,
            span,
            headings,
        })
        .collect())
}

fn is_deeper(kind: BlockKind, than: u8) -> bool {
    matches!(kind, BlockKind::Heading(level) if level > than)
}

#[cfg(test)]
mod tests;
