//! What an earlier configuration made on the server is brought to what this build wants, with all that it holds.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use loci_bus::{BusError, Dispatcher, Priority, Published, Recorded, WorkQueue};
use loci_nats::{NatsBus, NatsOptions};
use loci_testbed::Nats;

use crate::connect;
use crate::contract::{SOON, done, item};

const JOBS: &str = "LOCI_JOBS";
const ITEMS: &str = "LOCI_ITEMS";
const CONSUMERS: [&str; 3] = ["cpu-p0", "cpu-p1", "cpu-p2"];

/// A connection as anybody makes it who looks after the server by hand.
async fn by_hand(server: &Nats) -> Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

/// No more than makes it the stream of jobs.
fn jobs() -> stream::Config {
    stream::Config {
        name: JOBS.to_owned(),
        subjects: vec!["job.v1.>".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    }
}

/// No more than makes it the stream of items.
fn items() -> stream::Config {
    stream::Config {
        name: ITEMS.to_owned(),
        subjects: vec!["item.v1.>".to_owned()],
        ..stream::Config::default()
    }
}

/// A consumer that hands out one item at a time, and each three times.
fn narrow(priority: &str) -> pull::Config {
    pull::Config {
        durable_name: Some(format!("cpu-{priority}")),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_deliver: 3,
        max_ack_pending: 1,
        filter_subject: format!("job.v1.cpu.{priority}.>"),
        ..pull::Config::default()
    }
}

/// What there is, without what a server notes of itself.
async fn made(context: &Context) -> (Vec<stream::Config>, Vec<consumer::Config>) {
    let (mut streams, mut consumers) = (Vec::new(), Vec::new());
    for name in [JOBS, ITEMS] {
        let found = context.get_stream(name).await.unwrap();
        let mut config = found.cached_info().config.clone();
        config.metadata.clear();
        streams.push(config);
    }
    for name in CONSUMERS {
        let found: PullConsumer = context.get_consumer_from_stream(name, JOBS).await.unwrap();
        let mut config = found.cached_info().config.clone();
        config.metadata.clear();
        consumers.push(config);
    }
    (streams, consumers)
}

async fn publish(bus: &NatsBus, id: &str) -> Result<Published, BusError> {
    bus.publish(item(id, Priority::P1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_consumers_of_an_earlier_configuration_become_as_on_a_new_server() {
    let (old, new) = (Nats::start(), Nats::start());
    let (of_old, of_new) = (by_hand(&old).await, by_hand(&new).await);
    of_old.create_stream(jobs()).await.unwrap();
    of_old.create_stream(items()).await.unwrap();
    for priority in ["p0", "p1", "p2"] {
        of_old
            .create_consumer_on_stream(narrow(priority), JOBS)
            .await
            .unwrap();
    }
    let before = made(&of_old).await;

    for server in [&old, &new] {
        let bus = connect(server).await;
        assert_eq!(publish(&bus, "a").await.unwrap(), Published::Accepted);
        let lease = bus.pull("cpu", SOON).await.unwrap().unwrap();
        assert_eq!(lease.item().id, "a");
        assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
    }
    let (now, wanted) = (made(&of_old).await, made(&of_new).await);
    assert_ne!(before, wanted, "it was another configuration");
    assert_eq!(now.0, wanted.0);
    assert_eq!(now.1, wanted.1);

    // What matters of it, whatever servers make of the rest.
    let [jobs, items] = &now.0[..] else {
        panic!("{now:?}");
    };
    assert!(jobs.discard_new_per_subject && jobs.max_messages_per_subject == 1);
    assert!(items.allow_direct && items.allow_message_ttl);
    for consumer in &now.1 {
        assert_eq!(consumer.ack_wait, Duration::from_secs(2), "as configured");
        assert!(consumer.max_deliver <= 0 && consumer.max_ack_pending > 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_and_held_before_an_upgrade_is_so_after_it() {
    let server = Nats::start();
    let context = by_hand(&server).await;
    // As published by a planner that is gone, whose silence lasted longer and whose limits were narrower.
    let earlier = NatsBus::connect(NatsOptions::new(server.url(), "earlier"));
    let earlier = earlier.await.unwrap();
    for id in ["held", "queued"] {
        assert_eq!(publish(&earlier, id).await.unwrap(), Published::Accepted);
    }
    drop(earlier);
    context.update_stream(jobs()).await.unwrap();
    let consumer = context.create_consumer_on_stream(narrow("p1"), JOBS);
    consumer.await.unwrap();
    let worker = connect(&server).await;
    let held = worker.pull("cpu", SOON).await.unwrap().unwrap();
    assert_eq!(held.item().id, "held");

    // Another build begins: what was published before is under way, and is one of many again.
    let planner = connect(&server).await;
    assert_eq!(
        publish(&planner, "held").await.unwrap(),
        Published::Duplicate
    );
    let queued = worker.pull("cpu", SOON).await.unwrap().unwrap();
    assert_eq!((&*queued.item().id, queued.item().attempt), ("queued", 1));
    assert!(!held.cancelled().is_cancelled());
    for lease in [held, queued] {
        assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
    }
}
