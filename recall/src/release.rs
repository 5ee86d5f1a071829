//! A release, from being loaded to being retired.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loci_digest::Digest;
use loci_models::{Adapter, CrossEncoder, Decoder, Encoder, Probe};
use loci_prompt::Marks;
use reqwest::Url;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::chat::Chat;
use crate::engine::Engine;

/// A release to be loaded.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The pipeline, `namespace/name` or `name`. Also the `model` of `/v1/embeddings`.
    pub pipeline: String,
    /// The release's name.
    pub release: String,
    /// Its index revision.
    pub directory: PathBuf,
    /// The encoder that the revision was filled by.
    pub encoder: Arc<Encoder>,
    /// The cross-encoder that the revision was judged with, if it is re-ranked by one.
    pub cross_encoder: Option<Arc<CrossEncoder>>,
    /// The model that answers chats; without one they are refused. Releases share it when it is the same.
    pub decoder: Option<Arc<Decoder>>,
    /// Adapters of the decoder, by the names that the pipeline gives them.
    pub adapters: BTreeMap<String, LoadAdapter>,
    /// The service that answers chats in a decoder's stead: a release has one of the two at most.
    pub service: Option<LoadService>,
    /// The time that a query should take; slower ones are counted.
    pub latency_budget: Option<Duration>,
}

/// An adapter of a release to be loaded.
#[derive(Clone, Debug)]
pub struct LoadAdapter {
    /// The digest by which the release names it: that of [`Adapter::digest`]. It is a part of the adapter's name.
    pub digest: Digest,
    /// The adapter.
    pub adapter: Arc<Adapter>,
    /// What was recorded when it was judged, at least one.
    pub probes: Vec<Probe>,
}

/// A service that answers the chats of a release: vLLM, or what else speaks OpenAI's API and vLLM's `/tokenize`. Each
/// adapter is loaded there under its [`adapter_name`](crate::adapter_name).
#[derive(Clone, Debug)]
pub struct LoadService {
    /// Where it is, without a path: `http://support-vllm.agents:8000`.
    pub url: Url,
    /// Its name for the model without adapter.
    pub model: String,
    /// What the model's tokenizer takes for more than text.
    pub marks: Marks,
    /// The digests by which the release names its adapters, by the names that the pipeline gives them.
    pub adapters: BTreeMap<String, Digest>,
}

/// A release that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The pipeline.
    pub pipeline: String,
    /// The release.
    pub release: String,
    /// Digest of what its index says.
    pub content_id: Digest,
    /// Documents in its index.
    pub documents: u64,
    /// Passages in its index.
    pub passages: u64,
}

/// A loaded release. Answers keep it alive while they are computed.
pub(crate) struct Loaded {
    pub(crate) pipeline: String,
    pub(crate) release: String,
    pub(crate) latency_budget: Option<Duration>,
    pub(crate) since: SystemTime,
    pub(crate) engine: Engine,
    /// None where the release answers no chats.
    pub(crate) chat: Option<Arc<Chat>>,
    /// Dropped last: tells that the engine's files are closed.
    closed: Closed,
}

struct Closed {
    token: CancellationToken,
    _guard: DropGuard,
}

impl Loaded {
    pub(crate) fn new(
        pipeline: String,
        release: String,
        latency_budget: Option<Duration>,
        engine: Engine,
        chat: Option<Arc<Chat>>,
    ) -> Self {
        let token = CancellationToken::new();
        let closed = Closed {
            _guard: token.clone().drop_guard(),
            token,
        };
        let since = SystemTime::now();
        Self {
            pipeline,
            release,
            latency_budget,
            since,
            engine,
            chat,
            closed,
        }
    }

    pub(crate) fn serving(&self) -> Serving {
        let info = self.engine.info();
        Serving {
            pipeline: self.pipeline.clone(),
            release: self.release.clone(),
            content_id: info.content_id,
            documents: info.documents,
            passages: info.passages,
        }
    }
}

/// A release that is loaded, warmed and probed, and waits for [`Recall::switch`](crate::Recall::switch). Dropping all
/// clones of one that does not serve unloads it.
#[derive(Clone)]
#[must_use = "it serves only after Recall::switch"]
pub struct Prepared(pub(crate) Arc<Loaded>);

impl Prepared {
    /// The pipeline.
    pub fn pipeline(&self) -> &str {
        &self.0.pipeline
    }

    /// The release.
    pub fn release(&self) -> &str {
        &self.0.release
    }

    /// Digest of what its index says.
    pub fn content_id(&self) -> Digest {
        self.0.engine.info().content_id
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("pipeline", &self.0.pipeline)
            .field("release", &self.0.release)
            .finish()
    }
}

/// A release that no longer takes queries. Those in flight may still use it.
#[derive(Debug)]
pub struct Retired {
    release: String,
    closed: CancellationToken,
}

impl Retired {
    /// The release.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Waits until the last query on it is done, the last answer written, and its files are closed.
    pub async fn drained(self) {
        self.closed.cancelled().await;
    }
}

impl From<Arc<Loaded>> for Retired {
    fn from(loaded: Arc<Loaded>) -> Self {
        Self {
            release: loaded.release.clone(),
            closed: loaded.closed.token.clone(),
        }
    }
}
