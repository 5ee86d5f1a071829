//! Bodies of requests: bounded JSON objects whose every field is known.

use axum::body::{BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use bytes::BytesMut;
use futures::StreamExt;
use serde_json::{Map, Value};

use super::error::ApiError;

/// Bytes beyond the limit that are read and thrown away, so that a client that sends all before
/// it reads the answer gets to read it.
const DISCARD: usize = 32 << 20;

/// Reads a JSON body of at most `limit` bytes.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    check_json(request.headers())?;
    read_bytes(request, limit).await
}

/// Reads a body of whatever type of at most `limit` bytes.
pub(crate) async fn read_bytes(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    check_encoding(request.headers())?;
    let mut stream = request.into_body().into_data_stream();
    let mut read = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                format!("the body could not be read: {e}"),
            )
        })?;
        if read.len() + chunk.len() > limit {
            discard(stream).await;
            let message = format!("the body is longer than {limit} bytes: send less at a time");
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                message,
            ));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

async fn discard(mut stream: BodyDataStream) {
    let mut left = DISCARD;
    while let Some(Ok(chunk)) = stream.next().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = text(headers, header::CONTENT_ENCODING);
    match encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        None => Ok(()),
        Some(encoding) => Err(unread(format!(
            "Content-Encoding {encoding} is not supported: send the body as it is"
        ))),
    }
}

fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match content_type(headers) {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => Ok(()),
        Some(kind) => Err(unread(format!(
            "Content-Type {kind} is not supported: send application/json"
        ))),
        None => Err(unread(
            "the request has no Content-Type: send application/json".to_owned(),
        )),
    }
}

/// The type of a body, without its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let kind = text(headers, header::CONTENT_TYPE)?;
    kind.split(';').next().map(str::trim)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The error for a body of a type that is not read.
pub(crate) fn unread(message: String) -> ApiError {
    let (status, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    ApiError::new(status, code, message)
}

/// A field that clients know from elsewhere, and that is not served here.
pub(crate) struct Refused {
    pub(crate) name: &'static str,
    /// Whether a value asks for no more than its absence.
    pub(crate) idle: fn(&Value) -> bool,
    /// Why it is refused, and the way out.
    pub(crate) reason: &'static str,
}

/// The fields of a JSON object, each taken once.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses an object that has no fields but `known`.
    pub(crate) fn parse(body: &[u8], known: &[&str]) -> Result<Self, ApiError> {
        Self::parse_without(body, known, &[])
    }

    /// Parses an object that has no fields but `known`, and none of `refused` that asks for something.
    pub(crate) fn parse_without(
        body: &[u8],
        known: &[&str],
        refused: &[Refused],
    ) -> Result<Self, ApiError> {
        let invalid = |message| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| invalid(format!("the body is not JSON: {e}")))?;
        let Value::Object(mut fields) = value else {
            return Err(invalid(format!(
                "the body is {}: send an object with the fields {}",
                kind(&value),
                known.join(", ")
            )));
        };
        for Refused { name, idle, reason } in refused {
            let value = fields.remove(*name).unwrap_or_default();
            if !value.is_null() && !idle(&value) {
                return Err(unsupported(name, reason));
            }
        }
        Self::of(fields, known)
    }

    /// Takes an object that has no fields but `known`.
    pub(crate) fn of(fields: Map<String, Value>, known: &[&str]) -> Result<Self, ApiError> {
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(unknown(name, known)),
            None => Ok(Self(fields)),
        }
    }

    /// The field's value; null is the same as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.typed(name, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", |value| value.as_bool().ok_or(value))
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Value>, ApiError> {
        self.typed(name, "an object", |value| {
            if value.is_object() {
                Ok(value)
            } else {
                Err(value)
            }
        })
    }

    /// A whole number from `least` to `greatest`.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        least: u64,
        greatest: u64,
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if (least..=greatest).contains(&number) => Ok(Some(number)),
            _ => {
                let given = if value.is_number() {
                    value.to_string()
                } else {
                    kind(&value).to_owned()
                };
                Err(ApiError::field(
                    name,
                    format!("{given} is not a whole number from {least} to {greatest}"),
                ))
            }
        }
    }

    /// A number that `fits`; `wanted` says which do.
    pub(crate) fn number(
        &mut self,
        name: &str,
        wanted: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if fits(number) => Ok(Some(number)),
            Some(number) => Err(ApiError::field(name, format!("{number} is not {wanted}"))),
            None => Err(ApiError::field(
                name,
                format!("{} is not {wanted}", kind(&value)),
            )),
        }
    }

    /// One of `values`, by name; the first when absent.
    pub(crate) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        values: &[(&str, T)],
        default: T,
    ) -> Result<T, ApiError> {
        let Some(given) = self.string(name)? else {
            return Ok(default);
        };
        let found = values.iter().find(|(known, _)| *known == given);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
            ApiError::field(
                name,
                format!("\"{}\" is none of {}", shorten(&given), known.join(", ")),
            )
        })
    }

    fn typed<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, ApiError> {
        let wrong = |value| ApiError::field(name, format!("{} is not {wanted}", kind(&value)));
        self.take(name)
            .map(|value| read(value).map_err(wrong))
            .transpose()
    }
}

/// The error for a required field that is absent.
pub(crate) fn missing(name: &str, what: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "missing_field",
        format!("{name}: missing; {what}"),
    )
    .at(name)
}

/// The error for something of OpenAI's API that is not served.
pub(crate) fn unsupported(name: &str, reason: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "unsupported_parameter",
        format!("{name}: not supported: {reason}"),
    )
    .at(name)
}

/// The error for a field that is none of `known`.
pub(crate) fn unknown(name: &str, known: &[&str]) -> ApiError {
    let name = shorten(name);
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, known), known))
        .min();
    let hint = match near {
        Some((distance, known)) if distance <= 1 + known.len() / 3 => {
            format!("did you mean {known}?")
        }
        _ => format!("there are {}", known.join(", ")),
    };
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "unknown_field",
        format!("{name}: no such field; {hint}"),
    )
    .at(name)
}

/// The beginning of what a client sent, short enough to be sent back.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What a JSON value is.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
