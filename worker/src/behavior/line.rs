//! A line of a behaviour suite.

use std::collections::HashSet;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::{Ask, CHOICES, Case, DEFAULT_TOKENS, MAX_TOKENS, Right};
use crate::document::json_reason;
use crate::example::{self, Id, Message, Role};

const SHAPES: &str = "each line is a JSON object that asks by `prompt` (and `system`) or `messages` and is judged by one of `expected`, `pattern`, `schema`, `choices` with `answer`, and `reference`; or that has `text` alone. `id` may stand beside them";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    id: Option<Id>,
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
    expected: Option<Texts>,
    pattern: Option<String>,
    schema: Option<Value>,
    choices: Option<Vec<String>>,
    answer: Option<String>,
    reference: Option<String>,
    text: Option<String>,
    max_tokens: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`expected` must be a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

pub(super) fn case(text: &str, number: usize) -> Result<Case, String> {
    let mut line: Line =
        serde_json::from_str(text).map_err(|e| format!("{}; {SHAPES}", json_reason(&e)))?;
    let id = line.id.take().map(Id::text);
    if id.as_ref().is_some_and(|id| id.trim().is_empty()) {
        return Err("`id` is empty: write one, or leave it out".to_owned());
    }
    let ask = line.ask()?;
    Ok(Case {
        id: id.unwrap_or_else(|| format!("L{number}")),
        ask,
    })
}

impl Line {
    fn ask(self) -> Result<Ask, String> {
        let judge = self.judge()?;
        let generates = matches!(judge, "expected" | "pattern" | "schema");
        if self.max_tokens.is_some() && !generates {
            return Err(format!(
                "has `maxTokens`, and with `{judge}` nothing is generated: leave it out"
            ));
        }
        if self.answer.is_some() && judge != "choices" {
            return Err(
                "has `answer` without `choices`: give those, too, or `expected`".to_owned(),
            );
        }
        if let Some(text) = self.text {
            if self.prompt.is_some() || self.messages.is_some() || self.system.is_some() {
                return Err("asks something beside `text`, which stands alone".to_owned());
            }
            example::content(&text).map_err(|why| format!("`text` {why}"))?;
            return Ok(Ask::Text(text));
        }
        let messages = asked(self.prompt, self.system, self.messages)?;
        let max_tokens = self.max_tokens.unwrap_or(DEFAULT_TOKENS);
        if !(1..=MAX_TOKENS).contains(&max_tokens) {
            return Err(format!(
                "`maxTokens` {max_tokens} is not from 1 to {MAX_TOKENS}"
            ));
        }
        if let Some(reference) = self.reference {
            answer("reference", &reference)?;
            return Ok(Ask::Reference {
                messages,
                reference,
            });
        }
        if let Some(choices) = self.choices {
            let answer = chosen(&choices, self.answer.as_deref())?;
            return Ok(Ask::Choice {
                messages,
                choices,
                answer,
            });
        }
        let right = match (self.expected, self.pattern, self.schema) {
            (Some(expected), _, _) => Right::Expected(texts(expected)?),
            (None, Some(pattern), _) => Right::Pattern(regex(&pattern)?),
            (None, None, Some(schema)) => Right::Schema(Arc::new(validator(&schema)?)),
            (None, None, None) => {
                return Err(format!("has nothing to judge an answer by: {SHAPES}"));
            }
        };
        Ok(Ask::Answer {
            messages,
            max_tokens,
            right,
        })
    }

    /// The field by which the answer is judged.
    fn judge(&self) -> Result<&'static str, String> {
        let fields = [
            ("expected", self.expected.is_some()),
            ("pattern", self.pattern.is_some()),
            ("schema", self.schema.is_some()),
            ("choices", self.choices.is_some()),
            ("reference", self.reference.is_some()),
            ("text", self.text.is_some()),
        ];
        let given = fields.iter().filter(|(_, given)| *given);
        let given: Vec<&'static str> = given.map(|(name, _)| *name).collect();
        match given[..] {
            [] => Err(format!("has nothing to judge an answer by: {SHAPES}")),
            [judge] => Ok(judge),
            _ => Err(format!(
                "has `{}`: an answer is judged by one of them",
                given.join("` and `")
            )),
        }
    }
}

/// What is said before the answer.
fn asked(
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
) -> Result<Vec<Message>, String> {
    let message = |role, content| Message { role, content };
    let messages = match (prompt, messages) {
        (Some(prompt), None) => {
            let system = system.map(|system| message(Role::System, system));
            system
                .into_iter()
                .chain([message(Role::User, prompt)])
                .collect()
        }
        (None, Some(_)) if system.is_some() => {
            return Err(
                "has `system` beside `messages`: make it the first of them, of role system"
                    .to_owned(),
            );
        }
        (None, Some(messages)) => messages,
        (Some(_), Some(_)) => {
            return Err("has `prompt` and `messages`: ask by one of them".to_owned());
        }
        (None, None) => return Err(format!("asks nothing: {SHAPES}")),
    };
    example::prompt(&messages)?;
    Ok(messages)
}

/// Whether a text can be the assistant's turn. Templates put what ends it right behind it.
fn answer(field: &str, text: &str) -> Result<(), String> {
    example::content(text).map_err(|why| format!("`{field}` {why}"))?;
    if text.trim() != text {
        return Err(format!(
            "`{field}` has white space around \"{}\": take it off",
            text.trim()
        ));
    }
    Ok(())
}

/// The place of the right choice.
fn chosen(choices: &[String], right: Option<&str>) -> Result<usize, String> {
    if !(2..=CHOICES).contains(&choices.len()) {
        let count = choices.len();
        return Err(format!("has {count} `choices`: give 2 to {CHOICES}"));
    }
    let mut seen = HashSet::new();
    for choice in choices {
        answer("choices", choice)?;
        if !seen.insert(choice) {
            return Err(format!("has the choice \"{choice}\" twice"));
        }
    }
    let right = right.ok_or("has `choices` without `answer`: say which one is right")?;
    let place = choices.iter().position(|choice| choice == right);
    place.ok_or_else(|| format!("has the `answer` \"{right}\", which is none of its `choices`"))
}

fn texts(expected: Texts) -> Result<Vec<String>, String> {
    let texts = match expected {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    if texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()) {
        return Err("has an `expected` that is empty: say what is right".to_owned());
    }
    Ok(texts)
}

fn regex(pattern: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|e| {
        // The last line says what; those before it draw where.
        let drawn = e.to_string();
        let what = drawn.lines().last().unwrap_or_default();
        format!(
            "`pattern` does not read: {}",
            what.trim_start_matches("error: ")
        )
    })?;
    if regex.is_match("") {
        return Err(
            "`pattern` matches an answer that says nothing, too: let something be there".to_owned(),
        );
    }
    Ok(regex)
}

/// A JSON schema. Its patterns are read as those of `pattern` are, its formats are checked.
fn validator(schema: &Value) -> Result<Validator, String> {
    if !schema.is_object() {
        return Err("`schema` is no JSON schema: write an object".to_owned());
    }
    let validator = jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .build(schema)
        .map_err(|e| {
            format!(
                "`schema` does not read: {e}; write a JSON schema that refers to nothing outside of it by `$ref`, with formats of the standard and patterns without look-around"
            )
        })?;
    let some = [json!(null), json!(0), json!(""), json!([]), json!({})];
    if some.iter().all(|value| validator.is_valid(value)) {
        return Err(
            "`schema` allows null, 0, \"\", [] and {} alike: say what must be there".to_owned(),
        );
    }
    Ok(validator)
}
