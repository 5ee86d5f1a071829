//! `POST /mcp`: passages for hosts of the Model Context Protocol, by one tool.
//!
//! The same tool is served on standard input and output ([`stdio`]), for another process's releases.

mod arguments;
mod handler;
mod text;
mod tool;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService, stdio_pipes};
use serde_json::{Map, Value};

use super::body::{self, Fields};
use super::error::ApiError;
use super::{retrieve, within};
use crate::auth::Access;
use crate::error::RecallError;
use crate::recall::Recall;
use crate::wire::{ErrorBody, MAX_BODY_BYTES, RetrieveResponse};
use handler::Handler;

/// Web pages that may ask: those of this machine. No other has business here, and the protocol wants a page that has
/// rebound its own name refused.
const ORIGINS: [&str; 6] = [
    "http://localhost:*",
    "http://127.0.0.1:*",
    "http://[::1]:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
    "https://[::1]:*",
];

/// What the tool asks.
pub trait Retriever: Send + Sync + 'static {
    /// The answer to a request with these fields of [`RetrieveRequest`](crate::wire::RetrieveRequest).
    fn retrieve(
        &self,
        fields: Map<String, Value>,
    ) -> impl Future<Output = Result<RetrieveResponse, NoAnswer>> + Send;
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// What, why and the way out; begins with the offending field, if there is one.
    pub message: String,
    /// The offending field.
    pub param: Option<String>,
}

impl From<ApiError> for NoAnswer {
    fn from(error: ApiError) -> Self {
        let error = error.into_body().error;
        Self {
            message: error.message,
            param: error.param,
        }
    }
}

/// The releases of this process, for whom a token lets ask.
struct Here(Recall, Access);

impl Retriever for Here {
    async fn retrieve(&self, fields: Map<String, Value>) -> Result<RetrieveResponse, NoAnswer> {
        let answer = async {
            let fields = Fields::of(fields, &retrieve::FIELDS)?;
            retrieve::answer(&self.0, self.1.clone(), fields).await
        };
        let (_, response) = within(self.0.options().request_timeout, answer).await?;
        Ok(response)
    }
}

/// The Model Context Protocol over streamable HTTP: each request by itself, without sessions, answered with JSON.
#[utoipa::path(
    post, path = "/mcp", tag = "recall", operation_id = "mcp", security(("bearer" = [])),
    request_body(content = Object, description = "A JSON-RPC message of the Model Context Protocol"),
    responses(
        (status = 200, body = Object, description = "The JSON-RPC answer; errors of the tool are results with `isError`"),
        (status = 202, description = "A notification was taken"),
        (status = 400, description = "A JSON-RPC error: headers and message do not agree, or the protocol's version is unknown"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "Asked by a web page of another machine"),
        (status = 406, description = "The Accept header lacks application/json or text/event-stream"),
        (status = 413, body = ErrorBody, description = "The body is too long"),
        (status = 415, description = "The body is no JSON-RPC message, or not JSON by its Content-Type"),
        (status = 504, body = ErrorBody, description = "The body took too long"),
    )
)]
pub(super) async fn mcp(
    State(recall): State<Recall>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let whole = body::read(Request::from_parts(parts.clone(), body), MAX_BODY_BYTES);
    let body = within(recall.options().request_timeout, whole).await?;
    // Whether the Host header must be loopback was decided when the request was let in.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_BODY_BYTES)
        .disable_allowed_hosts()
        .with_allowed_origins(ORIGINS);
    let service = StreamableHttpService::new(
        move || Ok(Handler::new(Here(recall.clone(), access.clone()))),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let request = Request::from_parts(parts, Body::from(body));
    let response = service.handle(request).await;
    if response.status() == StatusCode::FORBIDDEN {
        return Err(foreign_origin());
    }
    Ok(response.map(Body::new).into_response())
}

fn foreign_origin() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "the Origin header does not name this machine's loopback: web pages of other machines are not answered; ask from a server, without the header",
    )
}

/// Serves the tool on standard input and output until the input ends.
///
/// # Errors
/// [`RecallError::Mcp`] when the other side does not speak the protocol.
pub async fn stdio(retriever: impl Retriever) -> Result<(), RecallError> {
    let running = match Handler::new(retriever).serve(stdio_pipes()).await {
        Ok(running) => running,
        // A host that wanted no more than to know who is here.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(RecallError::Mcp(error.to_string())),
    };
    let ended = running.waiting().await;
    ended.map_err(|e| RecallError::Mcp(e.to_string()))?;
    Ok(())
}
