//! Words and runs of words, as overlaps count them.

use std::ops::Range;

/// A text's words in lower case, without punctuation, one space between them.
pub(super) struct Words {
    text: String,
    spans: Vec<Range<usize>>,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut words = Self {
            text: String::with_capacity(text.len()),
            spans: Vec::new(),
        };
        let mut open = false;
        for c in text.chars() {
            if !c.is_alphanumeric() {
                open = false;
                continue;
            }
            let alone = is_word(c);
            if !open || alone {
                words.begin();
            }
            words.text.extend(c.to_lowercase());
            if let Some(span) = words.spans.last_mut() {
                span.end = words.text.len();
            }
            open = !alone;
        }
        words
    }

    fn begin(&mut self) {
        if !self.spans.is_empty() {
            self.text.push(' ');
        }
        self.spans.push(self.text.len()..self.text.len());
    }

    pub(super) fn count(&self) -> usize {
        self.spans.len()
    }

    /// All runs of `n` words; `n` is 1 at least.
    pub(super) fn runs(&self, n: usize) -> impl Iterator<Item = &str> {
        self.spans.windows(n.max(1)).filter_map(move |run| {
            let (first, last) = (run.first()?, run.last()?);
            Some(&self.text[first.start..last.end])
        })
    }
}

/// Whether a character is a word of its own: of scripts that put no spaces between words.
fn is_word(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' // Thai, Lao
        | '\u{3040}'..='\u{30ff}' // kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}' // Han
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_without_case_and_punctuation() {
        let words = Words::of("  Don't PANIC: \u{201c}Straße 7\u{201d}, 東京!");
        assert_eq!(words.text, "don t panic straße 7 東 京");
        assert_eq!(words.count(), 7);
        let runs: Vec<_> = words.runs(5).collect();
        assert_eq!(
            runs,
            [
                "don t panic straße 7",
                "t panic straße 7 東",
                "panic straße 7 東 京"
            ]
        );
        assert_eq!(words.runs(8).count(), 0);
        assert_eq!(Words::of(" ?! ").count(), 0);
    }
}
