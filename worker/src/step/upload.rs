//! A shelf for one namespace, reached by HTTP: what a fetcher sees of the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use loci_digest::Digest;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Shelf, Snapshot, SnapshotKey, StepError};
use crate::source::{SinkError, SourceState};

/// How long the beginning of an answer is waited for, and longer for each mebibyte sent: of several operators another
/// answers when one is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
const FOR_EACH_MEBIBYTE: Duration = Duration::from_secs(1);
/// A listing is compared with the one before, and kept.
const KEEPING: Duration = Duration::from_secs(60);
/// How often a server that does not answer is asked, and the pause after the first time.
const ATTEMPTS: (u32, Duration) = (6, Duration::from_millis(200));

/// The header with the key to the snapshot that is asked for.
pub const SNAPSHOT_KEY: &str = "loci-snapshot-key";

/// Where a namespace's snapshots go, and the keys to there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The namespace's own part of the server.
    pub url: String,
    /// Lets in who asks there.
    pub key: String,
    /// Opens the one snapshot that the item names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_key: Option<String>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Content that was put, and a receipt for it: a snapshot may name it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutAnswer {
    /// Its digest.
    pub digest: Digest,
    /// The receipt.
    pub receipt: String,
}

/// A snapshot to keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeepRequest {
    /// What it was taken for.
    pub key: SnapshotKey,
    /// Opens the snapshot before.
    pub previous_key: Option<String>,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// A receipt for all content that the snapshot before does not name.
    pub receipts: HashMap<Digest, String>,
}

/// A snapshot that is kept, and what opens it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptSnapshot {
    /// The snapshot.
    pub digest: Digest,
    /// Its key.
    pub key: String,
}

/// The namespace's part of the store during one step.
pub(super) struct Uploads {
    http: Client,
    upload: Upload,
    /// Keys to snapshots.
    keys: Mutex<HashMap<Digest, String>>,
    /// Content of snapshots that were read.
    there: Mutex<HashSet<Digest>>,
    /// Content that was put.
    receipts: Mutex<HashMap<Digest, String>>,
}

impl Uploads {
    /// For an item that names `snapshot`.
    pub(super) fn new(http: Client, upload: Upload, snapshot: Option<Digest>) -> Self {
        let keys = snapshot.zip(upload.snapshot_key.clone());
        Self {
            http,
            upload,
            keys: Mutex::new(keys.into_iter().collect()),
            there: Mutex::default(),
            receipts: Mutex::default(),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/{path}", self.upload.url);
        self.http.request(method, url).bearer_auth(&self.upload.key)
    }

    /// The answer of a server that may have to be asked more than once, and begins to answer within `patience`; none when
    /// it has no such thing.
    async fn ask(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<Option<Response>, StepError> {
        let (attempts, mut pause) = ATTEMPTS;
        let refused = |why: String| StepError::Upload(format!("{}: {why}", self.upload.url));
        for left in (0..attempts).rev() {
            let attempt = request.try_clone();
            let attempt = attempt.ok_or_else(|| refused("cannot be asked twice".to_owned()))?;
            let why = match tokio::time::timeout(patience, attempt.send()).await {
                Ok(Ok(answer)) if answer.status().is_success() => return Ok(Some(answer)),
                Ok(Ok(answer)) if answer.status() == StatusCode::NOT_FOUND => return Ok(None),
                Ok(Ok(answer)) => {
                    let (code, text) = (answer.status(), answer.text().await.unwrap_or_default());
                    if !code.is_server_error() {
                        return Err(refused(format!("{code}: {text}")));
                    }
                    format!("{code}: {text}")
                }
                Ok(Err(error)) => error.without_url().to_string(),
                Err(_) => format!("no answer within {} s", patience.as_secs()),
            };
            if left == 0 {
                return Err(refused(why));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(None)
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T, StepError> {
        let read = answer.json().await;
        read.map_err(|e| StepError::Upload(format!("{}: {}", self.upload.url, e.without_url())))
    }

    async fn must<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<T, StepError> {
        let nothing = || StepError::Upload(format!("{}: answers with 404", self.upload.url));
        let answer = self.ask(request, patience).await?.ok_or_else(nothing)?;
        self.read(answer).await
    }

    fn open(&self, digest: &Digest, path: &str) -> RequestBuilder {
        let request = self.request(Method::GET, path);
        match lock(&self.keys).get(digest) {
            Some(key) => request.header(SNAPSHOT_KEY, key),
            None => request,
        }
    }

    fn kept(&self, kept: KeptSnapshot) -> Digest {
        lock(&self.keys).insert(kept.digest, kept.key);
        kept.digest
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Shelf for Uploads {
    async fn snapshot(&self, digest: &Digest) -> Result<Option<Snapshot>, StepError> {
        let request = self.open(digest, &format!("snapshots/{digest}"));
        let Some(answer) = self.ask(request, PATIENCE).await? else {
            return Ok(None);
        };
        let snapshot: Snapshot = self.read(answer).await?;
        lock(&self.there).extend(snapshot.contents().copied());
        Ok(Some(snapshot))
    }

    async fn state(&self, digest: &Digest, source: &str) -> Result<Option<SourceState>, StepError> {
        let path = format!("snapshots/{digest}/sources/{source}");
        match self.ask(self.open(digest, &path), PATIENCE).await? {
            Some(answer) => self.read(answer).await,
            None => Ok(None),
        }
    }

    async fn taken(&self, key: &SnapshotKey) -> Result<Option<Digest>, StepError> {
        let request = self.request(Method::POST, "taken").json(key);
        let taken: Option<KeptSnapshot> = self.must(request, PATIENCE).await?;
        Ok(taken.map(|taken| self.kept(taken)))
    }

    async fn keep(&self, key: &SnapshotKey, taken: &Snapshot) -> Result<Digest, StepError> {
        let previous = key.previous.as_ref();
        let request = KeepRequest {
            key: key.clone(),
            previous_key: previous.and_then(|p| lock(&self.keys).get(p).cloned()),
            snapshot: taken.clone(),
            receipts: lock(&self.receipts).clone(),
        };
        let request = self.request(Method::POST, "snapshots").json(&request);
        Ok(self.kept(self.must(request, KEEPING).await?))
    }

    async fn put(&self, content: Bytes) -> Result<Digest, SinkError> {
        let mebibytes = u32::try_from(content.len() >> 20).unwrap_or(u32::MAX);
        let patience = PATIENCE + FOR_EACH_MEBIBYTE.saturating_mul(mebibytes);
        let request = self.request(Method::PUT, "blobs").body(content);
        let PutAnswer { digest, receipt } = self.must(request, patience).await?;
        lock(&self.receipts).insert(digest, receipt);
        Ok(digest)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError> {
        Ok(lock(&self.there).contains(digest) || lock(&self.receipts).contains_key(digest))
    }
}
