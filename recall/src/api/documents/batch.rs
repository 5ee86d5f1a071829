//! Many documents in one request.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loci_push::{Condition, check_id};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Deserializer;
use serde_json::error::Category;

use super::super::body::unread;
use super::super::error::ApiError;
use super::answer::{failed, refused, status};
use super::head::{check_metadata, check_uri};
use super::place::Place;
use crate::documents::{DocumentChange, NewDocument};
use crate::wire::{BatchAnswer, BatchDocument, BatchItem, MAX_BATCH_DOCUMENTS};

/// How documents stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON list.
    List,
    /// A JSON object a line.
    Lines,
}

impl Form {
    /// By the type of a body.
    pub(super) fn of(content_type: Option<&str>) -> Result<Self, ApiError> {
        let said = content_type.unwrap_or_default().to_ascii_lowercase();
        match said.as_str() {
            "application/json" => Ok(Self::List),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::Lines),
            "" => Err(unread(
                "the request has no Content-Type: send application/json or application/x-ndjson"
                    .to_owned(),
            )),
            other => Err(unread(format!(
                "Content-Type {other} is not supported: send application/json or application/x-ndjson"
            ))),
        }
    }
}

/// A document that can be written, or why it cannot, with its id where that is known.
pub(super) type Item = Result<DocumentChange, (Option<String>, ApiError)>;

/// Reads a body. Documents may have `limit` bytes.
pub(super) fn read(form: Form, body: &[u8], limit: usize) -> Result<Vec<Item>, ApiError> {
    let Parts { first, count } = match form {
        Form::List => {
            list(body).map_err(|e| invalid(format!("the body is not a JSON list: {e}")))?
        }
        Form::Lines => lines(body),
    };
    if count == 0 {
        return Err(invalid(
            "the body has no documents: send at least one".to_owned(),
        ));
    }
    if count > MAX_BATCH_DOCUMENTS {
        let message = format!(
            "{count} documents are more than the {MAX_BATCH_DOCUMENTS} that are taken at once: send several batches"
        );
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, "batch_too_large", message));
    }
    let items = first.into_iter();
    Ok(items.map(|(line, json)| item(line, json, limit)).collect())
}

/// The first documents of a body, as many as may be, each with its line where it has one, and how many there are.
/// They are parsed when they have been counted: a body of nothing but commas would take gigabytes.
#[derive(Default)]
struct Parts<'a> {
    first: Vec<(Option<usize>, &'a [u8])>,
    count: usize,
}

impl<'a> Parts<'a> {
    fn add(&mut self, line: Option<usize>, json: &'a [u8]) {
        self.count += 1;
        if self.count <= MAX_BATCH_DOCUMENTS {
            self.first.push((line, json));
        }
    }
}

/// The elements of a JSON list.
fn list(body: &[u8]) -> serde_json::Result<Parts<'_>> {
    // Nothing is kept of these.
    serde_json::from_slice::<Vec<IgnoredAny>>(body)?;
    let mut parts = Parts::default();
    let mut rest = after(body.trim_ascii_start(), b"[");
    while !rest.is_empty() && !rest.starts_with(b"]") {
        let mut elements = Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        elements.next().transpose()?;
        let (element, left) = rest.split_at(elements.byte_offset());
        parts.add(None, element);
        rest = after(left.trim_ascii_start(), b",");
    }
    Ok(parts)
}

fn after<'a>(json: &'a [u8], mark: &[u8]) -> &'a [u8] {
    json.strip_prefix(mark).unwrap_or(json).trim_ascii_start()
}

fn lines(body: &[u8]) -> Parts<'_> {
    let mut parts = Parts::default();
    for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            parts.add(Some(i + 1), line);
        }
    }
    parts
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

fn item(line: Option<usize>, json: &[u8], limit: usize) -> Item {
    let document: BatchDocument = serde_json::from_slice(json).map_err(|error| {
        let named = serde_json::from_slice::<Named>(json);
        let said = match (line, error.classify()) {
            (Some(line), Category::Syntax | Category::Eof) => {
                format!("line {line} is not JSON: {error}")
            }
            _ => format!("the document: {error}"),
        };
        (named.ok().map(|named| named.id), invalid(said))
    })?;
    let id = document.id.clone();
    change(document, limit).map_err(|error| (Some(id), error))
}

fn change(document: BatchDocument, limit: usize) -> Result<DocumentChange, ApiError> {
    let BatchDocument {
        id,
        content,
        delete,
        media_type,
        uri,
        metadata,
    } = document;
    check_id(&id).map_err(|reason| ApiError::field("id", reason))?;
    let put = match (content, delete) {
        (Some(content), false) if content.len() > limit => {
            let message = format!(
                "content: {} bytes are more than the {limit} that a document may have: split it",
                content.len()
            );
            let (status, code) = (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
            return Err(ApiError::new(status, code, message).at("content"));
        }
        (Some(content), false) => {
            if let Some(uri) = &uri {
                check_uri("uri", uri)?;
            }
            check_metadata("metadata", &metadata)?;
            Some(NewDocument {
                content: content.into(),
                media_type,
                uri,
                metadata,
            })
        }
        (None, true) if media_type.is_none() && uri.is_none() && metadata.is_empty() => None,
        (None, true) => {
            let reason =
                "it stands with mediaType, uri or metadata: a document that is deleted has none";
            return Err(ApiError::field("delete", reason));
        }
        (Some(_), true) => {
            return Err(ApiError::field(
                "delete",
                "it stands with content: give one of the two",
            ));
        }
        (None, false) => {
            return Err(ApiError::field(
                "content",
                "missing: give it, or \"delete\": true",
            ));
        }
    };
    Ok(DocumentChange {
        id,
        put,
        condition: Condition::Always,
    })
}

/// Writes what can be written, and says what became of each.
pub(super) async fn write(place: &Place, items: Vec<Item>) -> Result<Response, ApiError> {
    let (mut answers, mut changes, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item {
            Ok(change) => {
                asked.push((answers.len(), change.id.clone(), change.put.is_some()));
                changes.push(change);
                answers.push(None);
            }
            Err((id, error)) => answers.push(Some(wrong(id, error))),
        }
    }
    let written = match changes.is_empty() {
        true => Vec::new(),
        false => {
            let written = place.documents.write(&place.at, changes).await;
            written.map_err(failed)?
        }
    };
    for ((at, id, puts), written) in asked.into_iter().zip(written) {
        let item = match written {
            Ok(written) => BatchItem {
                document: Some(id),
                status: status(&written, puts).as_u16(),
                version: written.version.map(|v| v.to_string()),
                changed: written.changed(),
                error: None,
            },
            Err(refusal) => wrong(Some(id), refused(refusal)),
        };
        if let Some(slot) = answers.get_mut(at) {
            *slot = Some(item);
        }
    }
    let items: Vec<BatchItem> = answers.into_iter().flatten().collect();
    let refused = items.iter().filter(|item| item.error.is_some()).count() as u64;
    let later = StatusCode::TOO_MANY_REQUESTS.as_u16();
    let later = items.iter().any(|item| item.status == later);
    let body = BatchAnswer {
        accepted: items.len() as u64 - refused,
        refused,
        items,
    };
    let mut response = Json(body).into_response();
    if later {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

fn wrong(document: Option<String>, error: ApiError) -> BatchItem {
    BatchItem {
        document,
        status: error.status().as_u16(),
        version: None,
        changed: false,
        error: Some(error.into_body().error),
    }
}

fn invalid(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_document_costs_no_other() {
        let body = "{\"id\": \"a\", \"content\": \"x\"}\n\nnot json\n{\"id\": \"../b\", \"content\": \"x\"}\n\
                    {\"id\": \"c\"}\n{\"id\": \"d\", \"content\": \"x\", \"delete\": true}\n\
                    {\"id\": \"e\", \"contents\": \"x\"}\n{\"id\": \"f\", \"content\": \"long text\"}\n\
                    {\"id\": \"g\", \"delete\": true, \"uri\": \"https://a.example/\"}\n{\"id\": \"h\", \"delete\": true}";
        let items = read(Form::Lines, body.as_bytes(), 5).unwrap();
        let told: Vec<(Option<&str>, u16)> = items
            .iter()
            .map(|item| match item {
                Ok(change) => (Some(change.id.as_str()), 200),
                Err((id, error)) => (id.as_deref(), error.status().as_u16()),
            })
            .collect();
        assert_eq!(
            told,
            [
                (Some("a"), 200),
                (None, 400),
                (Some("../b"), 400),
                (Some("c"), 400),
                (Some("d"), 400),
                (Some("e"), 400),
                (Some("f"), 413),
                (Some("g"), 400),
                (Some("h"), 200),
            ]
        );
        let (_, line) = items.into_iter().nth(1).unwrap().unwrap_err();
        assert!(line.into_body().error.message.contains("line 3"));
    }

    #[test]
    fn a_body_that_is_no_batch_is_refused_whole() {
        let status = |form, body: &str| read(form, body.as_bytes(), 5).unwrap_err().status();
        assert_eq!(
            status(Form::List, "{\"id\": \"a\"}"),
            StatusCode::BAD_REQUEST
        );
        assert_eq!(status(Form::List, "[]"), StatusCode::BAD_REQUEST);
        assert_eq!(status(Form::Lines, "\n\n"), StatusCode::BAD_REQUEST);
        let nested = format!(
            "[{}, 7 , {{\"id\": \"a\", \"delete\": true}} ]",
            "[".repeat(9) + &"]".repeat(9)
        );
        let items = read(Form::List, nested.as_bytes(), 5).unwrap();
        assert!(
            matches!(&items[..], [Err(_), Err(_), Ok(a)] if a.id == "a"),
            "{items:?}"
        );
        let many = format!("[{}]", vec!["{}"; MAX_BATCH_DOCUMENTS + 1].join(","));
        assert_eq!(status(Form::List, &many), StatusCode::PAYLOAD_TOO_LARGE);
        for (kind, form) in [
            (Some("application/json"), Some(Form::List)),
            (Some("application/x-ndjson"), Some(Form::Lines)),
            (Some("text/plain"), None),
            (None, None),
        ] {
            assert_eq!(Form::of(kind).ok(), form, "{kind:?}");
        }
    }
}
