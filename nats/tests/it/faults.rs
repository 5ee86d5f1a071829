//! Servers that die, forget and refuse; workers that fall silent; two planners at once.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use loci_bus::{
    BusError, Cancelled, Dispatcher, Event, Events, Lease, Outcome, Priority, Published, Recorded,
    WorkQueue,
};
use loci_nats::{ConnectError, NatsBus, NatsOptions};
use loci_testbed::Nats;

use crate::connect;
use crate::contract::{SOON, claimed, done, finished, heard, item};

async fn take(bus: &NatsBus) -> Lease {
    bus.pull("cpu", SOON)
        .await
        .unwrap()
        .expect("an item within 20 s")
}

async fn publish(bus: &NatsBus, id: &str) -> Published {
    bus.publish(item(id, Priority::P1)).await.unwrap()
}

/// What is said until this item's end.
async fn until_finished(events: &mut Events, id: &str) -> Vec<Event> {
    let mut heard = Vec::new();
    let end = |e: &Event| matches!(e, Event::Finished { id: ended, .. } if ended == id);
    while !heard.last().is_some_and(end) {
        let event = tokio::time::timeout(SOON, events.next()).await;
        heard.push(event.expect("its end within 20 s").unwrap());
    }
    heard
}

/// A planner that has just connected publishes again what its server may have lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_it_is_published_again_has_ended() {
    let server = Nats::start();
    for _ in 0..100 {
        let planner = connect(&server).await;
        publish(&planner, "a").await;
        assert_eq!(planner.cancel("a").await.unwrap(), Cancelled::Queued);
        let again = planner.pull("cpu", Duration::ZERO).await.unwrap();
        assert!(again.is_none(), "it was cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_item_of_a_worker_that_falls_silent_goes_to_another_and_its_own_end_is_refused() {
    let server = Nats::start();
    let (planner, other) = (connect(&server).await, connect(&server).await);
    let mut events = planner.events().await.unwrap();
    publish(&planner, "a").await;
    let url = server.url();
    let (holds, held) = tokio::sync::oneshot::channel();
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    // Stopped as a whole, like a process: its runtime has one thread, and that one waits.
    let silent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = NatsOptions {
                ack_wait: Duration::from_secs(2),
                ..NatsOptions::new(url, "silent")
            };
            let bus = NatsBus::connect(options).await.unwrap();
            let lease = take(&bus).await;
            holds.send(()).unwrap();
            woken.recv().unwrap();
            let token = lease.cancelled();
            let recorded = lease.finish(done(1)).await.unwrap();
            (recorded, token.is_cancelled())
        })
    });
    held.await.unwrap();
    let lease = take(&other).await;
    assert_eq!((lease.item().attempt, lease.item().fence), (2, 11));
    wake.send(()).unwrap();
    let (recorded, _) = silent.join().unwrap();
    assert_eq!(recorded, Recorded::Stale);
    assert_eq!(lease.finish(done(2)).await.unwrap(), Recorded::Won);
    let expected = [claimed("a", 1), claimed("a", 2), finished("a", 2, done(2))];
    assert_eq!(heard(&mut events, 3).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_keeps_its_item_for_as_long_as_it_takes() {
    let server = Nats::start();
    let bus = connect(&server).await;
    publish(&bus, "a").await;
    let lease = take(&bus).await;
    // Twice the silence that would lose it.
    assert!(
        bus.pull("cpu", Duration::from_secs(4))
            .await
            .unwrap()
            .is_none()
    );
    assert!(!lease.cancelled().is_cancelled());
    assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_loses_nothing_and_nobody_has_to_do_anything() {
    let server = Nats::start();
    let (planner, worker) = (connect(&server).await, connect(&server).await);
    let mut events = planner.events().await.unwrap();
    for id in ["a", "b"] {
        publish(&planner, id).await;
    }
    let lease = take(&worker).await;
    server.kill();
    // While nobody answers: an outcome is held until somebody does, and the rest fails by name.
    let (recorded, refused) = tokio::join!(lease.finish(done(1)), async {
        let refused = planner.publish(item("c", Priority::P1)).await;
        server.start_again();
        refused
    });
    assert!(
        matches!(refused, Err(BusError::Unreachable { .. })),
        "{refused:?}"
    );
    assert_eq!(recorded.unwrap(), Recorded::Won);
    assert_eq!(
        take(&worker).await.finish(done(2)).await.unwrap(),
        Recorded::Won
    );
    let mut all = until_finished(&mut events, "b").await;
    all.retain(|event| matches!(event, Event::Finished { .. }));
    assert_eq!(all, [finished("a", 1, done(1)), finished("b", 1, done(2))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_lost_is_published_again_and_the_old_holder_is_told() {
    let server = Nats::start();
    let (planner, worker) = (connect(&server).await, connect(&server).await);
    let mut events = planner.events().await.unwrap();
    for id in ["a", "b"] {
        publish(&planner, id).await;
    }
    let old = take(&worker).await;
    assert_eq!(heard(&mut events, 1).await, [claimed("a", 1)]);
    server.kill();
    server.delete_store();
    server.start_again();
    let (mut fresh, mut fences) = (Vec::new(), HashMap::new());
    for _ in 0..2 {
        let lease = tokio::time::timeout(SOON, async {
            loop {
                // Until the server is back a pull may fail.
                if let Ok(Some(lease)) = worker.pull("cpu", SOON).await {
                    return lease;
                }
            }
        });
        let lease = lease.await.unwrap();
        fences.insert(lease.item().id.clone(), lease.item().fence);
        fresh.push(lease);
    }
    assert!(fences["a"] >= 10 && fences["b"] == 10, "{fences:?}");
    tokio::time::timeout(SOON, old.cancelled().cancelled_owned())
        .await
        .unwrap();
    assert_eq!(old.finish(done(0)).await.unwrap(), Recorded::Stale);
    for lease in fresh {
        assert_eq!(lease.finish(done(7)).await.unwrap(), Recorded::Won);
    }
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let event = tokio::time::timeout(SOON, events.next())
            .await
            .unwrap()
            .unwrap();
        if let Event::Finished { id, outcome, .. } = event {
            assert_eq!(outcome, done(7));
            ends.push(id);
        }
    }
    ends.sort();
    assert_eq!(ends, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_planners_one_publishes_and_both_hear() {
    let server = Nats::start();
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut heard_by = [one.events().await.unwrap(), two.events().await.unwrap()];
    for n in 0..20 {
        let id = format!("item-{n}");
        let both = tokio::join!(publish(&one, &id), publish(&two, &id));
        let accepted = [both.0, both.1]
            .iter()
            .filter(|p| **p == Published::Accepted)
            .count();
        assert_eq!(accepted, 1, "{both:?}");
        // The one that takes over cancels and redelivers what it has not published.
        let (lease, by) = (take(&one).await, if n % 2 == 0 { &one } else { &two });
        assert!(by.redeliver(&id, 1).await.unwrap());
        drop(lease);
        let lease = take(&two).await;
        assert_eq!(by.cancel(&id).await.unwrap(), Cancelled::Running);
        tokio::time::timeout(SOON, lease.cancelled().cancelled_owned())
            .await
            .unwrap();
        assert_eq!(
            lease.finish(Outcome::Cancelled).await.unwrap(),
            Recorded::Won
        );
        for events in &mut heard_by {
            let expected = [
                claimed(&id, 1),
                claimed(&id, 2),
                finished(&id, 2, Outcome::Cancelled),
            ];
            assert_eq!(heard(events, 3).await, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planner_whose_term_is_over_publishes_cancels_and_redelivers_nothing() {
    let server = Nats::start();
    let connection = connect(&server).await;
    let (old, new) = (connection.of_term(7), connect(&server).await.of_term(8));
    let superseded = |error: &BusError| {
        matches!(
            error,
            BusError::Superseded {
                term: 7,
                seen: 8,
                ..
            }
        )
    };
    assert_eq!(publish(&old, "a").await, Published::Accepted);
    assert_eq!(publish(&old, "b").await, Published::Accepted);
    // The next leader asks for the same step: it is under way, and from now on its own.
    assert_eq!(publish(&new, "a").await, Published::Duplicate);
    let again = old.publish(item("a", Priority::P1)).await.unwrap_err();
    assert!(superseded(&again), "{again}");
    assert!(again.to_string().contains("the work item a is of term 8"));
    let refused = old.cancel("a").await.unwrap_err();
    assert!(superseded(&refused), "{refused}");
    let lease = take(&connection).await;
    assert_eq!((lease.item().id.as_str(), lease.item().term), ("a", 8));
    assert!(superseded(&old.redeliver("a", 1).await.unwrap_err()));
    assert!(!lease.cancelled().is_cancelled());
    assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
    // Its end is remembered as well, so that nothing is done twice.
    let late = old.publish(item("a", Priority::P1)).await.unwrap_err();
    assert!(superseded(&late), "{late}");

    // An item that nobody else has touched is the old one's still; one without a term is over too.
    let lease = take(&connection).await;
    assert_eq!((lease.item().id.as_str(), lease.item().term), ("b", 7));
    assert!(old.redeliver("b", 1).await.unwrap());
    assert!(matches!(
        connection.cancel("b").await.unwrap_err(),
        BusError::Superseded {
            term: 0,
            seen: 7,
            ..
        }
    ));
    assert_eq!(new.cancel("b").await.unwrap(), Cancelled::Queued);
    drop(lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_named_with_its_reason() {
    let server = Nats::with("authorization { user: loci, password: right }");
    let wrong = server.url().replace("nats://", "nats://loci:wrong@");
    let bus = NatsBus::connect(NatsOptions::new(wrong, "test"))
        .await
        .unwrap();
    let error = bus
        .publish(item("a", Priority::P1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.to_lowercase().contains("authorization violation"),
        "{error}"
    );
    assert!(!error.contains("wrong@"), "{error}");
    let right = server.url().replace("nats://", "nats://loci:right@");
    let bus = NatsBus::connect(NatsOptions::new(right, "test"))
        .await
        .unwrap();
    assert_eq!(publish(&bus, "a").await, Published::Accepted);

    let options = NatsOptions {
        credentials: Some("/nowhere/loci.creds".into()),
        ..NatsOptions::new(server.url(), "test")
    };
    let error = NatsBus::connect(options).await.err().unwrap();
    assert!(matches!(error, ConnectError::File { .. }), "{error}");
    assert!(error.to_string().contains("/nowhere/loci.creds"), "{error}");
}
