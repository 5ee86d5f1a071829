//! Texts that a tokenizer takes for more than text.

use std::borrow::Cow;

use loci_models::DecoderTokenizer;

/// What most families of models begin and end their marks with. Broken up whatever the model: an adapter's base may
/// know marks of others.
const COMMON: [&str; 2] = ["<|", "|>"];

/// The marks of a model: texts whose token parts turns or ends texts, instead of standing for its characters.
#[derive(Clone, Debug)]
pub struct Marks(Vec<String>);

impl Marks {
    /// Those of a model's tokenizer.
    pub fn of(tokenizer: &DecoderTokenizer) -> Self {
        Self::new(tokenizer.marks().map(|(_, mark)| mark))
    }

    /// These, and what begins or ends marks of most models. White space around a mark is not looked at, and white
    /// space alone is none.
    pub fn new<'a>(marks: impl IntoIterator<Item = &'a str>) -> Self {
        let marks = marks.into_iter().map(str::trim).chain(COMMON);
        let mut all: Vec<&str> = marks.filter(|mark| !mark.is_empty()).collect();
        all.sort_unstable();
        all.dedup();
        // What holds another mark is broken up with it.
        let holds_none = |mark: &&&str| {
            let mut others = all.iter().filter(|other| *other != *mark);
            !others.any(|other| mark.contains(other))
        };
        let least = all.iter().filter(holds_none);
        Self(least.map(|mark| (*mark).to_owned()).collect())
    }

    /// The text without marks: each has a space after its first character, and is left out if it has no other.
    pub fn broken<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        // What is put between two characters, or taken from there, may make another mark; but not for ever.
        while self.0.iter().any(|mark| text.contains(mark.as_str())) {
            text = Cow::Owned(self.broken_once(&text));
        }
        text
    }

    fn broken_once(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        for (at, c) in text.char_indices() {
            let begins = |mark: &&String| text[at..].starts_with(mark.as_str());
            match self.0.iter().find(begins) {
                None => out.push(c),
                Some(mark) if mark.len() == c.len_utf8() => {}
                Some(_) => {
                    out.push(c);
                    out.push(' ');
                }
            }
        }
        out
    }
}
