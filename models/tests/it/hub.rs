//! Fetching from a hub on loopback that answers as huggingface.co does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use loci_digest::Digest;
use loci_models::{HubOptions, ModelError, ModelRef, fetch, fetch_tokenizer};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{load, reference};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The hub's files, and what it was asked.
#[derive(Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// SHA-256 published for files in LFS.
    lfs: BTreeMap<String, String>,
    /// A file whose content is denied, though it is listed.
    denied: Option<&'static str>,
    asked: Mutex<Vec<String>>,
    tokens: Mutex<Vec<String>>,
}

impl Hub {
    fn tiny() -> Self {
        let mut hub = Self::default();
        for name in [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
        ] {
            hub.files
                .insert(name.into(), fs::read(reference("tiny").join(name)).unwrap());
        }
        hub.lfs.insert(
            "model.safetensors".into(),
            Digest::of(&hub.files["model.safetensors"]).to_hex(),
        );
        for name in [
            "README.md",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "../escaped.json",
        ] {
            hub.files.insert(name.into(), b"not to be fetched".to_vec());
        }
        hub
    }

    fn note(&self, what: &str, headers: &HeaderMap) {
        self.asked.lock().unwrap().push(what.to_owned());
        let token = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        self.tokens.lock().unwrap().extend(token);
    }
}

async fn info(
    State(hub): State<Arc<Hub>>,
    UrlPath(revision): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    hub.note(&format!("info {revision}"), &headers);
    match revision.as_str() {
        "main" => axum::Json(json!({"id": "org/tiny", "sha": COMMIT})).into_response(),
        _ => (
            StatusCode::NOT_FOUND,
            [("x-error-code", "RevisionNotFound")],
        )
            .into_response(),
    }
}

async fn tree(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    hub.note("tree", &headers);
    let files = hub.files.iter().map(|(path, content)| {
        let lfs = hub.lfs.get(path).map(|oid| json!({"oid": oid, "size": content.len(), "pointerSize": 134}));
        json!({"type": "file", "oid": "0".repeat(40), "size": content.len(), "path": path, "lfs": lfs})
    });
    let folder = json!({"type": "directory", "oid": "0".repeat(40), "size": 0, "path": "onnx"});
    axum::Json(files.chain([folder]).collect::<Vec<_>>()).into_response()
}

async fn file(
    State(hub): State<Arc<Hub>>,
    UrlPath(path): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    hub.note(&path, &headers);
    if method == Method::GET && hub.denied == Some(path.as_str()) {
        return (StatusCode::FORBIDDEN, "denied").into_response();
    }
    let Some(content) = hub.files.get(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let response = Response::builder().header("x-repo-commit", COMMIT);
    let response = match hub.lfs.get(&path) {
        // As the real hub: its answer describes the file, whose content is elsewhere.
        Some(sha256) => {
            let location = format!("http://{}/cdn/{path}", headers["host"].to_str().unwrap());
            let response = response
                .status(StatusCode::FOUND)
                .header("location", location);
            let response = response.header("x-linked-size", content.len());
            return response
                .header("x-linked-etag", format!("\"{sha256}\""))
                .body(Body::empty())
                .unwrap();
        }
        None => response.header(
            "etag",
            format!("\"{}\"", &Digest::of(content).to_hex()[..40]),
        ),
    };
    response.body(Body::from(content.clone())).unwrap()
}

async fn content(State(hub): State<Arc<Hub>>, UrlPath(path): UrlPath<String>) -> Response {
    Response::builder()
        .header("etag", "\"cdn\"")
        .body(Body::from(hub.files[&path].clone()))
        .unwrap()
}

/// A running hub with an empty cache before it.
struct Served {
    hub: Arc<Hub>,
    server: JoinHandle<()>,
    options: HubOptions,
    _cache: TempDir,
}

impl Served {
    async fn start(hub: Hub) -> Self {
        let hub = Arc::new(hub);
        let router = Router::new()
            .route("/api/models/org/tiny/revision/{revision}", get(info))
            .route(&format!("/api/models/org/tiny/tree/{COMMIT}"), get(tree))
            .route(&format!("/org/tiny/resolve/{COMMIT}/{{*path}}"), get(file))
            .route("/cdn/{*path}", get(content))
            .with_state(hub.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let cache = tempfile::tempdir().unwrap();
        let options = HubOptions {
            cache: cache.path().to_owned(),
            endpoint: Some(format!("http://{address}").parse().unwrap()),
            token: Some("hf_secret".to_owned()),
        };
        Self {
            hub,
            server,
            options,
            _cache: cache,
        }
    }

    async fn fetch(&self, revision: &str) -> Result<std::path::PathBuf, ModelError> {
        let model: ModelRef = format!("hf://org/tiny@{revision}").parse().unwrap();
        fetch(&model, &self.options).await
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.hub.asked.lock().unwrap())
    }

    async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::write(fs::canonicalize(path).unwrap(), content).unwrap();
}

#[tokio::test]
async fn a_model_is_fetched_once_and_loads() {
    let mut served = Served::start(Hub::tiny()).await;
    let dir = served.fetch(COMMIT).await.unwrap();
    assert_eq!(load(&dir).identity(), load(&reference("tiny")).identity());
    let asked = served.asked();
    assert!(asked.iter().any(|what| what == "model.safetensors"));
    for other in [
        "README.md",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "../escaped.json",
    ] {
        assert!(
            !asked.iter().any(|what| what == other),
            "{other} was fetched"
        );
    }
    assert!(
        served
            .hub
            .tokens
            .lock()
            .unwrap()
            .iter()
            .all(|token| token == "Bearer hf_secret")
    );
    assert!(!served.hub.tokens.lock().unwrap().is_empty());
    served.stop().await;
    assert_eq!(served.fetch(COMMIT).await.unwrap(), dir);
    assert_eq!(served.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_tokenizer_is_fetched_without_its_model() {
    let mut served = Served::start(Hub::tiny()).await;
    let model: ModelRef = format!("hf://org/tiny@{COMMIT}").parse().unwrap();
    let dir = fetch_tokenizer(&model, &served.options).await.unwrap();
    assert!(dir.join("tokenizer.json").exists());
    let asked = served.asked();
    assert!(!asked.iter().any(|what| what == "model.safetensors"));
    // It is no whole model for that.
    assert_eq!(served.fetch(COMMIT).await.unwrap(), dir);
    assert!(
        served
            .asked()
            .iter()
            .any(|what| what == "model.safetensors")
    );
    served.stop().await;
    assert_eq!(fetch_tokenizer(&model, &served.options).await.unwrap(), dir);
}

#[tokio::test]
async fn a_branch_follows_the_hub_and_stays_while_it_is_away() {
    let mut served = Served::start(Hub::tiny()).await;
    let dir = served.fetch("main").await.unwrap();
    assert!(dir.ends_with(COMMIT));
    served.asked();
    assert_eq!(served.fetch("main").await.unwrap(), dir);
    assert_eq!(served.asked(), ["info main"]);
    let unknown = served.fetch("v9").await.unwrap_err().to_string();
    assert!(
        unknown.contains("hf://org/tiny@v9") && unknown.contains("Revision not found"),
        "{unknown}"
    );
    served.stop().await;
    assert_eq!(served.fetch("main").await.unwrap(), dir);
    let unknown = served.fetch("v9").await.unwrap_err();
    assert!(matches!(unknown, ModelError::Hub { .. }), "{unknown}");
}

#[tokio::test]
async fn damage_on_disk_is_found_and_repaired_only_by_the_hub() {
    let mut served = Served::start(Hub::tiny()).await;
    let dir = served.fetch(COMMIT).await.unwrap();
    let whole = fs::read(dir.join("model.safetensors")).unwrap();
    let mut damaged = whole.clone();
    damaged[50_000] ^= 1;
    served.asked();
    for content in [damaged.as_slice(), &whole[..1000]] {
        overwrite(&dir.join("model.safetensors"), content);
        served.fetch(COMMIT).await.unwrap();
        assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), whole);
    }
    assert!(
        !served.asked().iter().any(|what| what == "tokenizer.json"),
        "intact files are not fetched again"
    );
    served.stop().await;
    overwrite(&dir.join("config.json"), b"{}");
    let error = served.fetch(COMMIT).await.unwrap_err();
    assert!(matches!(error, ModelError::Hub { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_what_was_published_is_never_used() {
    let mut hub = Hub::tiny();
    hub.files.get_mut("model.safetensors").unwrap()[50_000] ^= 1;
    let served = Served::start(hub).await;
    for _ in 0..2 {
        let error = served.fetch(COMMIT).await.unwrap_err();
        let ModelError::Checksum {
            path,
            expected,
            got,
        } = &error
        else {
            panic!("{error}")
        };
        assert!(path.ends_with("model.safetensors"));
        assert_eq!(*expected, served.hub.lfs["model.safetensors"]);
        assert_ne!(got, expected);
    }
}

#[tokio::test]
async fn an_error_answer_is_not_taken_for_the_file() {
    let mut hub = Hub::tiny();
    hub.denied = Some("config.json");
    let served = Served::start(hub).await;
    for _ in 0..2 {
        let error = served.fetch(COMMIT).await.unwrap_err().to_string();
        assert!(
            error.contains("config.json arrived with 6 bytes"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_repository_without_a_model_is_refused() {
    let mut hub = Hub::tiny();
    hub.files.retain(|name, _| name == "README.md");
    let served = Served::start(hub).await;
    let error = served.fetch(COMMIT).await.unwrap_err().to_string();
    assert!(error.contains("none of a model's files"), "{error}");
    let error = served
        .fetch(&COMMIT.replace('0', "f"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("404"), "{error}");
}

#[tokio::test]
async fn a_directory_is_taken_as_it_is() {
    let options = HubOptions {
        cache: "/nowhere".into(),
        endpoint: None,
        token: None,
    };
    let tiny = ModelRef::File(reference("tiny"));
    assert_eq!(fetch(&tiny, &options).await.unwrap(), reference("tiny"));
    let missing = fetch(&ModelRef::File(reference("absent")), &options)
        .await
        .unwrap_err();
    assert!(
        matches!(missing, ModelError::MissingFile { .. }),
        "{missing}"
    );
    let file = fetch(&ModelRef::File(reference("tiny/config.json")), &options)
        .await
        .unwrap_err()
        .to_string();
    assert!(file.contains("is a file"), "{file}");
}
