//! The OpenAPI document.

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{chat, documents, embeddings, mcp, retrieve, status};

#[derive(OpenApi)]
#[openapi(
    info(title = "Loci Recall", description = "Passages with citations from the release that serves, chats over them, the embedder behind them, and documents for sources of type push."),
    paths(
        retrieve::retrieve,
        chat::completions,
        embeddings::embeddings,
        documents::put,
        documents::delete,
        documents::document,
        documents::batch,
        documents::source,
        mcp::mcp,
        status::models,
        status::healthz,
        status::readyz,
        status::metrics,
        document
    ),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", scheme);
    }
}

/// The OpenAPI document of the routes, as indented JSON: what `/openapi.json` answers.
pub fn openapi() -> String {
    // Maps with string keys, strings and numbers: JSON cannot fail on them.
    serde_json::to_string_pretty(&Document::openapi()).unwrap_or_default()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "status", operation_id = "openapi",
    responses((status = 200, body = Object, description = "The OpenAPI document")))]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi())
}
