//! Where replicas get revisions and adapters from: the manifest and the files of one, for who has its key.
//!
//! A key is the HMAC (RFC 2104, over SHA-256) of the digest of a revision, or of an adapter's manifest, under a secret that
//! never leaves the store. A pipeline's ConfigMap carries the keys of its own releases, so that no tenant reads another's.
//!
//! Files of a store in a bucket do not pass through here: who has the key is sent on to a URL that the bucket's server
//! answers at, signed for that one file and a few minutes. The ConfigMap stays small, nothing in it expires, and no
//! replica holds a key to the bucket.

mod uploads;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use hmac::{Hmac, Mac};
use loci_digest::Digest;
use loci_store::{Store, StoreError, StoreUrl, Tree};
use loci_worker::step::{ADAPTER, AdapterManifest, REVISION, RevisionManifest};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::lock;

const SECRET: &str = "artifacts.key";
/// How long a signed URL lets a download begin.
const EXPIRES: Duration = Duration::from_secs(600);
/// How long who asks keeps a connection that it does not need: behind the Service's address may be one that is stuck, and
/// new connections go past it.
pub const IDLE: Duration = Duration::from_secs(2);
/// Revisions and adapters whose files are known; all are forgotten beyond.
const KNOWN: usize = 256;

/// What is given out.
#[derive(Clone, Copy)]
enum Kind {
    Revision,
    Adapter,
}

impl Kind {
    /// The part of paths.
    fn plural(self) -> &'static str {
        match self {
            Self::Revision => "revisions",
            Self::Adapter => "adapters",
        }
    }

    async fn tree(self, store: &Store, digest: &Digest) -> Result<Tree, StoreError> {
        Ok(match self {
            Self::Revision => {
                let manifest: RevisionManifest = store.get_manifest(REVISION, digest).await?;
                manifest.tree
            }
            Self::Adapter => {
                let manifest: AdapterManifest = store.get_manifest(ADAPTER, digest).await?;
                manifest.tree
            }
        })
    }
}

/// The store as replicas see it. Cheap to clone.
#[derive(Clone)]
pub struct Artifacts(Arc<Inner>);

struct Inner {
    store: Store,
    /// Where replicas reach this.
    url: Url,
    secret: [u8; 32],
    /// The files of what was asked for lately.
    files: Mutex<HashMap<Digest, Arc<HashSet<Digest>>>>,
}

impl Artifacts {
    /// Over the store at `place`, whose secret is made when there is none.
    ///
    /// # Errors
    /// When the secret cannot be read or written.
    pub async fn new(store: Store, place: &StoreUrl, url: Url) -> Result<Self> {
        let secret = match place {
            StoreUrl::Directory(dir) => secret(&dir.join(SECRET))?,
            StoreUrl::S3 { .. } => {
                let kept = store.once(SECRET, random()?.to_vec().into()).await?;
                fits(&kept, &format!("{place}/{SECRET}"))?
            }
        };
        Ok(Self(Arc::new(Inner {
            store,
            url,
            secret,
            files: Mutex::default(),
        })))
    }

    /// Where a revision is, and the key to it.
    pub fn of(&self, revision: &Digest) -> (String, String) {
        self.place(Kind::Revision, revision)
    }

    /// Where an adapter is, by the digest of its manifest, and the key to it.
    pub fn of_adapter(&self, manifest: &Digest) -> (String, String) {
        self.place(Kind::Adapter, manifest)
    }

    fn place(&self, kind: Kind, digest: &Digest) -> (String, String) {
        let base = self.0.url.as_str().trim_end_matches('/');
        let tag = self.mac(digest.as_bytes()).finalize().into_bytes();
        let url = format!("{base}/v1/{}/{digest}", kind.plural());
        (url, hex::encode(tag))
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
        let router = Router::new()
            // Whether this process answers at all; a port does also while its process stands still.
            .route("/healthz", get(async || "ok"))
            .merge(given_out(Kind::Revision))
            .merge(given_out(Kind::Adapter))
            .merge(uploads::router())
            .with_state(self);
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await?;
        Ok(())
    }

    fn mac(&self, of: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        #[expect(clippy::expect_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0.secret).expect("a key");
        mac.update(of);
        mac
    }

    /// What is asked for, if the key fits.
    fn admit(&self, digest: &str, headers: &HeaderMap) -> Result<Digest, Refusal> {
        let digest: Digest = digest.parse().map_err(|_| Refusal::Unknown)?;
        self.check(digest.as_bytes(), bearer(headers))?;
        Ok(digest)
    }

    /// Whether a key is that of these bytes.
    fn check(&self, of: &[u8], key: Option<&str>) -> Result<(), Refusal> {
        let key = key.and_then(|key| hex::decode(key).ok());
        let key = key.ok_or(Refusal::Key)?;
        let fits = self.mac(of).verify_slice(&key);
        fits.map_err(|_| Refusal::Key)
    }

    async fn files(&self, kind: Kind, digest: &Digest) -> Result<Arc<HashSet<Digest>>, Refusal> {
        let known = || lock(&self.0.files);
        if let Some(files) = known().get(digest) {
            return Ok(files.clone());
        }
        let tree = kind.tree(&self.0.store, digest).await?;
        let files: HashSet<Digest> = tree.values().map(|entry| entry.digest).collect();
        let files = Arc::new(files);
        let mut known = known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(*digest, files.clone());
        Ok(files)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    value.to_str().ok()?.strip_prefix("Bearer ")
}

/// Why something is not answered.
enum Refusal {
    Key,
    Unknown,
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } | StoreError::Kind { .. } => Self::Unknown,
            error => Self::Store(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Key => (StatusCode::FORBIDDEN, "the key does not fit").into_response(),
            Self::Unknown => (StatusCode::NOT_FOUND, "there is no such artefact").into_response(),
            Self::Store(error) => {
                tracing::error!(%error, "an artefact cannot be read");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the artefact cannot be read",
                )
                    .into_response()
            }
        }
    }
}

/// The routes of one kind: manifests, and the files that they name.
fn given_out(kind: Kind) -> Router<Artifacts> {
    let at = format!("/v1/{}/{{digest}}", kind.plural());
    let manifest = move |State(artifacts): State<Artifacts>,
                         UrlPath(digest): UrlPath<String>,
                         headers: HeaderMap| async move {
        manifest(&artifacts, kind, &digest, &headers).await
    };
    let file = move |State(artifacts): State<Artifacts>,
                     UrlPath((of, digest)): UrlPath<(String, String)>,
                     headers: HeaderMap| async move {
        file(&artifacts, kind, (&of, &digest), &headers).await
    };
    Router::new()
        .route(&at, get(manifest))
        .route(&format!("{at}/files/{{file}}"), get(file))
}

async fn manifest(
    artifacts: &Artifacts,
    kind: Kind,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let digest = artifacts.admit(digest, headers)?;
    // Of this kind only: other manifests are nobody's business.
    artifacts.files(kind, &digest).await?;
    let bytes = artifacts.0.store.manifest_bytes(&digest).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

async fn file(
    artifacts: &Artifacts,
    kind: Kind,
    (of, digest): (&str, &str),
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let of = artifacts.admit(of, headers)?;
    let digest: Digest = digest.parse().map_err(|_| Refusal::Unknown)?;
    if !artifacts.files(kind, &of).await?.contains(&digest) {
        return Err(Refusal::Unknown);
    }
    if let Some(url) = artifacts.0.store.link(&digest, EXPIRES).await? {
        return Ok(Redirect::temporary(url.as_str()).into_response());
    }
    let (file, size) = artifacts.0.store.open_blob(&digest).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(
        tokio::fs::File::from_std(file),
        256 << 10,
    ));
    Ok(([(header::CONTENT_LENGTH, size)], body).into_response())
}

/// The secret; made once, by whoever comes first.
fn secret(path: &Path) -> Result<[u8; 32]> {
    if !path.exists() {
        let random = random()?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut made = tempfile::NamedTempFile::new_in(directory)?;
        made.write_all(&random)?;
        made.as_file().sync_all()?;
        match made.persist_noclobber(path) {
            Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(e.error).with_context(|| format!("cannot write {}", path.display()));
            }
            _ => {}
        }
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    fits(&bytes, &path.display().to_string())
}

fn random() -> Result<[u8; 32]> {
    let mut random = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .context("no random bytes")?;
    Ok(random)
}

fn fits(bytes: &[u8], place: &str) -> Result<[u8; 32]> {
    let secret = bytes.try_into();
    secret.with_context(|| {
        format!("{place} does not hold 32 bytes: delete it, and a new one is made")
    })
}
