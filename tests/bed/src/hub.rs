//! A model hub on loopback with one small model, so that hf:// works without a network.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use loci_digest::Digest;
use serde_json::{Value, json};

use crate::root;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The model, by the reference that a pipeline gives.
pub const MODEL: &str = "hf://org/tiny@main";

type Files = Arc<BTreeMap<String, Vec<u8>>>;

/// Serves on loopback until the process ends; gives the address.
pub async fn serve() -> String {
    serve_on("127.0.0.1".parse().unwrap()).await
}

/// Serves until the process ends, on a port of this address.
pub async fn serve_on(address: std::net::IpAddr) -> String {
    let tiny = root().join("models/tests/reference/tiny");
    let files: Files = Arc::new(
        std::fs::read_dir(tiny)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| {
                (
                    e.file_name().into_string().unwrap(),
                    std::fs::read(e.path()).unwrap(),
                )
            })
            .collect(),
    );
    let router = Router::new()
        .route("/api/models/org/tiny/revision/{revision}", get(commit))
        .route(&format!("/api/models/org/tiny/tree/{COMMIT}"), get(tree))
        .route(&format!("/org/tiny/resolve/{COMMIT}/{{*path}}"), get(file))
        .with_state(files);
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn commit(UrlPath(revision): UrlPath<String>) -> Response {
    match revision.as_str() {
        "main" => Json(json!({"id": "org/tiny", "sha": COMMIT})).into_response(),
        _ => {
            let code = [("x-error-code", "RevisionNotFound")];
            (StatusCode::NOT_FOUND, code).into_response()
        }
    }
}

async fn tree(State(files): State<Files>) -> Json<Vec<Value>> {
    let entry = |(path, content): (&String, &Vec<u8>)| json!({"type": "file", "oid": "0".repeat(40), "size": content.len(), "path": path});
    Json(files.iter().map(entry).collect())
}

async fn file(State(files): State<Files>, UrlPath(path): UrlPath<String>) -> Response {
    let Some(content) = files.get(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    Response::builder()
        .header("x-repo-commit", COMMIT)
        .header(
            "etag",
            format!("\"{}\"", &Digest::of(content).to_hex()[..40]),
        )
        .body(Body::from(content.clone()))
        .unwrap()
}
