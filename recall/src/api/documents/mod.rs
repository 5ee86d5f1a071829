//! `/v1/documents`: documents that clients put into sources of type push, and delete.

mod answer;
mod batch;
mod head;
mod place;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::body;
use super::error::ApiError;
use super::within;
use crate::documents::{DocumentChange, NewDocument};
use crate::recall::Recall;
use crate::wire::{
    BatchAnswer, BatchDocument, DocumentState, DocumentWritten, ErrorBody, MAX_BATCH_BODY_BYTES,
    SourceState,
};
use place::{Pathed, Place, Queried};

/// Whether a path is that of documents.
pub(crate) fn is_below(path: &str) -> bool {
    let rest = path.strip_prefix("/v1/documents");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Puts a document: its bytes are the body. It is durable when this is answered, and found once a release has it, in seconds.
#[utoipa::path(
    put, path = "/v1/documents/{source}/{document}", tag = "documents", operation_id = "putDocument", security(("bearer" = [])),
    params(
        ("source" = String, Path, description = "A source of type push"),
        ("document" = String, Path, description = "The document's id; slashes may stand as they are"),
        ("pipeline" = Option<String>, Query, description = "The pipeline; may be absent where the source's name is clear"),
        ("content-type" = Option<String>, Header, description = "text/markdown, text/html, text/plain, application/x-ndjson, application/pdf or a type of Office Open XML; by the id's extension when absent"),
        ("loci-uri" = Option<String>, Header, description = "Where a person finds the document"),
        ("loci-metadata" = Option<String>, Header, description = "What is known about it: a JSON object of texts, in ASCII"),
        ("if-match" = Option<String>, Header, description = "Versions, one of which it must have; * for any"),
        ("if-none-match" = Option<String>, Header, description = "* when there must be no such document"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = DocumentWritten, description = "It was there, and is as it was put", headers(("etag" = String, description = "Its version"))),
        (status = 201, body = DocumentWritten, description = "It is new", headers(("etag" = String, description = "Its version"))),
        (status = 400, body = ErrorBody, description = "The id, a header or a parameter is refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "Nobody may write here, or not with this token"),
        (status = 404, body = ErrorBody, description = "There is no such push source; the message names those that there are"),
        (status = 409, body = ErrorBody, description = "The source holds as many documents as it may"),
        (status = 412, body = ErrorBody, description = "The condition does not hold"),
        (status = 413, body = ErrorBody, description = "The document is larger than the source takes"),
        (status = 415, body = ErrorBody, description = "Documents of this type are not read"),
        (status = 422, body = ErrorBody, description = "It is not what its type says, or has no text"),
        (status = 429, body = ErrorBody, description = "Too many changes wait to be indexed; send it again after Retry-After"),
        (status = 503, body = ErrorBody, description = "The store does not answer; send it again after Retry-After"),
        (status = 504, body = ErrorBody, description = "Took too long; it may have been written, and may be sent again"),
        (status = 507, body = ErrorBody, description = "The disk is full: nothing was accepted"),
    )
)]
pub(super) async fn put(
    State(recall): State<Recall>,
    path: Pathed<(String, String)>,
    query: Queried,
    request: Request,
) -> Result<Response, ApiError> {
    within(recall.options().request_timeout, async {
        let (place, id) = Place::of_document(&recall, path, query)?;
        let headers = request.headers();
        let condition = head::condition(headers)?;
        let media_type = body::content_type(headers).map(str::to_owned);
        let (uri, metadata) = (head::uri(headers)?, head::metadata(headers)?);
        let limit = place.at.max_document_bytes;
        let _room = place::room(&recall, headers, limit)?;
        let content = body::read_bytes(request, limit).await?;
        let put = Some(NewDocument {
            content,
            media_type,
            uri,
            metadata,
        });
        let change = DocumentChange { id, put, condition };
        answer::written(&place, change).await
    })
    .await
}

/// Deletes a document. It is no error when there is none.
#[utoipa::path(
    delete, path = "/v1/documents/{source}/{document}", tag = "documents", operation_id = "deleteDocument", security(("bearer" = [])),
    params(
        ("source" = String, Path, description = "A source of type push"),
        ("document" = String, Path, description = "The document's id"),
        ("pipeline" = Option<String>, Query, description = "The pipeline; may be absent where the source's name is clear"),
        ("if-match" = Option<String>, Header, description = "Versions, one of which it must have; * for any"),
    ),
    responses(
        (status = 200, body = DocumentWritten, description = "There is no such document now; `changed` says whether there was"),
        (status = 400, body = ErrorBody, description = "The id, a header or a parameter is refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "Nobody may write here, or not with this token"),
        (status = 404, body = ErrorBody, description = "There is no such push source; the message names those that there are"),
        (status = 412, body = ErrorBody, description = "The condition does not hold"),
        (status = 429, body = ErrorBody, description = "Too many changes wait to be indexed; send it again after Retry-After"),
        (status = 503, body = ErrorBody, description = "The store does not answer; send it again after Retry-After"),
        (status = 504, body = ErrorBody, description = "Took too long; it may have been deleted, and may be sent again"),
        (status = 507, body = ErrorBody, description = "The disk is full: nothing was accepted"),
    )
)]
pub(super) async fn delete(
    State(recall): State<Recall>,
    path: Pathed<(String, String)>,
    query: Queried,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    within(recall.options().request_timeout, async {
        let (place, id) = Place::of_document(&recall, path, query)?;
        let change = DocumentChange {
            id,
            put: None,
            condition: head::condition(&headers)?,
        };
        answer::written(&place, change).await
    })
    .await
}

/// How far a document is: pending, or in the release that serves.
#[utoipa::path(
    get, path = "/v1/documents/{source}/{document}", tag = "documents", operation_id = "documentState", security(("bearer" = [])),
    params(
        ("source" = String, Path, description = "A source of type push"),
        ("document" = String, Path, description = "The document's id"),
        ("pipeline" = Option<String>, Query, description = "The pipeline; may be absent where the source's name is clear"),
    ),
    responses(
        (status = 200, body = DocumentState, description = "The document, without its content", headers(("etag" = String, description = "Its version"))),
        (status = 400, body = ErrorBody, description = "The id or a parameter is refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "Nobody may write here, or not with this token"),
        (status = 404, body = ErrorBody, description = "There is no such push source, or no such document"),
        (status = 503, body = ErrorBody, description = "The store does not answer; ask again after Retry-After"),
    )
)]
pub(super) async fn document(
    State(recall): State<Recall>,
    path: Pathed<(String, String)>,
    query: Queried,
) -> Result<Response, ApiError> {
    within(recall.options().request_timeout, async {
        let (place, id) = Place::of_document(&recall, path, query)?;
        answer::state(&place, id).await
    })
    .await
}

/// Puts and deletes many documents: a JSON list, or one object a line. Those that are not refused are written together.
#[utoipa::path(
    post, path = "/v1/documents/{source}", tag = "documents", operation_id = "writeDocuments", security(("bearer" = [])),
    params(
        ("source" = String, Path, description = "A source of type push"),
        ("pipeline" = Option<String>, Query, description = "The pipeline; may be absent where the source's name is clear"),
    ),
    request_body(content((Vec<BatchDocument> = "application/json"), (BatchDocument = "application/x-ndjson")), description = "At most 1000 documents and 16 MiB"),
    responses(
        (status = 200, body = BatchAnswer, description = "What became of each"),
        (status = 400, body = ErrorBody, description = "The body is no list, or empty"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "Nobody may write here, or not with this token"),
        (status = 404, body = ErrorBody, description = "There is no such push source; the message names those that there are"),
        (status = 413, body = ErrorBody, description = "The body is too long, or has too many documents"),
        (status = 415, body = ErrorBody, description = "The body is not JSON by its Content-Type"),
        (status = 429, body = ErrorBody, description = "Too much is being received; send it again after Retry-After"),
        (status = 503, body = ErrorBody, description = "The store does not answer; send it again after Retry-After"),
        (status = 504, body = ErrorBody, description = "Took too long; it may have been written, and may be sent again"),
        (status = 507, body = ErrorBody, description = "The disk is full: nothing was accepted"),
    )
)]
pub(super) async fn batch(
    State(recall): State<Recall>,
    path: Pathed<String>,
    query: Queried,
    request: Request,
) -> Result<Response, ApiError> {
    within(recall.options().request_timeout, async {
        let place = Place::of_source(&recall, path, query)?;
        let headers = request.headers();
        let form = batch::Form::of(body::content_type(headers))?;
        let _room = place::room(&recall, headers, MAX_BATCH_BODY_BYTES)?;
        let body = body::read_bytes(request, MAX_BATCH_BODY_BYTES).await?;
        let items = batch::read(form, &body, place.at.max_document_bytes)?;
        batch::write(&place, items).await
    })
    .await
}

/// How many documents a source has, and how many of them wait.
#[utoipa::path(
    get, path = "/v1/documents/{source}", tag = "documents", operation_id = "documentSource", security(("bearer" = [])),
    params(
        ("source" = String, Path, description = "A source of type push"),
        ("pipeline" = Option<String>, Query, description = "The pipeline; may be absent where the source's name is clear"),
    ),
    responses(
        (status = 200, body = SourceState, description = "The source"),
        (status = 400, body = ErrorBody, description = "A parameter is refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "Nobody may write here, or not with this token"),
        (status = 404, body = ErrorBody, description = "There is no such push source; the message names those that there are"),
        (status = 503, body = ErrorBody, description = "The store does not answer; ask again after Retry-After"),
    )
)]
pub(super) async fn source(
    State(recall): State<Recall>,
    path: Pathed<String>,
    query: Queried,
) -> Result<Json<SourceState>, ApiError> {
    within(recall.options().request_timeout, async {
        let place = Place::of_source(&recall, path, query)?;
        answer::summary(&place).await.map(Json)
    })
    .await
}
