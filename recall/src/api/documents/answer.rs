//! Answers about documents.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loci_digest::Digest;
use loci_push::{Refused, Written};

use super::super::error::ApiError;
use super::place::Place;
use crate::documents::{DocumentChange, DocumentsError, Refusal, SourceSummary, Standing};
use crate::wire::{DocumentPhase, DocumentState, DocumentWritten, SourceState};

/// Makes one change.
pub(super) async fn written(place: &Place, change: DocumentChange) -> Result<Response, ApiError> {
    let (id, puts) = (change.id.clone(), change.put.is_some());
    let answers = place.documents.write(&place.at, vec![change]).await;
    let answer = answers.map_err(failed)?.into_iter().next();
    let answer = answer.ok_or_else(|| ApiError::internal("a change without an answer"))?;
    let written = answer.map_err(refused)?;
    let status = status(&written, puts);
    let body = DocumentWritten {
        pipeline: place.at.pipeline.clone(),
        source: place.at.source.clone(),
        document: id,
        version: written.version.map(|v| v.to_string()),
        changed: written.changed(),
    };
    let response = (status, Json(body)).into_response();
    Ok(tagged(response, written.version))
}

/// 201 for a document that is new.
pub(super) fn status(written: &Written, puts: bool) -> StatusCode {
    match puts && written.before.is_none() {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    }
}

/// How far a document is.
pub(super) async fn state(place: &Place, id: String) -> Result<Response, ApiError> {
    let found = place.documents.document(&place.at, &id).await;
    let Standing {
        document,
        version,
        release,
        served,
    } = found.map_err(failed)?;
    let state = match (version, served) {
        (None, None) => {
            let message = format!("document: {} has no document \"{id}\"", place.at.source);
            let error = ApiError::new(StatusCode::NOT_FOUND, "unknown_document", message);
            return Err(error.at("document"));
        }
        (None, Some(_)) => DocumentPhase::Deleting,
        (Some(version), Some(served)) if version == served => DocumentPhase::Served,
        (Some(_), _) => DocumentPhase::Pending,
    };
    let text = |digest: Digest| digest.to_string();
    let body = DocumentState {
        pipeline: place.at.pipeline.clone(),
        source: place.at.source.clone(),
        document: id,
        state,
        version: version.map(text),
        content: document.as_ref().map(|d| d.content.to_string()),
        bytes: document.as_ref().map(|d| d.bytes),
        media_type: document.as_ref().map(|d| d.media_type.clone()),
        uri: document.as_ref().and_then(|d| d.uri.clone()),
        metadata: document.map(|d| d.metadata).unwrap_or_default(),
        release,
        served: served.map(text),
    };
    Ok(tagged(Json(body).into_response(), version))
}

/// A source in numbers.
pub(super) async fn summary(place: &Place) -> Result<SourceState, ApiError> {
    let found = place.documents.summary(&place.at).await;
    let SourceSummary {
        documents,
        pending,
        max_documents,
        max_pending,
        release,
    } = found.map_err(failed)?;
    Ok(SourceState {
        pipeline: place.at.pipeline.clone(),
        source: place.at.source.clone(),
        documents: documents as u64,
        pending: pending as u64,
        max_documents: max_documents as u64,
        max_document_bytes: place.at.max_document_bytes as u64,
        max_pending: max_pending as u64,
        release,
    })
}

/// Adds the version as entity tag.
fn tagged(mut response: Response, version: Option<Digest>) -> Response {
    let tag = version.and_then(|v| HeaderValue::from_str(&format!("\"{v}\"")).ok());
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The error for a change that is refused.
pub(super) fn refused(refusal: Refusal) -> ApiError {
    let (status, code) = match &refusal {
        Refusal::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
        Refusal::Unreadable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unreadable_document"),
        Refusal::Log(Refused::Condition { .. }) => {
            (StatusCode::PRECONDITION_FAILED, "precondition_failed")
        }
        Refusal::Log(Refused::Backlog { .. }) => (StatusCode::TOO_MANY_REQUESTS, "backlog_full"),
        Refusal::Log(Refused::Documents { .. }) => (StatusCode::CONFLICT, "source_full"),
    };
    ApiError::new(status, code, refusal.to_string())
}

/// The error when nothing is known of a request.
pub(super) fn failed(error: DocumentsError) -> ApiError {
    tracing::warn!("documents: {error}");
    let (status, code) = match &error {
        DocumentsError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage"),
        DocumentsError::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "documents_unavailable")
        }
    };
    ApiError::new(status, code, error.to_string())
}
