use std::ops::Range;

use pulldown_cmark::{Event, Parser};

/// Runs of white space, character references, and what lies between them.
pub(super) fn runs(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = text.get(offset..).filter(|rest| !rest.is_empty())?;
        let is_space = |c: char| c.is_ascii_whitespace();
        let length = if rest.starts_with(is_space) {
            rest.find(|c| !is_space(c)).unwrap_or(rest.len())
        } else if let Some(length) = reference(rest) {
            length
        } else {
            let stop = |(at, c): (usize, char)| {
                at > 0 && (is_space(c) || reference(&rest[at..]).is_some())
            };
            rest.char_indices()
                .find(|&at| stop(at))
                .map_or(rest.len(), |(at, _)| at)
        };
        offset += length;
        Some(offset - length..offset)
    })
}

/// Bytes of the character reference (`&amp;`, `&#38;`) that `text` starts with.
fn reference(text: &str) -> Option<usize> {
    let body = text.strip_prefix('&')?;
    let end = body
        .bytes()
        .take(33)
        .position(|b| !b.is_ascii_alphanumeric() && b != b'#')?;
    (end > 0 && body.as_bytes()[end] == b';').then_some(end + 2)
}

/// Decodes character references; CommonMark knows the same names as HTML.
pub(super) fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    for run in runs(text) {
        let run = &text[run];
        match reference(run) {
            Some(_) => Parser::new(run).for_each(|event| {
                if let Event::Text(character) = event {
                    decoded.push_str(&character);
                }
            }),
            None => decoded.push_str(run),
        }
    }
    decoded
}
