//! What Prometheus reads.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Pipeline {
    pipeline: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reranks {
    pipeline: String,
    applied: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Release {
    pipeline: String,
    release: String,
}

/// How long the stages of an answer took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    pub(crate) queue: Duration,
    pub(crate) embed: Duration,
    pub(crate) search: Duration,
    pub(crate) rerank: Option<Duration>,
    pub(crate) total: Duration,
}

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Route, Counter>,
    in_flight: Gauge,
    retrieve: Family<Stage, Histogram, fn() -> Histogram>,
    over_budget: Family<Pipeline, Counter>,
    reranks: Family<Reranks, Counter>,
    switches: Family<Pipeline, Counter>,
    release: Family<Release, Gauge>,
    embedded: Counter,
    chats: Gauge,
    first_token: Histogram,
    generated: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("loci"),
            requests: Family::default(),
            in_flight: Gauge::default(),
            retrieve: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            over_budget: Family::default(),
            reranks: Family::default(),
            switches: Family::default(),
            release: Family::default(),
            embedded: Counter::default(),
            chats: Gauge::default(),
            first_token: Histogram::new(BUCKETS),
            generated: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "http_requests",
            "Requests answered, by route and status code",
            metrics.requests.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests being answered",
            metrics.in_flight.clone(),
        );
        let help = "Time of questions by /v1/retrieve and /mcp, by stage: queue, embed, search, rerank, total";
        registry.register_with_unit(
            "retrieve_duration",
            help,
            Unit::Seconds,
            metrics.retrieve.clone(),
        );
        registry.register(
            "queries_over_latency_budget",
            "Queries that took longer than their pipeline's latency budget",
            metrics.over_budget.clone(),
        );
        registry.register(
            "reranks",
            "Answers of pipelines with re-ranking, by whether it was applied",
            metrics.reranks.clone(),
        );
        registry.register(
            "release_switches",
            "Times that a release began to serve",
            metrics.switches.clone(),
        );
        registry.register(
            "release_info",
            "1 for each release that serves",
            metrics.release.clone(),
        );
        registry.register(
            "embedded_tokens",
            "Tokens embedded for /v1/embeddings",
            metrics.embedded.clone(),
        );
        metrics.register_chats();
        metrics
    }

    fn register_chats(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "chats_in_flight",
            "Chats whose answers are written or wait for it",
            self.chats.clone(),
        );
        registry.register_with_unit(
            "chat_first_token",
            "Time from a chat to the first token of its answer",
            Unit::Seconds,
            self.first_token.clone(),
        );
        registry.register(
            "generated_tokens",
            "Tokens of answers to chats",
            self.generated.clone(),
        );
    }

    /// Counts a chat in, until the result is dropped.
    pub(crate) fn chat(&self) -> InFlight {
        self.chats.inc();
        InFlight(self.chats.clone())
    }

    /// Counts tokens of an answer; `waited` is since the chat arrived, at its first.
    pub(crate) fn generated(&self, tokens: u64, waited: Option<Duration>) {
        self.generated.inc_by(tokens);
        if let Some(waited) = waited {
            self.first_token.observe(waited.as_secs_f64());
        }
    }

    /// Counts a request in, until the result is dropped.
    pub(crate) fn arrived(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(crate) fn answered(&self, route: &str, code: u16) {
        self.requests
            .get_or_create_owned(&Route {
                route: route.to_owned(),
                code,
            })
            .inc();
    }

    pub(crate) fn retrieved(&self, pipeline: &str, stages: &Stages, budget: Option<Duration>) {
        let times = [
            ("queue", stages.queue),
            ("embed", stages.embed),
            ("search", stages.search),
            ("total", stages.total),
        ];
        let rerank = stages.rerank.map(|time| ("rerank", time));
        for (stage, time) in times.into_iter().chain(rerank) {
            self.retrieve
                .get_or_create_owned(&Stage { stage })
                .observe(time.as_secs_f64());
        }
        if budget.is_some_and(|budget| stages.total > budget) {
            self.over_budget
                .get_or_create_owned(&Pipeline {
                    pipeline: pipeline.to_owned(),
                })
                .inc();
        }
    }

    /// Counts an answer of a pipeline with re-ranking.
    pub(crate) fn reranked(&self, pipeline: &str, applied: bool) {
        let pipeline = pipeline.to_owned();
        let applied = if applied { "true" } else { "false" };
        let labels = Reranks { pipeline, applied };
        self.reranks.get_or_create_owned(&labels).inc();
    }

    pub(crate) fn embedded(&self, tokens: usize) {
        self.embedded.inc_by(tokens as u64);
    }

    pub(crate) fn switched(&self, pipeline: &str, old: Option<&str>, new: &str) {
        if let Some(old) = old {
            self.withdrawn(pipeline, old);
        }
        self.release
            .get_or_create_owned(&Release {
                pipeline: pipeline.to_owned(),
                release: new.to_owned(),
            })
            .set(1);
        self.switches
            .get_or_create_owned(&Pipeline {
                pipeline: pipeline.to_owned(),
            })
            .inc();
    }

    pub(crate) fn withdrawn(&self, pipeline: &str, release: &str) {
        self.release.remove(&Release {
            pipeline: pipeline.to_owned(),
            release: release.to_owned(),
        });
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A request or chat being answered.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
