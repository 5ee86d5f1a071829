use std::ops::Range;

use super::TokenCounter;
use crate::document::{Block, BlockKind};

/// Cuts a block into pieces that together are all of it: lines of code and tables, else sentences, of
/// at most `limit` tokens; a longer one at word ends, or between tokens where there is no word end,
/// into pieces of at most `words_limit` tokens.
pub(super) fn cut(
    block: &Block,
    limit: usize,
    words_limit: usize,
    counter: &dyn TokenCounter,
) -> Vec<Range<usize>> {
    let text = block.text.as_str();
    let mut cuts = Vec::new();
    for piece in natural(block.kind, text) {
        match counter.count(told(&text[piece.clone()])) <= limit {
            true => cuts.push(piece),
            false => words(text, piece, words_limit, counter, &mut cuts),
        }
    }
    cuts
}

/// The pieces that text naturally falls into: lines of code and tables (the header as one), else
/// sentences.
pub(super) fn natural(kind: BlockKind, text: &str) -> Vec<Range<usize>> {
    match kind {
        BlockKind::Code => lines(text, 0),
        BlockKind::Table { header } if header > 0 && header < text.len() => {
            let mut pieces = lines(text, header);
            pieces.insert(0, 0..header);
            pieces
        }
        BlockKind::Table { .. } => lines(text, 0),
        _ => sentences(text),
    }
}

/// Lines from byte `start`, each with its line end.
fn lines(text: &str, mut start: usize) -> Vec<Range<usize>> {
    text[start..]
        .split_inclusive('\n')
        .map(|line| {
            start += line.len();
            start - line.len()..start
        })
        .collect()
}

/// Sentences, each with the white space after it. A sentence ends at `.`, `!`, `?` (closing quotes
/// and brackets included) before white space and no lower-case letter, at their wide forms, and at a
/// line that is followed by a blank line or a list item.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = match character {
            '.' if is_initial(&text[start..at]) => None,
            '.' | '!' | '?' | '…' => sentence_end(text, at + character.len_utf8()),
            '。' | '！' | '？' => Some(after_space(text, at + character.len_utf8())),
            '\n' => line_end(text, at + 1),
            _ => None,
        };
        if let Some(end) = end.filter(|&end| end < text.len()) {
            sentences.push(start..end);
            start = end;
            while characters.next_if(|&(next, _)| next < end).is_some() {}
        }
    }
    if start < text.len() {
        sentences.push(start..text.len());
    }
    sentences
}

/// A lone capital before a full stop (`J. Smith`) ends no sentence, nor does a number that starts a
/// line (`1. Install`).
fn is_initial(before: &str) -> bool {
    let word = before
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default();
    let mut characters = word.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) if only.is_uppercase() => true,
        (Some(_), _) if word.bytes().all(|b| b.is_ascii_digit()) => {
            let line = before[..before.len() - word.len()].trim_end_matches([' ', '\t']);
            line.is_empty() || line.ends_with('\n')
        }
        _ => false,
    }
}

fn after_space(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start().len()
}

fn sentence_end(text: &str, stop: usize) -> Option<usize> {
    let closing = |c: char| {
        matches!(
            c,
            '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '*' | '_' | '.' | '!' | '?'
        )
    };
    let closed = text.len() - text[stop..].trim_start_matches(closing).len();
    let end = after_space(text, closed);
    let next = text[end..].chars().next();
    (end > closed && !next.is_some_and(char::is_lowercase)).then_some(end)
}

fn line_end(text: &str, start: usize) -> Option<usize> {
    let line = text[start..]
        .split('\n')
        .next()
        .unwrap_or_default()
        .trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered =
        number.len() < line.len() && (number.starts_with(". ") || number.starts_with(") "));
    let item = numbered
        || ["- ", "* ", "+ "]
            .iter()
            .any(|marker| line.starts_with(marker));
    if line.trim().is_empty() {
        return Some(after_space(text, start));
    }
    item.then_some(start)
}

/// Cuts `range` of `text` into pieces of at most `limit` tokens.
fn words(
    text: &str,
    range: Range<usize>,
    limit: usize,
    counter: &dyn TokenCounter,
    cuts: &mut Vec<Range<usize>>,
) {
    let base = range.start;
    let piece = &text[range.clone()];
    let tokens = counter.offsets(piece);
    let mut start = 0;
    while start < piece.len() {
        let first = tokens.partition_point(|token| token.end <= start);
        let end = match tokens.get(first + limit) {
            Some(beyond) => word_end(piece, start, beyond.start),
            None => piece.len(),
        };
        let end = fit(piece, start, end, &|part| counter.count(part) <= limit);
        cuts.push(base + start..base + end);
        start = end;
    }
}

/// The last word end in `start..limit`, white space after it included; else the last character end.
fn word_end(text: &str, start: usize, limit: usize) -> usize {
    let limit = character_start(text, limit).max(start);
    let head = &text[start..limit];
    let at_word =
        text[limit..].starts_with(char::is_whitespace) || head.ends_with(char::is_whitespace);
    let end = match head.trim_end().rfind(char::is_whitespace) {
        _ if at_word && !head.trim().is_empty() => limit,
        Some(space) if !head[..space].trim().is_empty() => {
            start + space + head[space..].chars().next().map_or(1, char::len_utf8)
        }
        _ => limit,
    };
    after_space(text, end)
}

/// The start of the character at byte `at`.
fn character_start(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// The start of the last `tokens` tokens of `text`, drawn on to a word's start; `None` without one.
pub(super) fn tail(text: &str, tokens: usize, counter: &dyn TokenCounter) -> Option<usize> {
    let offsets = counter.offsets(text);
    let first = offsets.get(offsets.len().checked_sub(tokens)?)?.start;
    let first = character_start(text, first);
    let at_word = text[..first].ends_with(char::is_whitespace);
    let space = text[first..]
        .find(char::is_whitespace)
        .map(|space| first + space);
    let start = after_space(text, if at_word { first } else { space? });
    (start > 0 && start < text.len()).then_some(start)
}

/// Draws `end` back until `start..end` fits, to one character at the least.
pub(super) fn fit(text: &str, start: usize, end: usize, fits: &dyn Fn(&str) -> bool) -> usize {
    let least = start + text[start..].chars().next().map_or(1, char::len_utf8);
    let mut end = end.max(least);
    while end > least && !fits(told(&text[start..end])) {
        let back = start + (end - start) * 3 / 4;
        end = word_end(text, start, back)
            .min(character_start(text, end - 1))
            .max(least);
    }
    end
}

/// What a chunk tells of a piece: not the line ends before it, nor the white space after it.
pub(super) fn told(piece: &str) -> &str {
    piece.trim_start_matches(['\r', '\n']).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        let split = |text| {
            sentences(text)
                .into_iter()
                .map(|range| &text[range])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            split("One. Two (two!) Three? four e.g. five 3.5 at J. Smith."),
            [
                "One. ",
                "Two (two!) ",
                "Three? four e.g. five 3.5 at J. Smith."
            ]
        );
        assert_eq!(
            split("\"Is it?\" \"Yes.\"\n\nNo"),
            ["\"Is it?\" ", "\"Yes.\"\n\n", "No"]
        );
        assert_eq!(split("一。二！three"), ["一。", "二！", "three"]);
        assert_eq!(split("- a\n  - b\n1. c"), ["- a\n", "  - b\n", "1. c"]);
        assert!(split("").is_empty());
    }
}
