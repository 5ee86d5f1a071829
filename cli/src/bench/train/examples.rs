//! What is learned, made of real texts.

use anyhow::{Context, Result, bail};
use loci_models::{Decoder, Example, Message};

/// Of so many pieces of text that follow one another one is taken, so that many documents have a part.
pub const SPREAD: usize = 16;

/// So many texts of so many tokens.
pub const TEXTS: usize = 4;
pub const LENGTH: usize = 128;

/// Chats: each asks with the first half of a piece, and is answered by the second, which is learned.
pub fn chats(decoder: &Decoder, pieces: &[String], wanted: usize) -> Result<Vec<Example>> {
    let turn = |role: &str, content: &str| Message {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    let (mut made, mut refused) = (Vec::new(), String::new());
    for piece in (0..SPREAD).flat_map(|first| pieces.iter().skip(first).step_by(SPREAD)) {
        let Some((asked, answer)) = halves(piece) else {
            continue;
        };
        match Example::chat(decoder, &[turn("user", asked), turn("assistant", answer)]) {
            Ok(example) => made.push(example),
            Err(reason) => refused = format!(" ({reason})"),
        }
        if made.len() == wanted {
            return Ok(made);
        }
    }
    let count = made.len();
    bail!("--documents: they make {count} chats, and {wanted} are wanted{refused}")
}

/// Texts of one length, of which every token but the first is learned.
pub fn texts(decoder: &Decoder, pieces: &[String]) -> Result<Vec<Example>> {
    let tokens = decoder.tokenizer().encode_bare(&pieces.join("\n\n"))?;
    let chunks = tokens.chunks_exact(LENGTH).take(TEXTS);
    let made = chunks.map(|text| {
        let targets = (0..LENGTH).map(|at| at > 0).collect();
        Example::new(text.to_vec(), targets)
    });
    let made = made.collect::<Result<Vec<_>, _>>()?;
    let enough = (made.len() == TEXTS).then_some(made);
    enough.context("--documents: too little text; name a directory with more")
}

/// A text cut at the first white space in its second half.
fn halves(text: &str) -> Option<(&str, &str)> {
    let mut places = text.char_indices();
    let (at, _) = places.find(|(at, c)| 2 * at >= text.len() && c.is_whitespace())?;
    let (first, second) = (text[..at].trim(), text[at..].trim());
    (!first.is_empty() && !second.is_empty()).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_whole_words_without_white_space_around() {
        assert_eq!(
            halves("one two\n\nthree four"),
            Some(("one two\n\nthree", "four"))
        );
        assert_eq!(halves("zwölf größte Öfen"), Some(("zwölf größte", "Öfen")));
        for none in ["", "word", "words ", "first second", " \n "] {
            assert_eq!(halves(none), None, "{none:?}");
        }
    }
}
