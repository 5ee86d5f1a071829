use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What a block is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BlockKind {
    /// A heading, level 1 to 6. Its text is without mark-up.
    Heading(u8),
    /// A paragraph, a quotation, a footnote.
    Paragraph,
    /// An item of a list, with the lists inside it.
    ListItem,
    /// Source code or other preformatted lines.
    Code,
    /// A table, one row a line; its first `header` bytes are the rows that head it.
    Table {
        /// Bytes of the header rows, their line end included; 0 without header.
        header: usize,
    },
}

/// A run of text and the bytes of the source that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    text: Range<usize>,
    source: Range<usize>,
    /// The text is the source, byte for byte.
    verbatim: bool,
}

/// One block of a document's text, with its place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Its text, never blank.
    pub text: String,
    /// Ordered in `text` and in the source. Text between pieces (a cell's `|`) has no source.
    pieces: Vec<Piece>,
    /// All of the block in the source.
    extent: Range<usize>,
}

impl Block {
    /// A block whose text is the source's, from byte `start`.
    pub(crate) fn verbatim(kind: BlockKind, text: &str, start: usize) -> Self {
        let extent = start..start + text.len();
        let pieces = vec![Piece {
            text: 0..text.len(),
            source: extent.clone(),
            verbatim: true,
        }];
        Self {
            kind,
            text: text.to_owned(),
            pieces,
            extent,
        }
    }

    /// A block whose text stands for `source` as a whole.
    pub(crate) fn derived(kind: BlockKind, text: String, source: Range<usize>) -> Self {
        let pieces = vec![Piece {
            text: 0..text.len(),
            source: source.clone(),
            verbatim: false,
        }];
        Self {
            kind,
            text,
            pieces,
            extent: source,
        }
    }

    /// The block's byte range in the source.
    pub fn span(&self) -> Range<u64> {
        self.extent.start as u64..self.extent.end as u64
    }

    /// The smallest byte range of the source that covers `range` of the text.
    pub fn source_range(&self, range: Range<usize>) -> Range<u64> {
        let first = self
            .pieces
            .partition_point(|piece| piece.text.end <= range.start);
        let beyond = self
            .pieces
            .partition_point(|piece| piece.text.start < range.end);
        let Some(pieces) = self
            .pieces
            .get(first..beyond)
            .filter(|pieces| !pieces.is_empty())
        else {
            return self.span();
        };
        let (head, tail) = (&pieces[0], &pieces[pieces.len() - 1]);
        let start = match head.verbatim {
            true => head.source.start + range.start.saturating_sub(head.text.start),
            false => head.source.start,
        };
        let end = match tail.verbatim {
            true => tail.source.end - tail.text.end.saturating_sub(range.end),
            false => tail.source.end,
        };
        start as u64..end as u64
    }
}

/// Puts a block together from runs of the source.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    text: String,
    pieces: Vec<Piece>,
}

impl BlockBuilder {
    /// Adds text that is the source's from byte `start`.
    pub(crate) fn push_verbatim(&mut self, text: &str, start: usize) {
        let (from, source) = (self.text.len(), start..start + text.len());
        self.text.push_str(text);
        match self.pieces.last_mut() {
            Some(last)
                if last.verbatim && last.text.end == from && last.source.end == source.start =>
            {
                last.text.end = self.text.len();
                last.source.end = source.end;
            }
            _ => self.pieces.push(Piece {
                text: from..self.text.len(),
                source,
                verbatim: true,
            }),
        }
    }

    /// Adds text that stands for `source`.
    pub(crate) fn push_derived(&mut self, text: &str, source: Range<usize>) {
        let from = self.text.len();
        self.text.push_str(text);
        self.pieces.push(Piece {
            text: from..self.text.len(),
            source,
            verbatim: false,
        });
    }

    /// Adds text that the source has not.
    pub(crate) fn push_synthetic(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The block, without white space at its end; `None` when it is blank. Starts anew.
    pub(crate) fn finish(&mut self, kind: BlockKind) -> Option<Block> {
        let mut built = std::mem::take(self);
        let length = built.text.trim_end().len();
        built.text.truncate(length);
        built.pieces.retain(|piece| piece.text.start < length);
        if let Some(last) = built
            .pieces
            .last_mut()
            .filter(|last| last.text.end > length)
        {
            if last.verbatim {
                last.source.end -= last.text.end - length;
            }
            last.text.end = length;
        }
        let extent = built.pieces.first()?.source.start..built.pieces.last()?.source.end;
        if built.text.trim().is_empty() {
            return None;
        }
        Some(Block {
            kind,
            text: built.text,
            pieces: built.pieces,
            extent,
        })
    }
}
