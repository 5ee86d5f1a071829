//! The promises of the bus, for every form of it: the crate that tests one says in `crate::bed` how to get it.

mod comers;
mod ends;
mod live;
mod way;

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use loci_bus::{
    Dispatcher, Event, Events, Lease, Outcome, Priority, Published, WorkItem, WorkQueue,
};
use serde_json::json;

pub trait Bus: Dispatcher + WorkQueue {}

impl<T: Dispatcher + WorkQueue> Bus for T {}

/// A bus, and what it needs to live.
#[derive(Clone)]
pub struct Bed {
    bus: Arc<dyn Bus>,
    _server: Arc<dyn Any + Send + Sync>,
}

impl Bed {
    pub fn new(bus: impl Bus + 'static, server: impl Any + Send + Sync) -> Self {
        Self {
            bus: Arc::new(bus),
            _server: Arc::new(server),
        }
    }
}

impl Deref for Bed {
    type Target = dyn Bus;

    fn deref(&self) -> &Self::Target {
        &*self.bus
    }
}

pub const SOON: Duration = Duration::from_secs(20);
pub const NOW: Duration = Duration::ZERO;

pub fn item(id: &str, priority: Priority) -> WorkItem {
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
        term: 0,
        traceparent: None,
    }
}

pub async fn publish(bus: &Bed, id: &str) -> Published {
    bus.publish(item(id, Priority::P1)).await.unwrap()
}

pub async fn pull(bus: &Bed, wait: Duration) -> Option<Lease> {
    bus.pull("cpu", wait).await.unwrap()
}

pub async fn take(bus: &Bed) -> Lease {
    pull(bus, SOON).await.expect("an item within 20 s")
}

pub fn done(n: u64) -> Outcome {
    Outcome::Done { output: json!(n) }
}

pub fn claimed(id: &str, attempt: u32) -> Event {
    Event::Claimed {
        id: id.to_owned(),
        attempt,
    }
}

pub fn finished(id: &str, attempt: u32, outcome: Outcome) -> Event {
    Event::Finished {
        id: id.to_owned(),
        attempt,
        outcome,
    }
}

/// The next `n` things that are said, and nothing more up to then.
pub async fn heard(events: &mut Events, n: usize) -> Vec<Event> {
    let mut heard = Vec::new();
    while heard.len() < n {
        let next = tokio::time::timeout(SOON, events.next()).await;
        let Ok(Some(event)) = next else {
            panic!("only {heard:?} of {n} events within 20 s");
        };
        heard.push(event);
    }
    assert_eq!(
        events.next().now_or_never().flatten(),
        None,
        "after {heard:?}"
    );
    heard
}
