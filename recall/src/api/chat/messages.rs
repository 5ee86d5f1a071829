//! The turns of a chat.

use loci_models::Message;
use serde_json::{Map, Value};

use crate::api::body::{kind, missing, shorten, unsupported};
use crate::api::error::ApiError;

/// Whose turns there may be, and what templates call them.
const ROLES: [(&str, &str); 4] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
];

/// Reads `messages`.
pub(super) fn parse(value: Value) -> Result<Vec<Message>, ApiError> {
    let Value::Array(items) = value else {
        let reason = format!("{} is not a list of turns", kind(&value));
        return Err(ApiError::field("messages", reason));
    };
    let items = items.into_iter().enumerate();
    let messages = items
        .map(|(i, item)| message(&format!("messages[{i}]"), item))
        .collect::<Result<Vec<_>, _>>()?;
    if !messages.iter().any(|message| message.role == "user") {
        let reason = "no turn is the user's: there is nothing to answer";
        return Err(ApiError::field("messages", reason));
    }
    Ok(messages)
}

fn message(place: &str, item: Value) -> Result<Message, ApiError> {
    let Value::Object(mut fields) = item else {
        let reason = format!("{} is not an object with role and content", kind(&item));
        return Err(ApiError::field(place, reason));
    };
    let role = role(&format!("{place}.role"), fields.remove("role"))?;
    let content = content(&format!("{place}.content"), fields.remove("content"))?;
    refuse_others(place, &fields)?;
    Ok(Message {
        role: role.to_owned(),
        content,
    })
}

fn role(place: &str, value: Option<Value>) -> Result<&'static str, ApiError> {
    let given = match value.unwrap_or_default() {
        Value::String(given) => given,
        Value::Null => return Err(missing(place, "it says whose turn it is")),
        other => {
            let reason = format!("{} is not a string", kind(&other));
            return Err(ApiError::field(place, reason));
        }
    };
    if let Some((_, role)) = ROLES.iter().find(|(known, _)| *known == given) {
        return Ok(*role);
    }
    if given == "tool" || given == "function" {
        let reason = format!("{given} is not supported: the model calls no tools");
        return Err(ApiError::field(place, reason));
    }
    let known: Vec<&str> = ROLES.iter().map(|(known, _)| *known).collect();
    let reason = format!("\"{}\" is none of {}", shorten(&given), known.join(", "));
    Err(ApiError::field(place, reason))
}

fn content(place: &str, value: Option<Value>) -> Result<String, ApiError> {
    match value.unwrap_or_default() {
        Value::String(text) => Ok(text),
        Value::Array(parts) => {
            let parts = parts.into_iter().enumerate();
            let texts = parts.map(|(i, item)| part(&format!("{place}[{i}]"), item));
            texts.collect()
        }
        Value::Null => Err(missing(place, "it is what is said, a text")),
        other => {
            let reason = format!("{} is neither a text nor a list of texts", kind(&other));
            Err(ApiError::field(place, reason))
        }
    }
}

fn part(place: &str, item: Value) -> Result<String, ApiError> {
    let Value::Object(mut fields) = item else {
        let reason = format!("{} is not an object with type and text", kind(&item));
        return Err(ApiError::field(place, reason));
    };
    match fields.remove("type").unwrap_or_default() {
        Value::String(known) if known == "text" => {}
        Value::String(other) => {
            let other = shorten(&other);
            let reason = format!("{other} is not supported: the model reads text only");
            return Err(ApiError::field(format!("{place}.type"), reason));
        }
        _ => return Err(missing(&format!("{place}.type"), "it is \"text\"")),
    }
    let text = match fields.remove("text").unwrap_or_default() {
        Value::String(text) => text,
        _ => return Err(missing(&format!("{place}.text"), "it is a string")),
    };
    refuse_others(place, &fields)?;
    Ok(text)
}

/// Clients send answers back as they got them, with fields that say nothing.
fn refuse_others(place: &str, fields: &Map<String, Value>) -> Result<(), ApiError> {
    let idle = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match fields.iter().find(|(_, value)| !idle(value)) {
        None => Ok(()),
        Some((name, _)) => {
            let place = format!("{place}.{}", shorten(name));
            Err(unsupported(&place, "a turn has role and content alone"))
        }
    }
}
