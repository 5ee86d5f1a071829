//! The promises of the bus, on the form within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crowd;
mod ends;
mod live;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use loci_bus::{
    Dispatcher, Event, Events, Lease, LocalBus, Outcome, Priority, Published, WorkItem, WorkQueue,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);
const NOW: Duration = Duration::ZERO;

fn item(id: &str, priority: Priority) -> WorkItem {
    WorkItem {
        id: id.to_owned(),
        pipeline: "support".to_owned(),
        run: "support-1".to_owned(),
        step: "embed".to_owned(),
        attempt: 1,
        fence: 10,
        priority,
        class: "cpu".to_owned(),
        payload: json!({"of": id}),
        traceparent: None,
    }
}

async fn publish(bus: &LocalBus, id: &str) -> Published {
    bus.publish(item(id, Priority::P1)).await.unwrap()
}

async fn pull(bus: &LocalBus, wait: Duration) -> Option<Lease> {
    bus.pull("cpu", wait).await.unwrap()
}

async fn take(bus: &LocalBus) -> Lease {
    pull(bus, SOON).await.expect("an item within 20 s")
}

fn done(n: u64) -> Outcome {
    Outcome::Done { output: json!(n) }
}

fn claimed(id: &str, attempt: u32) -> Event {
    Event::Claimed {
        id: id.to_owned(),
        attempt,
    }
}

fn finished(id: &str, attempt: u32, outcome: Outcome) -> Event {
    Event::Finished {
        id: id.to_owned(),
        attempt,
        outcome,
    }
}

/// All that was said up to now.
fn heard(events: &mut Events) -> Vec<Event> {
    // Unconstrained, or tokio feigns silence after 128 events.
    let next = || {
        tokio::task::unconstrained(events.next())
            .now_or_never()
            .flatten()
    };
    std::iter::from_fn(next).collect()
}
