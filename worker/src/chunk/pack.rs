use std::ops::Range;

use super::{TokenCounter, cut};
use crate::document::{Block, BlockKind};

/// Part of a block that goes into a chunk.
#[derive(Clone)]
struct Slice {
    block: usize,
    range: Range<usize>,
    tokens: usize,
    /// Told by the chunk before already.
    repeated: bool,
}

/// Packs the blocks of one section.
pub(super) struct Packer<'a> {
    blocks: &'a [&'a Block],
    /// What leads every chunk, and the tokens that both may have together.
    lead: String,
    max: usize,
    /// The tokens that the lead leaves.
    budget: usize,
    overlap: usize,
    counter: &'a dyn TokenCounter,
    separator: usize,
    current: Vec<Slice>,
    used: usize,
    chunks: Vec<(String, Range<u64>)>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(
        blocks: &'a [&'a Block],
        (lead, max): (String, usize),
        overlap: usize,
        counter: &'a dyn TokenCounter,
    ) -> Self {
        let budget = max - counter.count(&lead).min(max);
        let separator = counter.count("\n\n");
        Self {
            blocks,
            lead,
            max,
            budget,
            overlap,
            counter,
            separator,
            current: Vec::new(),
            used: 0,
            chunks: Vec::new(),
        }
    }

    /// The chunks: their text, and its span.
    pub(super) fn pack(mut self) -> Vec<(String, Range<u64>)> {
        for (index, &block) in self.blocks.iter().enumerate() {
            let tokens = self.counter.count(&block.text);
            if tokens <= self.budget {
                self.add(index, 0..block.text.len());
                continue;
            }
            let limit = self.budget
                - self
                    .header(block)
                    .map_or(0, |header| self.counter.count(header));
            let words_limit = (limit - self.overlap.min(limit / 2)).max(1);
            for piece in cut::cut(block, limit, words_limit, self.counter) {
                self.add(index, piece);
            }
        }
        while !self.current.is_empty() {
            self.flush();
        }
        self.chunks
    }

    /// Adds a slice, after a flush when it does not fit into the current chunk.
    fn add(&mut self, block: usize, range: Range<usize>) {
        let tokens = self.counter.count(&self.blocks[block].text[range.clone()]);
        let slice = Slice {
            block,
            range,
            tokens,
            repeated: false,
        };
        while self.current.iter().any(|slice| !slice.repeated) && !self.fits(&slice) {
            let before = self.flush();
            if self.current.is_empty() {
                let overlap = self.overlap(&before, &slice);
                self.restart(overlap);
            }
        }
        self.used += self.cost(self.current.last(), &slice);
        self.current.push(slice);
    }

    fn fits(&self, slice: &Slice) -> bool {
        self.used + self.cost(self.current.last(), slice) <= self.budget
    }

    /// Tokens that a slice adds after `last`: an estimate; [`Packer::flush`] counts the text itself.
    fn cost(&self, last: Option<&Slice>, slice: &Slice) -> usize {
        if last.is_some_and(|last| continues(last, slice)) {
            return slice.tokens;
        }
        let header = self
            .header_before(slice)
            .map_or(0, |header| self.counter.count(header));
        slice.tokens + header + last.map_or(0, |_| self.separator)
    }

    /// Starts the next chunk with what is left of this one, or with its end.
    fn restart(&mut self, slices: Vec<Slice>) {
        self.used = 0;
        for slice in slices {
            self.used += self.cost(self.current.last(), &slice);
            self.current.push(slice);
        }
    }

    /// Ends the current chunk; what turns out not to fit stays for the next. Returns its slices.
    fn flush(&mut self) -> Vec<Slice> {
        let mut slices = std::mem::take(&mut self.current);
        let mut later = Vec::new();
        let (text, span) = loop {
            let (text, span) = self.render(&slices);
            if self.is_short(&text) {
                break (text, span);
            }
            let told = slices.iter().filter(|slice| !slice.repeated).count();
            match slices.iter().position(|slice| slice.repeated) {
                Some(repeated) if told == 1 => drop(slices.remove(repeated)),
                None if told == 1 => {
                    later.extend(
                        slices
                            .pop()
                            .and_then(|slice| self.halve(slice, &mut slices)),
                    );
                    break self.render(&slices);
                }
                _ => later.extend(slices.pop()),
            }
        };
        if let Some(span) = span {
            self.chunks.push((text, span));
        }
        later.reverse();
        self.restart(later);
        slices
    }

    fn is_short(&self, text: &str) -> bool {
        self.counter.count(&format!("{}{text}", self.lead)) <= self.max
    }

    /// Keeps as much of a slice as fits into a chunk of its own; returns the rest.
    fn halve(&self, slice: Slice, kept: &mut Vec<Slice>) -> Option<Slice> {
        let Range { start, end } = slice.range;
        let text = &self.blocks[slice.block].text[..end];
        let header = self.header_before(&slice).unwrap_or_default();
        let cut = cut::fit(text, start, end, &|part| {
            self.is_short(&format!("{header}{part}"))
        });
        let part = |range: Range<usize>| Slice {
            tokens: self.counter.count(&text[range.clone()]),
            range,
            ..slice
        };
        kept.push(part(start..cut));
        (cut < end).then(|| part(cut..end))
    }

    /// The end of the chunk before, to start the next with: sentences (lines of code), else words,
    /// as far as there is room beside `next`.
    fn overlap(&self, before: &[Slice], next: &Slice) -> Vec<Slice> {
        let beside = self.cost(None, next) + self.separator;
        let mut room = self.overlap.min(self.budget.saturating_sub(beside));
        let mut taken = Vec::new();
        'slices: for slice in before.iter().rev() {
            let block = self.blocks[slice.block];
            if matches!(block.kind, BlockKind::Table { .. }) {
                break;
            }
            let told = &block.text[slice.range.clone()];
            for piece in cut::natural(block.kind, told).into_iter().rev() {
                let range = slice.range.start + piece.start..slice.range.start + piece.end;
                let tokens = self.counter.count(&block.text[range.clone()]) + self.separator;
                if tokens > room {
                    break 'slices;
                }
                room -= tokens;
                taken.push(Slice {
                    block: slice.block,
                    range,
                    tokens,
                    repeated: true,
                });
            }
        }
        if taken.is_empty() {
            taken.extend(before.last().and_then(|last| self.last_words(last, room)));
        }
        taken.reverse();
        let all = match (before.first(), taken.first()) {
            (Some(first), Some(taken)) => {
                first.block == taken.block && first.range.start >= taken.range.start
            }
            _ => true,
        };
        if all { Vec::new() } else { taken }
    }

    fn last_words(&self, slice: &Slice, room: usize) -> Option<Slice> {
        let block = self.blocks[slice.block];
        if matches!(block.kind, BlockKind::Table { .. }) || room == 0 {
            return None;
        }
        let start =
            slice.range.start + cut::tail(&block.text[slice.range.clone()], room, self.counter)?;
        let range = start..slice.range.end;
        let tokens = self.counter.count(&block.text[range.clone()]);
        (tokens <= room).then_some(Slice {
            block: slice.block,
            range,
            tokens,
            repeated: true,
        })
    }

    /// A table's header, when it is short enough to be repeated.
    fn header(&self, block: &'a Block) -> Option<&'a str> {
        let BlockKind::Table { header } = block.kind else {
            return None;
        };
        let header = block
            .text
            .get(..header)
            .filter(|header| !header.is_empty())?;
        (self.counter.count(header) <= self.budget / 2).then_some(header)
    }

    fn header_before(&self, slice: &Slice) -> Option<&'a str> {
        let header = self.header(self.blocks[slice.block])?;
        (slice.range.start >= header.len()).then_some(header)
    }

    fn render(&self, slices: &[Slice]) -> (String, Option<Range<u64>>) {
        let mut text = String::new();
        let mut span: Option<Range<u64>> = None;
        let mut last = None;
        for run in slices.chunk_by(continues) {
            let (Some(first), Some(end)) = (run.first(), run.last()) else {
                continue;
            };
            let block = self.blocks[first.block];
            let raw = &block.text[first.range.start..end.range.end];
            let start = first.range.start + raw.len() - raw.trim_start_matches(['\r', '\n']).len();
            let body = cut::told(raw);
            if body.trim().is_empty() {
                continue;
            }
            let items = (last, block.kind) == (Some(BlockKind::ListItem), BlockKind::ListItem);
            text.push_str(if text.is_empty() {
                ""
            } else if items {
                "\n"
            } else {
                "\n\n"
            });
            text.push_str(self.header_before(first).unwrap_or_default());
            text.push_str(body);
            last = Some(block.kind);
            let source = block.source_range(start..start + body.len());
            span = Some(span.map_or(source.clone(), |span| {
                span.start.min(source.start)..span.end.max(source.end)
            }));
        }
        (text.replace("\r\n", "\n"), span)
    }
}

/// `next` goes on where `last` ends.
fn continues(last: &Slice, next: &Slice) -> bool {
    last.block == next.block && last.range.end == next.range.start
}
