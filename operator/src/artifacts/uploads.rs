//! Where fetchers put what they read: a namespace's own part of the store, for who has its key.
//!
//! A namespace's fetcher puts content, and gets a receipt for it; it keeps snapshots that name nothing but content it has
//! receipts for, or that the snapshot before names; and it reads the snapshots that it has keys of. So no namespace reads
//! what is another's, even where it knows the digest.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use hmac::Mac;
use loci_digest::Digest;
use loci_shell::Uploads;
use loci_worker::source::Limits;
use loci_worker::step::{
    KeepRequest, KeptSnapshot, PutAnswer, SNAPSHOT_KEY, Shelf, Snapshot, SnapshotKey, StepError,
    Upload,
};
use tokio::sync::Semaphore;

use super::{Artifacts, Refusal, bearer};

/// The largest snapshot, as JSON.
const SNAPSHOT: usize = 128 << 20;
/// Uploads that are in memory at once, and how long one may take to arrive.
static ARRIVING: Semaphore = Semaphore::const_new(4);
const ARRIVAL: Duration = Duration::from_secs(120);

/// What a key or a receipt is of.
enum Of<'a> {
    Namespace(&'a str),
    Snapshot(&'a str, &'a Digest),
    Content(&'a str, &'a Digest),
}

impl Of<'_> {
    fn bytes(&self) -> Vec<u8> {
        let text = match self {
            Self::Namespace(namespace) => format!("loci/namespace/v1\n{namespace}"),
            Self::Snapshot(namespace, digest) => format!("loci/snapshot/v1\n{namespace}\n{digest}"),
            Self::Content(namespace, digest) => format!("loci/content/v1\n{namespace}\n{digest}"),
        };
        text.into_bytes()
    }
}

impl Artifacts {
    fn key_of(&self, of: &Of<'_>) -> String {
        hex::encode(self.mac(&of.bytes()).finalize().into_bytes())
    }

    fn fits(&self, of: &Of<'_>, key: Option<&str>) -> Result<(), Refused> {
        self.check(&of.bytes(), key).map_err(Refused::Plain)
    }

    fn kept(&self, namespace: &str, digest: Digest) -> KeptSnapshot {
        let key = self.key_of(&Of::Snapshot(namespace, &digest));
        KeptSnapshot { digest, key }
    }
}

impl Uploads for Artifacts {
    fn upload(&self, namespace: &str, snapshot: Option<&Digest>) -> Upload {
        let base = self.0.url.as_str().trim_end_matches('/');
        Upload {
            url: format!("{base}/v1/namespaces/{namespace}"),
            key: self.key_of(&Of::Namespace(namespace)),
            snapshot_key: snapshot.map(|digest| self.key_of(&Of::Snapshot(namespace, digest))),
        }
    }
}

pub(super) fn router() -> Router<Artifacts> {
    let at = |path: &str| format!("/v1/namespaces/{{namespace}}/{path}");
    Router::new()
        .route(&at("blobs"), put(blob))
        .route(&at("taken"), post(taken))
        .route(&at("snapshots"), post(keep))
        .route(&at("snapshots/{digest}"), get(snapshot))
        .route(&at("snapshots/{digest}/sources/{source}"), get(state))
        .layer(DefaultBodyLimit::disable())
}

/// Why a fetcher is not answered.
enum Refused {
    Plain(Refusal),
    Body(StatusCode, String),
    Step(StepError),
}

impl From<StepError> for Refused {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Store(error) => Self::Plain(error.into()),
            error => Self::Step(error),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Plain(refusal) => refusal.into_response(),
            Self::Body(code, why) => (code, why).into_response(),
            Self::Step(error) => {
                tracing::error!(%error, "a fetcher is not served");
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
            }
        }
    }
}

type Answer<T> = Result<T, Refused>;

/// A body of at most so many bytes, few of them at a time.
async fn arrive(body: Body, limit: usize) -> Answer<Bytes> {
    let refused = |why: &str| Refused::Body(StatusCode::BAD_REQUEST, why.to_owned());
    let _room = ARRIVING.acquire().await;
    let arrived = tokio::time::timeout(ARRIVAL, to_bytes(body, limit)).await;
    let arrived = arrived.map_err(|_| refused("the body takes too long to arrive"))?;
    arrived.map_err(|e| refused(&format!("the body cannot be read: {e}")))
}

fn json<T: serde::de::DeserializeOwned>(body: &Bytes) -> Answer<T> {
    let read = serde_json::from_slice(body);
    read.map_err(|e| Refused::Body(StatusCode::BAD_REQUEST, e.to_string()))
}

async fn blob(
    State(artifacts): State<Artifacts>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<PutAnswer>> {
    artifacts.fits(&Of::Namespace(&namespace), bearer(&headers))?;
    let limit = usize::try_from(Limits::default().max_document_bytes).unwrap_or(usize::MAX);
    let content = arrive(body, limit).await?;
    let stored = artifacts.0.store.put(content).await;
    let digest = stored.map_err(|e| Refused::Plain(e.into()))?;
    let receipt = artifacts.key_of(&Of::Content(&namespace, &digest));
    Ok(Json(PutAnswer { digest, receipt }))
}

/// A pipeline of the namespace.
fn of_namespace(key: &SnapshotKey, namespace: &str) -> Answer<()> {
    match key.pipeline.split_once('/') {
        Some((of, _)) if of == namespace => Ok(()),
        _ => Err(Refused::Plain(Refusal::Key)),
    }
}

async fn taken(
    State(artifacts): State<Artifacts>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Option<KeptSnapshot>>> {
    artifacts.fits(&Of::Namespace(&namespace), bearer(&headers))?;
    let key: SnapshotKey = json(&arrive(body, 64 << 10).await?)?;
    of_namespace(&key, &namespace)?;
    let found = artifacts.0.store.taken(&key).await?;
    Ok(Json(found.map(|digest| artifacts.kept(&namespace, digest))))
}

async fn keep(
    State(artifacts): State<Artifacts>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<KeptSnapshot>> {
    artifacts.fits(&Of::Namespace(&namespace), bearer(&headers))?;
    let request: KeepRequest = json(&arrive(body, SNAPSHOT).await?)?;
    of_namespace(&request.key, &namespace)?;
    let store = &artifacts.0.store;
    let mut known = HashSet::new();
    if let (Some(previous), Some(key)) = (&request.key.previous, &request.previous_key) {
        artifacts.fits(&Of::Snapshot(&namespace, previous), Some(key))?;
        let previous = Shelf::snapshot(store, previous).await?;
        known.extend(previous.iter().flat_map(Snapshot::contents).copied());
    }
    for content in request.snapshot.contents() {
        if !known.contains(content) {
            let receipt = request.receipts.get(content).map(String::as_str);
            artifacts.fits(&Of::Content(&namespace, content), receipt)?;
        }
    }
    let digest = store.keep(&request.key, &request.snapshot).await?;
    Ok(Json(artifacts.kept(&namespace, digest)))
}

/// The snapshot that is asked for, if the keys fit.
fn admit(
    artifacts: &Artifacts,
    namespace: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Answer<Digest> {
    artifacts.fits(&Of::Namespace(namespace), bearer(headers))?;
    let unknown = |_| Refused::Plain(Refusal::Unknown);
    let digest: Digest = digest.parse().map_err(unknown)?;
    let key = headers.get(SNAPSHOT_KEY).and_then(|key| key.to_str().ok());
    artifacts.fits(&Of::Snapshot(namespace, &digest), key)?;
    Ok(digest)
}

async fn snapshot(
    State(artifacts): State<Artifacts>,
    Path((namespace, digest)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Json<Snapshot>> {
    let digest = admit(&artifacts, &namespace, &digest, &headers)?;
    let found = Shelf::snapshot(&artifacts.0.store, &digest).await?;
    found.map(Json).ok_or(Refused::Plain(Refusal::Unknown))
}

async fn state(
    State(artifacts): State<Artifacts>,
    Path((namespace, digest, source)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let digest = admit(&artifacts, &namespace, &digest, &headers)?;
    let found = artifacts.0.store.state(&digest, &source).await?;
    let found = found.ok_or(Refused::Plain(Refusal::Unknown))?;
    Ok(Json(found).into_response())
}

#[cfg(test)]
mod tests;
