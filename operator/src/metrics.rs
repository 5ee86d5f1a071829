//! What Prometheus reads of an operator, a worker or a fetcher.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use loci_bus::Priority;
use loci_nats::{NatsBus, Roster};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::bind;
use crate::leader::Standing;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queue {
    class: String,
    priority: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Class {
    class: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfWorker {
    class: String,
    worker: String,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfDevice {
    class: String,
    worker: String,
    device: String,
    compute_capability: String,
}

/// Whose work is told of.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Of all classes, with the workers that are there and whether this operator leads.
    All(Standing),
    /// Of one class.
    Class(String),
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
        if let Scope::All(standing) = &self.scope {
            workers(&mut registry, &self.bus.roster().borrow());
            leadership(&mut registry, standing.term());
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
            Scope::Class(class) => Some(class.as_str()),
        };
        for found in self.bus.depths(class).await? {
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

fn workers(registry: &mut Registry, roster: &Roster) {
    let count = Family::<Class, Gauge>::default();
    let slots = Family::<OfWorker, Gauge>::default();
    let memory = Family::<OfDevice, Gauge>::default();
    for worker in roster.iter().flat_map(|all| all.values()) {
        let class = Class {
            class: worker.class.clone(),
        };
        count.get_or_create_owned(&class).inc();
        let of = OfWorker {
            class: worker.class.clone(),
            worker: worker.id.clone(),
            version: worker.version.clone(),
        };
        slots
            .get_or_create_owned(&of)
            .set(gauge(worker.slots as u64));
        for device in &worker.devices {
            let of = OfDevice {
                class: worker.class.clone(),
                worker: worker.id.clone(),
                device: device.name.clone(),
                compute_capability: device.compute_capability.clone(),
            };
            let memory = memory.get_or_create_owned(&of);
            memory.inc_by(gauge(device.memory_bytes));
        }
    }
    registry.register("workers", "Workers that are there", count);
    registry.register("worker_slots", "Steps that a worker does at once", slots);
    let help = "Memory of the GPUs that a worker sees, in bytes";
    registry.register("worker_device_memory_bytes", help, memory);
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
