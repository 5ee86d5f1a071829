//! What probes, Prometheus and clients ask about the server itself.

use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use crate::recall::Recall;
use crate::release::Loaded;
use crate::wire::{ErrorBody, Model, ModelList, Readiness};

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "status", operation_id = "healthz",
    responses((status = 200, body = String, content_type = "text/plain", description = "`ok`")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether every declared pipeline serves.
#[utoipa::path(get, path = "/readyz", tag = "status", operation_id = "readyz",
    responses(
        (status = 200, body = Readiness, description = "Every declared pipeline serves"),
        (status = 503, body = Readiness, description = "Some do not serve yet; `missing` names them"),
    ))]
pub(super) async fn readyz(State(recall): State<Recall>) -> Response {
    let missing = recall.missing();
    let ready = missing.is_empty();
    let serving = recall
        .serving()
        .into_iter()
        .map(|s| (s.pipeline, s.release))
        .collect();
    let answer = Json(Readiness {
        ready,
        serving,
        missing,
    });
    if ready {
        return answer.into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "1")],
        answer,
    )
        .into_response()
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "status", operation_id = "metrics", security(("bearer" = [])),
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text", description = "OpenMetrics text; names begin with `loci_`"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 403, body = ErrorBody, description = "A token with a filter: the numbers are of all"),
    ))]
pub(super) async fn metrics(State(recall): State<Recall>) -> Result<Response, ApiError> {
    let text = recall.metrics().text().map_err(ApiError::internal)?;
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What `/v1/embeddings` and `/v1/chat/completions` can be asked for.
#[utoipa::path(get, path = "/v1/models", tag = "recall", operation_id = "models", security(("bearer" = [])),
    responses(
        (status = 200, body = ModelList, description = "One for each pipeline that serves, and one for each of its adapters"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
    ))]
pub(super) async fn models(State(recall): State<Recall>) -> Json<ModelList> {
    let releases = recall.releases();
    Json(ModelList {
        object: "list".to_owned(),
        data: releases.values().flat_map(|loaded| named(loaded)).collect(),
    })
}

/// What a release answers by which names.
fn named(loaded: &Loaded) -> Vec<Model> {
    let since = loaded.since.duration_since(UNIX_EPOCH);
    let pipeline = Model {
        id: loaded.pipeline.clone(),
        object: "model".to_owned(),
        created: since.map_or(0, |since| since.as_secs()),
        owned_by: "loci".to_owned(),
        release: loaded.release.clone(),
        dimensions: Some(loaded.engine.dimensions() as u64),
        chat: loaded.chat.is_some(),
        adapter: None,
    };
    let adapters = loaded.chat.iter();
    let adapters = adapters.flat_map(|chat| chat.models(&loaded.pipeline));
    let mut models: Vec<Model> = adapters
        .map(|(id, pinned)| Model {
            id,
            dimensions: None,
            adapter: Some(pinned),
            ..pipeline.clone()
        })
        .collect();
    models.insert(0, pipeline);
    models
}
