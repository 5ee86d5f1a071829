//! What suites ask and expect, whatever their kind: the texts that no example may share.
//!
//! A suite's own reader checks its lines. Here each line only has to say something to compare with, so that no suite goes
//! unprotected because its lines are of a newer form.

use serde_json::{Map, Value};

use crate::document::json_reason;

/// Fields that ask, fields of text that is neither, and fields that answer.
const ASKED: [&str; 2] = ["question", "prompt"];
const TEXTS: [&str; 1] = ["text"];
const ANSWERED: [&str; 6] = [
    "answer",
    "answers",
    "choices",
    "expected",
    "reference",
    "response",
];

/// One case of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// The suite.
    pub suite: String,
    /// Its `id`, or `L` and the number of its line.
    pub id: String,
    /// What is asked last.
    pub prompt: Option<String>,
    /// What is said before that, and text that is asked nothing of.
    pub texts: Vec<String>,
    /// What is expected, or offered to choose from.
    pub answers: Vec<String>,
}

/// A line of a suite that says nothing to compare with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("suite {suite}, line {line}: {reason}")]
pub struct CaseError {
    /// The suite.
    pub suite: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The cases of the suite called `suite`.
///
/// # Errors
/// Names the first line that says nothing to compare with.
pub fn cases(suite: &str, jsonl: &str) -> Result<Vec<Case>, CaseError> {
    let lines = jsonl.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            case(suite, index + 1, line).map_err(|reason| CaseError {
                suite: suite.to_owned(),
                line: index + 1,
                reason,
            })
        })
        .collect()
}

fn case(suite: &str, number: usize, line: &str) -> Result<Case, String> {
    let fields: Map<String, Value> = serde_json::from_str(line).map_err(|e| json_reason(&e))?;
    let all = |names: &[&str]| -> Vec<String> {
        let values = names.iter().filter_map(|name| fields.get(*name));
        values.flat_map(strings).collect()
    };
    let mut case = Case {
        suite: suite.to_owned(),
        id: match fields.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => format!("L{number}"),
        },
        prompt: None,
        texts: all(&TEXTS),
        answers: all(&ANSWERED),
    };
    for prompt in all(&ASKED) {
        case.ask(prompt);
    }
    if let Some(Value::Array(messages)) = fields.get("messages") {
        messages.iter().for_each(|message| case.hear(message));
    }
    if case.prompt.is_none() && case.texts.is_empty() {
        return Err("says nothing to compare examples with: give `prompt`, `question`, `messages` or `text`".to_owned());
    }
    Ok(case)
}

impl Case {
    fn ask(&mut self, prompt: String) {
        self.texts.extend(self.prompt.replace(prompt));
    }

    /// Takes a turn of a conversation. What a system message says is common to all cases, and asks nothing.
    fn hear(&mut self, message: &Value) {
        let Some(content) = message.get("content").and_then(Value::as_str) else {
            return;
        };
        match message.get("role").and_then(Value::as_str) {
            Some("user") => self.ask(content.to_owned()),
            Some("assistant") => self.answers.push(content.to_owned()),
            _ => {}
        }
    }
}

/// A text, or the texts of a list.
fn strings(value: &Value) -> Vec<String> {
    let values = match value {
        Value::Array(values) => &values[..],
        value => std::slice::from_ref(value),
    };
    let texts = values.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_every_kind_say_what_they_ask() {
        let text = concat!(
            r#"{"id": "a", "question": "Where?", "expected": [{"document": "x.md"}]}"#,
            "\n\n",
            r#"{"prompt": "Say yes.", "system": "Be brief.", "expected": ["Yes", "yes"]}"#,
            "\n",
            r#"{"id": 7, "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three"}], "reference": "Four"}"#,
            "\n",
            r#"{"text": "Long ago."}"#,
        );
        let read = cases("s", text).unwrap();
        let case = |id: &str, prompt: Option<&str>, texts: &[&str], answers: &[&str]| Case {
            suite: "s".into(),
            id: id.into(),
            prompt: prompt.map(str::to_owned),
            texts: texts.iter().map(|t| (*t).to_owned()).collect(),
            answers: answers.iter().map(|t| (*t).to_owned()).collect(),
        };
        let expected = [
            case("a", Some("Where?"), &[], &[]),
            case("L3", Some("Say yes."), &[], &["Yes", "yes"]),
            case("7", Some("Three"), &["One"], &["Four", "Two"]),
            case("L5", None, &["Long ago."], &[]),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        let error = cases("s", "{\"prompt\": \"x\"}\n{\"input\": \"y\"}\n").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("suite s, line 2: says nothing"),
            "{error}"
        );
        assert!(cases("s", "[]").is_err());
    }
}
