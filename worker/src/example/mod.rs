//! Examples of behaviour, which adapters are trained on: conversations, and pairs of prompt and response, in JSON Lines; and
//! Markdown runbooks whose front matter says what they answer.
//!
//! What cannot be used is reported with its file and line, and the rest is read on. `docs/training-data.md` says what is
//! read, and how.

mod check;
mod lines;
mod runbook;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use check::{content, prompt};
pub(crate) use lines::Id;

use crate::document::Media;

/// The most bytes of one example, as it stands in a line and as all that is said in it.
pub const EXAMPLE_BYTES: usize = 256 << 10;
/// The most messages of one example.
pub const MESSAGES: usize = 64;
/// The most bytes of a runbook.
pub const RUNBOOK_BYTES: usize = 1 << 20;
/// The most prompts that the text of one runbook answers.
pub const PROMPTS: usize = 256;

/// The most characters of a reason: some repeat what stands there.
const REASON: usize = 400;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever set the assistant up.
    System,
    /// Who asks.
    User,
    /// Who answers: the one whose words are learnt.
    Assistant,
}

impl Role {
    /// The name as it stands in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A conversation: a system message or none, then user and assistant in turns. The assistant has the last word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Its turns.
    pub messages: Vec<Message>,
}

/// An example, and where in its file it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The line, from 1.
    pub line: usize,
    /// The `id` that it states.
    pub id: Option<String>,
    /// The example.
    pub example: Example,
}

/// All examples of one file, and what had to be left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Examples {
    /// The examples, in order.
    pub found: Vec<Found>,
    /// What could not be used.
    pub problems: Vec<ExampleError>,
}

/// Why a line, a part of a runbook or a whole file is no example. It is left out; the rest is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{document}{}: {reason}", at(line))]
pub struct ExampleError {
    /// The file.
    pub document: String,
    /// The line, from 1; absent when it is about the file as a whole.
    pub line: Option<usize>,
    /// What is wrong, and the way out.
    pub reason: String,
}

fn at(line: &Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

/// Reads the examples of a file that is called `document`.
pub fn parse(media: Media, bytes: &[u8], document: &str) -> Examples {
    match media {
        Media::Jsonl => lines::parse(bytes, document),
        Media::Markdown => runbook::parse(bytes, document),
        Media::Html | Media::Text | Media::Pdf | Media::Docx | Media::Pptx | Media::Xlsx => {
            let mut none = Examples::default();
            let reason = format!(
                "{media} holds no examples: write JSON Lines (.jsonl) or Markdown with front matter (.md), or exclude it from the source"
            );
            none.refuse(document, None, &reason);
            none
        }
    }
}

impl Examples {
    /// What a reason repeats of the file must not do anything to a terminal.
    fn refuse(&mut self, document: &str, line: Option<usize>, reason: &str) {
        let shown = |c: char| match c.is_control() || check::is_hidden(c) {
            true => char::REPLACEMENT_CHARACTER,
            false => c,
        };
        self.problems.push(ExampleError {
            document: document.to_owned(),
            line,
            reason: reason.chars().map(shown).take(REASON).collect(),
        });
    }

    /// Takes what was made of `line`.
    fn take(&mut self, document: &str, line: usize, made: Result<Made, String>) {
        match made {
            Ok(Made { id, example }) => self.found.push(Found { line, id, example }),
            Err(reason) => self.refuse(document, Some(line), &reason),
        }
    }
}

/// An example that does not know yet where it stands.
struct Made {
    id: Option<String>,
    example: Example,
}
