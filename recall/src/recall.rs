//! The releases that serve, and how one takes the place of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use loci_digest::Digest;
use loci_models::Decoder;
use reqwest::Url;
use tokio::sync::{Semaphore, oneshot};

use crate::auth::Tokens;
use crate::chat::{self, Chat};
use crate::documents::Documents;
use crate::engine::{Engine, EngineError, touch};
use crate::error::RecallError;
use crate::generate::Generator;
use crate::lanes::{BulkGate, Lanes};
use crate::lookup::{LookupError, resolve};
use crate::metrics::Metrics;
use crate::release::{LoadRequest, LoadService, Loaded, Prepared, Retired, Serving};
use crate::service::Service;
use crate::urgency::after_queries;

/// How a [`Recall`] serves.
#[derive(Clone, Debug)]
pub struct RecallOptions {
    /// Pipelines that `/readyz` waits for.
    pub expect: Vec<String>,
    /// Queries computed at once; by default one for each core.
    pub concurrency: usize,
    /// Queries that may wait beyond those before more are refused with 503; by default 256.
    pub queue: usize,
    /// Longest time for a request, 504 beyond; by default 30 s.
    pub request_timeout: Duration,
    /// The same for bulk embeddings; by default 10 min.
    pub bulk_timeout: Duration,
    /// Longest time that requests in flight have to finish at shutdown; by default 10 s.
    pub drain_timeout: Duration,
    /// Chats that one decoder answers at once, at most 8; by default 4.
    pub chats: usize,
    /// Chats that may wait for each decoder beyond those before more are refused with 429; by default 16.
    pub chat_queue: usize,
    /// Chats that one service answers, or has waiting, before more are refused with 429; by default 256.
    pub service_chats: usize,
    /// Tokens that a chat may have with its answer, if the decoder's context has as many; by default 8192. A chat takes
    /// memory for each of them.
    pub chat_context: usize,
    /// Longest time until an answer is written; by default 10 min.
    pub chat_timeout: Duration,
    /// Longest time that streamed answers have to finish at shutdown; by default 30 s.
    pub stream_drain: Duration,
    /// Keeps the documents that clients put; without, there are no sources that take any.
    pub documents: Option<Arc<dyn Documents>>,
    /// Those who may write documents. Without, only [`Auth::Off`](crate::Auth::Off) lets anybody write.
    pub writers: Option<Tokens>,
}

impl Default for RecallOptions {
    fn default() -> Self {
        Self {
            expect: Vec::new(),
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            queue: 256,
            request_timeout: Duration::from_secs(30),
            bulk_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(10),
            chats: 4,
            chat_queue: 16,
            service_chats: 256,
            chat_context: loci_prompt::CONTEXT,
            chat_timeout: Duration::from_secs(600),
            stream_drain: Duration::from_secs(30),
            documents: None,
            writers: None,
        }
    }
}

/// Documents that are being received may have so many KiB together.
pub(crate) const BODIES_KIB: usize = 128 << 10;

pub(crate) type Releases = BTreeMap<String, Arc<Loaded>>;

/// Serves releases. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Recall(Arc<Inner>);

struct Inner {
    options: RecallOptions,
    expected: ArcSwap<BTreeSet<String>>,
    releases: ArcSwap<Releases>,
    /// Held while `releases` is replaced.
    changing: Mutex<()>,
    lanes: Lanes,
    /// Those in use, by what their decoders are.
    generators: Mutex<BTreeMap<Digest, Weak<Generator>>>,
    /// Those in use, by where they are.
    services: Mutex<BTreeMap<String, Weak<Service>>>,
    metrics: Metrics,
    /// Room for documents that are being received, in KiB.
    bodies: Arc<Semaphore>,
}

impl Recall {
    /// Starts the query threads; nothing serves yet.
    ///
    /// # Errors
    /// [`RecallError::Threads`] when the system has no threads to give.
    pub fn new(options: RecallOptions) -> Result<Self, RecallError> {
        let lanes = Lanes::new(options.concurrency, options.queue)?;
        let expected = ArcSwap::from_pointee(options.expect.iter().cloned().collect());
        let (releases, changing, metrics) = (ArcSwap::default(), Mutex::default(), Metrics::new());
        Ok(Self(Arc::new(Inner {
            options,
            expected,
            releases,
            changing,
            lanes,
            generators: Mutex::default(),
            services: Mutex::default(),
            metrics,
            bodies: Arc::new(Semaphore::new(BODIES_KIB)),
        })))
    }

    /// Loads a release beside the one that serves: opens its revision, reads its files into
    /// memory, asks it real questions, and its adapters what was recorded when they were judged.
    /// Yields to queries, on a thread that comes after theirs.
    ///
    /// # Errors
    /// When the revision cannot be opened, was filled by another encoder or judged with another cross-encoder, or does
    /// not find its own passages; when the decoder cannot chat, or an adapter is not the one that the release
    /// names, belongs to another decoder, or does not compute what it did; when a service does not
    /// have them. What serves is not affected.
    pub async fn prepare(&self, mut request: LoadRequest) -> Result<Prepared, RecallError> {
        let (pipeline, release) = (request.pipeline.clone(), request.release.clone());
        let service = match request.service.take() {
            Some(service) => {
                let reached = self.reach(service, &request).await;
                Some(reached.map_err(|e| failed(&pipeline, &release, e))?)
            }
            None => None,
        };
        let (recall, (done, loaded)) = (self.clone(), oneshot::channel());
        let thread = std::thread::Builder::new().name("recall-load".to_owned());
        let load = move || {
            after_queries();
            // Who asked may have changed their mind.
            let _ = done.send(recall.load(request, service));
        };
        thread.spawn(load).map_err(|e| RecallError::Threads {
            threads: 1,
            reason: e.to_string(),
        })?;
        loaded
            .await
            .map_err(|_| RecallError::Panicked { pipeline, release })?
            .map(|loaded| Prepared(Arc::new(loaded)))
    }

    fn load(&self, request: LoadRequest, service: Option<Chat>) -> Result<Loaded, RecallError> {
        let start = Instant::now();
        let LoadRequest {
            pipeline,
            release,
            directory,
            encoder,
            cross_encoder,
            decoder,
            adapters,
            service: _,
            latency_budget,
        } = request;
        let error = |e| failed(&pipeline, &release, e);
        let gate = self.0.lanes.gate();
        let mut between = || gate.yield_to_queries();
        let engine = Engine::open(&directory, encoder, cross_encoder).map_err(error)?;
        let bytes = touch(&directory, &mut between)
            .map_err(|e| error(EngineError::Unfit(format!("{}: {e}", directory.display()))))?;
        engine.probe(&mut between).map_err(error)?;
        let chat = match decoder {
            Some(decoder) => {
                chat::probe(&decoder, &adapters, &mut between).map_err(error)?;
                let generator = self.generator(decoder)?;
                Some(Arc::new(Chat::here(generator, adapters)))
            }
            None if adapters.is_empty() => service.map(Arc::new),
            None => {
                let reason = "it has adapters and no decoder that they belong to";
                return Err(error(EngineError::Unfit(reason.to_owned())));
            }
        };
        tracing::info!(
            pipeline,
            release,
            bytes,
            passages = engine.info().passages,
            chat = chat.is_some(),
            ms = start.elapsed().as_millis(),
            "release loaded"
        );
        Ok(Loaded::new(pipeline, release, latency_budget, engine, chat))
    }

    /// What writes the answers of a decoder: the one that does so already, for another release.
    fn generator(&self, decoder: Arc<Decoder>) -> Result<Arc<Generator>, RecallError> {
        let identity = decoder.identity().digest();
        let generators = self.0.generators.lock();
        let mut generators = generators.unwrap_or_else(PoisonError::into_inner);
        generators.retain(|_, generator| generator.strong_count() > 0);
        if let Some(known) = generators.get(&identity).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let RecallOptions {
            chats, chat_queue, ..
        } = self.0.options;
        let gate = self.bulk_gate();
        let generator = Arc::new(Generator::start(decoder, gate, chats, chat_queue)?);
        generators.insert(identity, Arc::downgrade(&generator));
        Ok(generator)
    }

    /// A service that is to answer a release's chats, when it can.
    async fn reach(&self, load: LoadService, request: &LoadRequest) -> Result<Chat, EngineError> {
        if request.decoder.is_some() || !request.adapters.is_empty() {
            let reason = "it has a service for its chats, and a decoder or adapters for them besides: load it with one of the two";
            return Err(EngineError::Unfit(reason.to_owned()));
        }
        let service = self.service(&load.url)?;
        chat::reach(&service, &load).await?;
        Ok(Chat::by(service, load))
    }

    /// The way to a service: the one that another release has already.
    fn service(&self, url: &Url) -> Result<Arc<Service>, EngineError> {
        let services = self.0.services.lock();
        let mut services = services.unwrap_or_else(PoisonError::into_inner);
        services.retain(|_, service| service.strong_count() > 0);
        if let Some(known) = services.get(url.as_str()).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let service = Service::new(url.clone(), self.0.options.service_chats);
        let service = Arc::new(service.map_err(|e| EngineError::Unfit(e.to_string()))?);
        services.insert(url.to_string(), Arc::downgrade(&service));
        Ok(service)
    }

    /// Lets a prepared release serve its pipeline: every query that arrives from now on is
    /// answered by it. Returns the one that it replaces.
    pub fn switch(&self, prepared: Prepared) -> Option<Retired> {
        let loaded = prepared.0;
        let (pipeline, release) = (loaded.pipeline.clone(), loaded.release.clone());
        let old = self.change(|releases| {
            let old = releases.insert(pipeline.clone(), loaded);
            self.0.metrics.switched(
                &pipeline,
                old.as_ref().map(|old| old.release.as_str()),
                &release,
            );
            old
        });
        tracing::info!(
            pipeline,
            release,
            replaced = old.as_ref().map(|old| &old.release),
            "release serves"
        );
        old.map(Retired::from)
    }

    /// Stops serving a pipeline. Returns the release that served it.
    pub fn withdraw(&self, pipeline: &str) -> Option<Retired> {
        let old = self.change(|releases| {
            let old = releases.remove(pipeline)?;
            self.0.metrics.withdrawn(pipeline, &old.release);
            Some(old)
        })?;
        tracing::info!(pipeline, release = old.release, "release withdrawn");
        Some(old.into())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Releases) -> T) -> T {
        let _changing = self
            .0
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut releases = Releases::clone(&self.0.releases.load());
        let result = change(&mut releases);
        self.0.releases.store(Arc::new(releases));
        result
    }

    /// The releases that serve, by pipeline.
    pub(crate) fn releases(&self) -> Arc<Releases> {
        self.0.releases.load_full()
    }

    /// What serves, ordered by pipeline.
    pub fn serving(&self) -> Vec<Serving> {
        self.releases()
            .values()
            .map(|loaded| loaded.serving())
            .collect()
    }

    /// Replaces the pipelines that `/readyz` waits for.
    pub fn expect(&self, pipelines: impl IntoIterator<Item = String>) {
        self.0
            .expected
            .store(Arc::new(pipelines.into_iter().collect()));
    }

    /// The expected pipelines that no release serves yet.
    pub(crate) fn missing(&self) -> Vec<String> {
        let releases = self.0.releases.load();
        self.0
            .expected
            .load()
            .iter()
            .filter(|pipeline| !releases.contains_key(*pipeline))
            .cloned()
            .collect()
    }

    /// For work that should yield to queries.
    pub fn bulk_gate(&self) -> BulkGate {
        self.0.lanes.gate().clone()
    }

    pub(crate) fn options(&self) -> &RecallOptions {
        &self.0.options
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    pub(crate) fn bodies(&self) -> &Arc<Semaphore> {
        &self.0.bodies
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The release for a request. A pipeline may go without its namespace where that is clear,
    /// and without any name where there is only one.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Arc<Loaded>, LookupError> {
        let releases = self.0.releases.load();
        let mut known: BTreeSet<String> = releases.keys().cloned().collect();
        known.extend(self.0.expected.load().iter().cloned());
        let pipeline = resolve(name, known)?;
        releases
            .get(&pipeline)
            .cloned()
            .ok_or(LookupError::NotYet(pipeline))
    }
}

fn failed(pipeline: &str, release: &str, error: EngineError) -> RecallError {
    let (pipeline, release) = (pipeline.to_owned(), release.to_owned());
    match error {
        EngineError::Index(source) => RecallError::Index {
            pipeline,
            release,
            source: source.into(),
        },
        EngineError::Model(source) => RecallError::Model {
            pipeline,
            release,
            source: source.into(),
        },
        EngineError::Unfit(reason) => RecallError::Unfit {
            pipeline,
            release,
            reason,
        },
    }
}
