//! JSON Lines: an example a line; a bad line is reported and the rest is kept.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{EXAMPLE_BYTES, Examples, Made, Message, Role, check};
use crate::document::json_reason;

const SHAPES: &str = "each line is a JSON object with `messages` (a list of `role` and `content`), or with `prompt` and `response`, and optionally `system`; `id` and `metadata` may stand beside them";

/// One line, or one item of a runbook's `examples`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    id: Option<Id>,
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    /// Hugging Face's TRL calls it completion.
    #[serde(alias = "completion")]
    response: Option<String>,
    system: Option<String>,
    /// For people: nothing reads it.
    #[serde(default, rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

/// What a line is called.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`id` must be a string or an integer")]
pub(crate) enum Id {
    Text(String),
    Integer(i64),
}

impl Id {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(id) => id,
            Self::Integer(id) => id.to_string(),
        }
    }
}

pub(super) fn parse(bytes: &[u8], document: &str) -> Examples {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut examples = Examples::default();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() {
            examples.take(document, index + 1, read(line));
        }
    }
    examples
}

fn read(line: &[u8]) -> Result<Made, String> {
    if line.len() > EXAMPLE_BYTES {
        return Err(format!(
            "is {} bytes long, more than the {EXAMPLE_BYTES} that an example may have: shorten it",
            line.len()
        ));
    }
    let text = std::str::from_utf8(line).map_err(|e| {
        format!(
            "is not valid UTF-8 at byte {}: convert it to UTF-8",
            e.valid_up_to()
        )
    })?;
    let line: Line =
        serde_json::from_str(text).map_err(|e| format!("{}; {SHAPES}", json_reason(&e)))?;
    line.example(None)
}

impl Line {
    /// What the line says, after `system` unless it says so itself.
    pub(super) fn example(self, system: Option<&str>) -> Result<Made, String> {
        let system = || system.map(str::to_owned);
        let example = match (self.messages, self.prompt, self.response) {
            (Some(messages), None, None) if self.system.is_none() => {
                check::conversation(after(system(), messages))?
            }
            (Some(_), ..) => {
                return Err(format!("has more beside `messages`: {SHAPES}"));
            }
            (None, Some(prompt), Some(response)) => {
                check::pair(self.system.or_else(system), prompt, response)?
            }
            (None, Some(_), None) => return Err(format!("has no `response`: {SHAPES}")),
            (None, None, Some(_)) => return Err(format!("has no `prompt`: {SHAPES}")),
            (None, None, None) => return Err(format!("is no example: {SHAPES}")),
        };
        let id = self.id.map(Id::text);
        Ok(Made { id, example })
    }
}

/// The messages, with a system message before them unless there is one.
fn after(system: Option<String>, mut messages: Vec<Message>) -> Vec<Message> {
    let has_one = messages.first().is_some_and(|m| m.role == Role::System);
    if let Some(content) = system.filter(|_| !has_one) {
        let role = Role::System;
        messages.insert(0, Message { role, content });
    }
    messages
}
