//! What serves a pipeline: one release answers, others are loaded beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use loci_crds::release::AdapterComponent;
use loci_digest::Digest;
use loci_models::Decoder;
use loci_recall::{LoadAdapter, LoadRequest, Prepared};
use loci_worker::step::{ADAPTER, AdapterManifest, Directory};
use tokio::sync::mpsc::UnboundedSender;

use crate::controller::Shared;
use crate::declared::Declared;
use crate::news::News;

/// The serving side of one pipeline. It goes on serving whoever commands it.
pub trait Fleet: Send + Sync + 'static {
    /// What it serves is declared so now. News of it go to `news` from here on.
    fn declare(&mut self, declared: &Declared, news: UnboundedSender<News>);

    /// The release that answers everywhere.
    fn current(&self) -> Option<String>;

    /// Releases that are loaded everywhere, the one that answers included.
    fn prepared(&self) -> BTreeSet<String>;

    /// Begins to load and warm a release beside what answers; [`News::Loaded`] tells how that ended.
    fn prepare(&mut self, load: Load);

    /// Whether it stands as it was told, and would stand so without who tells it.
    fn quiet(&self) -> bool;

    /// Lets go of a release that does not answer.
    fn remove(&mut self, release: &str);

    /// Lets `release` answer from now on, wherever it is loaded: queries in flight finish on the one before. True when
    /// it has come to answer everywhere since the last call.
    fn switch(&mut self, release: &str) -> bool;
}

/// What to load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// `namespace/name` of the pipeline.
    pub pipeline: String,
    /// The release.
    pub release: String,
    /// Its index revision in the store.
    pub revision: Digest,
    /// Its embedder's reference.
    pub model: String,
    /// The reference of the cross-encoder that puts what is found into another order, if one does.
    pub cross_encoder: Option<String>,
    /// Its adapters. The base of the first answers chats.
    pub adapters: Vec<StoredAdapter>,
    /// Queries slower than this are counted.
    pub latency_budget: Option<Duration>,
}

/// An adapter in the store, to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAdapter {
    /// Its name in the pipeline.
    pub name: String,
    /// Its manifest in the store.
    pub manifest: Digest,
    /// The digest of the adapter itself: no other is loaded in its place.
    pub adapter: Digest,
    /// The base model's reference.
    pub base: String,
}

impl StoredAdapter {
    pub(crate) fn of(component: &AdapterComponent, base: &str) -> Result<Self> {
        Ok(Self {
            name: component.name.clone(),
            manifest: component.manifest.parse()?,
            adapter: component.adapter.parse()?,
            base: base.to_owned(),
        })
    }

    async fn load(&self, shared: &Shared, decoder: &Arc<Decoder>) -> Result<LoadAdapter> {
        let found = shared.store.get_manifest(ADAPTER, &self.manifest).await;
        let manifest: AdapterManifest = found?;
        let (store, revisions) = (&shared.store, &shared.revisions);
        Ok(LoadAdapter {
            digest: self.adapter,
            adapter: Arc::new(manifest.load(store, revisions, decoder).await?),
            probes: manifest.probes,
        })
    }
}

/// A release that is loaded and warm. While it is kept, its revision's files are.
type Loaded = (Prepared, Directory);

/// Serves in this process.
pub struct LocalFleet {
    shared: Shared,
    ready: Arc<Mutex<HashMap<String, Loaded>>>,
    served: Option<(String, Directory)>,
    news: Option<UnboundedSender<News>>,
    /// Whether the pipeline has its chats answered by a vLLM, which nothing here asks.
    elsewhere: bool,
}

impl LocalFleet {
    /// Nothing serves yet.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            ready: Arc::default(),
            served: None,
            news: None,
            elsewhere: false,
        }
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<String, Loaded>> {
        lock(&self.ready)
    }
}

impl Fleet for LocalFleet {
    fn declare(&mut self, declared: &Declared, news: UnboundedSender<News>) {
        self.news = Some(news);
        self.elsewhere = declared.pipeline.vllm.is_some();
    }

    fn current(&self) -> Option<String> {
        self.served.as_ref().map(|(release, _)| release.clone())
    }

    fn prepared(&self) -> BTreeSet<String> {
        self.ready().keys().cloned().chain(self.current()).collect()
    }

    fn prepare(&mut self, load: Load) {
        let (shared, ready, news) = (self.shared.clone(), self.ready.clone(), self.news.clone());
        if self.elsewhere && !load.adapters.is_empty() {
            let why = anyhow::anyhow!(
                "spec.serving.runtime: only replicas in pods of their own ask vLLM, and this process serves: remove the field"
            );
            if let Some(news) = news {
                let _ = news.send(News::Loaded(load.release, Err(why)));
            }
            return;
        }
        tokio::spawn(async move {
            let _no_sweep = shared.collecting.read().await;
            let release = load.release.clone();
            let loaded = load.run(&shared).await.map(|loaded| {
                lock(&ready).insert(release.clone(), loaded);
            });
            if let Some(news) = news {
                let _ = news.send(News::Loaded(release, loaded));
            }
        });
    }

    /// What it serves ends with this process.
    fn quiet(&self) -> bool {
        false
    }

    fn remove(&mut self, release: &str) {
        self.ready().remove(release);
    }

    fn switch(&mut self, release: &str) -> bool {
        if self.current().as_deref() == Some(release) {
            return false;
        }
        let Some((prepared, directory)) = self.ready().remove(release) else {
            return false;
        };
        let replaced = self.shared.recall.switch(prepared);
        let old = self.served.replace((release.to_owned(), directory));
        if let Some(replaced) = replaced {
            tokio::spawn(async move {
                replaced.drained().await;
                drop(old);
            });
        }
        true
    }
}

impl Load {
    async fn run(self, shared: &Shared) -> Result<Loaded> {
        let directory = shared.revisions.directory(&self.revision).await?;
        let encoder = shared.encoders.get(&self.model).await?;
        let cross_encoder = match &self.cross_encoder {
            Some(model) => Some(shared.encoders.cross_encoder(model).await?),
            None => None,
        };
        let (mut decoder, mut adapters) = (None, BTreeMap::new());
        if let Some(first) = self.adapters.first() {
            let base = shared.decoders.get(&first.base).await?;
            for adapter in &self.adapters {
                let loaded = adapter.load(shared, &base).await;
                let loaded = loaded.with_context(|| format!("adapter {}", adapter.name))?;
                adapters.insert(adapter.name.clone(), loaded);
            }
            decoder = Some(base);
        }
        let request = LoadRequest {
            pipeline: self.pipeline,
            release: self.release,
            directory: directory.to_path_buf(),
            encoder,
            cross_encoder,
            decoder,
            adapters,
            service: None,
            latency_budget: self.latency_budget,
        };
        Ok((shared.recall.prepare(request).await?, directory))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
