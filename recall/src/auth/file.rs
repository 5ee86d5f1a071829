//! The text of a token file. No error shows a token, nor what may be one in the wrong place.

use std::collections::BTreeMap;

use loci_digest::Digest;
use loci_index::{Filter, IndexError};
use serde::Deserialize;
use serde_json::Value;

use super::{Access, Token};
use crate::error::RecallError;

/// Shortest token.
const MIN_TOKEN: usize = 16;
/// Longest name of a token.
const MAX_NAME: usize = 63;

const WRITER: &str = "filter: whoever writes documents may write all of them: leave the field out";

/// The tokens of a file's text, which may have filters or may not.
pub(super) fn parse(text: &str, filters: bool) -> Result<Vec<Token>, RecallError> {
    let mut tokens: Vec<(usize, Token)> = Vec::new();
    let lines = (1..).zip(text.lines().map(str::trim));
    for (position, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let error = |reason| RecallError::Token { position, reason };
        let read = if line.starts_with('{') { object } else { plain };
        let token = read(line).map_err(error)?;
        if !filters && token.access.filter().is_some() {
            return Err(error(WRITER.to_owned()));
        }
        for (before, other) in &tokens {
            distinct(*before, other, &token).map_err(error)?;
        }
        tokens.push((position, token));
    }
    some(tokens.into_iter().map(|(_, token)| token).collect())
}

/// Refuses a list of none.
pub(super) fn some(tokens: Vec<Token>) -> Result<Vec<Token>, RecallError> {
    if tokens.is_empty() {
        Err(RecallError::NoToken)
    } else {
        Ok(tokens)
    }
}

/// A token that may ask for everything.
pub(super) fn plain(token: &str) -> Result<Token, String> {
    Ok(Token {
        digest: digest(token)?,
        access: Access::everything(),
    })
}

fn digest(token: &str) -> Result<Digest, String> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "it has characters other than visible ASCII: a header cannot carry it".to_owned(),
        );
    }
    if token.len() < MIN_TOKEN {
        return Err("it has fewer than 16 characters and could be guessed: make one with `openssl rand -hex 32`".to_owned());
    }
    Ok(Digest::of(token))
}

/// The same token for two purposes would have one of them by chance. Two tokens may share name and filter: the one takes the
/// place of the other some day.
fn distinct(before: usize, other: &Token, token: &Token) -> Result<(), String> {
    if other.digest == token.digest && other.access != token.access {
        return Err(format!(
            "it is the token of line {before} again, for something else: give each its own"
        ));
    }
    match token.access.name() {
        Some(name) if other.access.name() == Some(name) && other.access != token.access => {
            Err(format!(
                "name: \"{name}\" is that of line {before}, which has another filter: give each its own"
            ))
        }
        _ => Ok(()),
    }
}

/// The fields of a line; those that are not known are kept to be refused.
#[derive(Deserialize)]
struct Line {
    name: Option<Value>,
    token: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    filter: Option<Value>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

/// Tells null from absent: a filter that says nothing must not mean that there is none.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn object(line: &str) -> Result<Token, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| {
        format!(
            "it begins with {{ and is not a JSON object with `name`, `token` and `filter`: {}",
            syntax(&e)
        )
    })?;
    if let Some(field) = line.unknown.keys().next() {
        return Err(format!(
            "{}: no such field; there are name, token and filter",
            shown(field)
        ));
    }
    let name = name(line.name)?;
    let digest = match line.token {
        Some(Value::String(token)) => {
            digest(&token).map_err(|reason| format!("token: {reason}"))?
        }
        Some(_) => return Err("token: it is not a string".to_owned()),
        None => return Err("token: missing".to_owned()),
    };
    let filter = line.filter.map(|json| filter(&json)).transpose()?;
    Ok(Token {
        digest,
        access: Access::named(&name, filter),
    })
}

/// What is wrong with JSON, and where, without what stands there.
fn syntax(error: &serde_json::Error) -> String {
    if error.is_data() {
        return "a field is given twice".to_owned();
    }
    format!("syntax error in column {}", error.column())
}

/// A field's name, unless it is long enough to be a token.
fn shown(field: &str) -> String {
    if field.len() < MIN_TOKEN {
        field.to_owned()
    } else {
        format!("a field whose name has {} characters", field.len())
    }
}

fn name(name: Option<Value>) -> Result<String, String> {
    let fits = |name: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(known)
    };
    match name {
        Some(Value::String(name)) if fits(&name) => Ok(name),
        Some(_) => Err(format!(
            "name: a name is a string of 1 to {MAX_NAME} letters, digits, -, _ and ."
        )),
        None => Err("name: missing: logs call the token by it".to_owned()),
    }
}

fn filter(json: &Value) -> Result<Filter, String> {
    let read = Filter::from_json(json, "filter").map_err(|e| e.to_string())?;
    if read == Filter::And(Vec::new()) {
        return Err(
            "filter: it is empty and passes everything: leave the field out if that is meant"
                .to_owned(),
        );
    }
    match read.check() {
        Ok(()) => Ok(read),
        Err(IndexError::Filter { field, reason }) => Err(format!("filter.{field}: {reason}")),
        Err(other) => Err(format!("filter: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Tokens;

    const ACME: &str =
        r#"{"name": "acme", "token": "acme-0123456789abcdef", "filter": {"tenant": "acme"}}"#;

    #[test]
    fn lines_are_tokens_or_objects() {
        let text = format!(
            "# ours\n\n0123456789abcdef\n{ACME}\n  {{\"token\": \"ops-0123456789abcdef\", \"name\": \"ops\"}}\n0123456789abcdef\n"
        );
        let tokens = parse(&text, true).unwrap();
        let access: Vec<_> = tokens.iter().map(|token| token.access.clone()).collect();
        let acme = Filter::from_json(&json!({"tenant": "acme"}), "filter").unwrap();
        assert_eq!(
            access,
            [
                Access::everything(),
                Access::named("acme", Some(acme)),
                Access::named("ops", None),
                Access::everything(),
            ]
        );
        assert_eq!(tokens[1].digest, Digest::of("acme-0123456789abcdef"));
    }

    #[test]
    fn bad_lines_are_named_by_place_and_field_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = dir.path().join("tokens");
            std::fs::write(&path, text).unwrap();
            Tokens::from_file(&path)
        };
        let token = "secret-0123456789";
        let line = |fields: &str| format!("{{\"name\": \"a\", \"token\": \"{token}\"{fields}}}");
        for (text, reason) in [
            ("# none\n".to_owned(), "no bearer token"),
            (
                "0123456789abcdef\nsecret\n".to_owned(),
                "token 2: it has fewer",
            ),
            ("0123456789 secret\n".to_owned(), "token 1: it has char"),
            (
                format!("{{\"name\": \"a\", \"token\": {token}}}"),
                "token 1: it begins with {",
            ),
            (
                line(", \"token\": \"other-0123456789\""),
                "token 1: it begins with {",
            ),
            (
                line(", \"filter\": {\"a\": 1}, \"filter\": {\"b\": 1}"),
                "given twice",
            ),
            (
                line(", \"filtre\": {\"a\": 1}"),
                "token 1: filtre: no such field",
            ),
            (
                format!("{{\"{token}\": 1}}"),
                "token 1: a field whose name has 17",
            ),
            (
                format!("{{\"token\": \"{token}\"}}"),
                "token 1: name: missing",
            ),
            (
                format!("{{\"token\": \"{token}\", \"name\": \"{token} b\"}}"),
                "token 1: name: a name is",
            ),
            ("{\"name\": \"a\"}".to_owned(), "token 1: token: missing"),
            (
                "{\"name\": \"a\", \"token\": [\"secret\"]}".to_owned(),
                "token 1: token: it is not",
            ),
            (
                "{\"name\": \"a\", \"token\": \"secret\"}".to_owned(),
                "token 1: token: it has fewer",
            ),
            (
                line(", \"filter\": null"),
                "token 1: filter: null is not a filter",
            ),
            (line(", \"filter\": {}"), "token 1: filter: it is empty"),
            (
                line(", \"filter\": {\"a\": {\"like\": 1}}"),
                "token 1: filter.a.like: no such",
            ),
            (
                line(", \"filter\": {\"source\": 1}"),
                "token 1: filter.source: 1 is an integer",
            ),
            (
                line(", \"filter\": {\"a\": {\"gt\": true}}"),
                "token 1: filter.a: true has no order",
            ),
            (
                format!("{token}\n{}", line(", \"filter\": {\"a\": 1}")),
                "token 2: it is the token of line 1",
            ),
            (
                format!("{ACME}\n{}", line("").replace("\"a\"", "\"acme\"")),
                "token 2: name: \"acme\" is",
            ),
        ] {
            let message = file(&text).unwrap_err().to_string();
            assert!(
                message.contains(reason)
                    && message.contains("tokens:")
                    && !message.contains("secret"),
                "{message}"
            );
        }
        let message = Tokens::from_file(&dir.path().join("absent"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("absent"), "{message}");
    }
}
