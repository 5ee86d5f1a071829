//! A model hub with a model or two, so that hf:// works without a network.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use loci_digest::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::root;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The model, by the reference that a pipeline gives.
pub const MODEL: &str = "hf://org/tiny@main";
/// A model to train adapters of, of random weights.
pub const DECODER: &str = "hf://org/decoder@main";

/// The model that a vLLM of `make test-vllm` serves, where there is one.
pub const SERVED: &str = "hf://org/served@main";

/// A model, and the directory with its files.
#[derive(Clone, Debug)]
pub struct Model {
    /// `org/name`; its revision is `main`.
    pub name: String,
    /// Its files.
    pub directory: PathBuf,
}

impl Model {
    /// The smallest, which [`MODEL`] means.
    fn tiny() -> Self {
        Self {
            name: "org/tiny".to_owned(),
            directory: root().join("models/tests/reference/tiny"),
        }
    }

    /// The smallest that writes, which [`DECODER`] means.
    fn decoder() -> Self {
        Self {
            name: "org/decoder".to_owned(),
            directory: root().join("models/tests/reference/decoder/tiny"),
        }
    }

    /// That which [`SERVED`] means: `make test-vllm` says where it is.
    fn served() -> Option<Self> {
        let directory = PathBuf::from(std::env::var_os("LOCI_TEST_VLLM_MODEL")?);
        let name = "org/served".to_owned();
        Some(Self { name, directory })
    }

    /// That of the quickstart, where it is: `make model` puts it where `LOCI_TEST_MODEL` says.
    fn packaged() -> Option<Self> {
        let directory = PathBuf::from(std::env::var_os("LOCI_TEST_MODEL")?);
        let name = "sentence-transformers/all-MiniLM-L6-v2".to_owned();
        directory.is_dir().then_some(Self { name, directory })
    }

    /// Path and size of each file below a folder, which is empty or ends with a slash.
    fn files(&self, folder: &str) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(self.directory.join(folder)).unwrap();
        let of = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match path.is_dir() {
                true => self.files(&format!("{folder}{name}/")),
                false => vec![(format!("{folder}{name}"), path.metadata().unwrap().len())],
            }
        };
        entries.flat_map(of).collect()
    }

    /// Answers on `listener` until the process ends.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        axum::serve(listener, self.routes()).await
    }

    fn routes(self) -> Router {
        let name = &self.name;
        Router::new()
            .route(
                &format!("/api/models/{name}/revision/{{revision}}"),
                get(commit),
            )
            .route(&format!("/api/models/{name}/tree/{COMMIT}"), get(tree))
            .route(&format!("/{name}/resolve/{COMMIT}/{{*path}}"), get(file))
            .with_state(Arc::new(self))
    }
}

/// Serves the models of tests on loopback until the process ends; gives the address.
pub async fn serve() -> String {
    serve_on("127.0.0.1".parse().unwrap()).await
}

/// Serves them until the process ends, on a port of this address.
pub async fn serve_on(address: IpAddr) -> String {
    let listener = TcpListener::bind(SocketAddr::new(address, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let mut routes = Model::tiny().routes().merge(Model::decoder().routes());
    for model in [Model::packaged(), Model::served()].into_iter().flatten() {
        routes = routes.merge(model.routes());
    }
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

async fn commit(State(model): State<Arc<Model>>, UrlPath(revision): UrlPath<String>) -> Response {
    match revision.as_str() {
        "main" => Json(json!({"id": model.name, "sha": COMMIT})).into_response(),
        _ => {
            let code = [("x-error-code", "RevisionNotFound")];
            (StatusCode::NOT_FOUND, code).into_response()
        }
    }
}

async fn tree(State(model): State<Arc<Model>>) -> Json<Vec<Value>> {
    let entry = |(path, size): (String, u64)| json!({"type": "file", "oid": "0".repeat(40), "size": size, "path": path});
    Json(model.files("").into_iter().map(entry).collect())
}

async fn file(State(model): State<Arc<Model>>, UrlPath(path): UrlPath<String>) -> Response {
    if !model.files("").iter().any(|(known, _)| *known == path) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let content = tokio::fs::read(model.directory.join(&path)).await.unwrap();
    let etag = format!("\"{}\"", &Digest::of(&content).to_hex()[..40]);
    Response::builder()
        .header("x-repo-commit", COMMIT)
        .header("etag", etag)
        .body(Body::from(content))
        .unwrap()
}
