//! What Prometheus reads of an operator, a worker or a fetcher.

mod workers;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use loci_bus::{Priority, Worker};
use loci_nats::NatsBus;
use loci_worker::devices::Card;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bind;
use crate::leader::Standing;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queue {
    class: String,
    priority: &'static str,
}

/// Whose work is told of.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Of all classes, with the workers that are there and whether this operator leads.
    All(Standing),
    /// Of one class.
    Class(String),
    /// Of a worker's class, with how the worker is.
    Worker(Own),
}

/// A worker of this process.
#[derive(Clone, Debug)]
pub struct Own {
    /// What it tells of itself.
    pub told: watch::Receiver<Worker>,
    /// The device that it computes on.
    pub card: Option<Card>,
}

struct Source {
    bus: NatsBus,
    scope: Scope,
}

/// Answers `/metrics` on `address` until `shutdown`.
///
/// # Errors
/// When nothing can listen there.
pub async fn serve_metrics(
    address: SocketAddr,
    bus: NatsBus,
    scope: Scope,
    shutdown: CancellationToken,
) -> Result<()> {
    let listener = bind(address).await?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Source { bus, scope }));
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await?;
    Ok(())
}

async fn metrics(State(source): State<Arc<Source>>) -> Response {
    match source.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            let error = format!("{error:#}");
            (StatusCode::SERVICE_UNAVAILABLE, error).into_response()
        }
    }
}

impl Source {
    /// All metrics as OpenMetrics text.
    async fn text(&self) -> Result<String> {
        let mut registry = Registry::with_prefix("loci");
        self.queue(&mut registry).await?;
        match &self.scope {
            Scope::All(standing) => {
                let roster = self.bus.roster().borrow().clone();
                workers::all(&mut registry, roster.iter().flat_map(|all| all.values()));
                leadership(&mut registry, standing.term());
            }
            Scope::Worker(own) => workers::own(&mut registry, own),
            Scope::Class(_) => {}
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    async fn queue(&self, registry: &mut Registry) -> Result<()> {
        let (depth, held) = (
            Family::<Queue, Gauge>::default(),
            Family::<Queue, Gauge>::default(),
        );
        let class = match &self.scope {
            Scope::All(_) => None,
            Scope::Class(class) => Some(class.clone()),
            Scope::Worker(own) => Some(own.told.borrow().class.clone()),
        };
        for found in self.bus.depths(class.as_deref()).await? {
            let queue = Queue {
                class: found.class,
                priority: match found.priority {
                    Priority::P0 => "p0",
                    Priority::P1 => "p1",
                    Priority::P2 => "p2",
                },
            };
            let (waiting, under_way) = (gauge(found.waiting), gauge(found.held));
            depth.get_or_create_owned(&queue).set(waiting);
            held.get_or_create_owned(&queue).set(under_way);
        }
        registry.register("queue_depth", "Steps that wait for a worker", depth);
        registry.register("queue_held", "Steps that workers are at", held);
        Ok(())
    }
}

fn leadership(registry: &mut Registry, led: Option<u64>) {
    let (leads, term) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    leads.set(i64::from(led.is_some()));
    term.set(gauge(led.unwrap_or_default()));
    registry.register("leads", "1 while this operator leads", leads);
    let help = "The term that this operator leads, 0 without an election";
    registry.register("leader_term", help, term);
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
