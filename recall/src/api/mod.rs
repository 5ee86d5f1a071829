//! The routes.

mod base64;
mod body;
mod chat;
pub(crate) mod documents;
mod embeddings;
pub(crate) mod error;
pub(crate) mod mcp;
pub(crate) mod openapi;
mod retrieve;
mod status;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};

use crate::recall::Recall;
use crate::release::Loaded;
use error::ApiError;

/// Names the release that an answer comes from.
const RELEASE: HeaderName = HeaderName::from_static("loci-release");

/// Routes that need no token: what probes and client generators read.
pub(crate) const OPEN_ROUTES: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Routes for tokens with a filter: those that give no passages, and those that give what the filter passes. All others,
/// also those to come, are closed to them.
pub(crate) const FILTERED_ROUTES: [&str; 5] = [
    "/v1/retrieve",
    "/mcp",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/models",
];

fn routes() -> Vec<(&'static str, MethodRouter<Recall>)> {
    vec![
        ("/v1/retrieve", post(retrieve::retrieve)),
        ("/v1/chat/completions", post(chat::completions)),
        ("/v1/embeddings", post(embeddings::embeddings)),
        (
            "/v1/documents/{source}",
            get(documents::source).post(documents::batch),
        ),
        (
            "/v1/documents/{source}/{*document}",
            get(documents::document)
                .put(documents::put)
                .delete(documents::delete),
        ),
        ("/mcp", post(mcp::mcp)),
        ("/v1/models", get(status::models)),
        ("/healthz", get(status::healthz)),
        ("/readyz", get(status::readyz)),
        ("/metrics", get(status::metrics)),
        ("/openapi.json", get(openapi::document)),
    ]
}

/// All routes, and JSON errors for what is none.
pub(crate) fn router(recall: Recall) -> Router {
    let router = routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        });
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(recall)
}

async fn unknown_route(request: Request) -> ApiError {
    let routes: Vec<&str> = routes().iter().map(|(path, _)| *path).collect();
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown_route",
        format!("there is no {path}; there are {}", routes.join(", ")),
    )
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{path} does not take {method}: the Allow header has what it takes"),
    )
}

/// The result of `work` within `limit`, 504 otherwise.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(ApiError::overdue(limit)))
}

/// Adds the header that names the release.
fn from_release(loaded: &Loaded, mut response: Response) -> Response {
    if let Ok(release) = HeaderValue::from_str(&loaded.release) {
        response.headers_mut().insert(RELEASE, release);
    }
    response
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        let document: serde_json::Value = serde_json::from_str(&openapi::openapi()).unwrap();
        let documented: BTreeSet<&str> = document["paths"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let paths: Vec<String> = routes()
            .iter()
            .map(|(path, _)| path.replace("{*", "{"))
            .collect();
        assert_eq!(documented, paths.iter().map(String::as_str).collect());
        for (name, known) in [
            ("RetrieveRequest", retrieve::FIELDS.as_slice()),
            ("EmbeddingsRequest", &embeddings::FIELDS),
            ("ChatRequest", &chat::request::FIELDS),
        ] {
            let properties = document["components"]["schemas"][name]["properties"]
                .as_object()
                .unwrap();
            let properties: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(properties, known.iter().copied().collect(), "{name}");
        }
    }
}
