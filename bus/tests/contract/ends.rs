//! Cancellation, and attempts that lost their item.

use std::time::Duration;

use loci_bus::{Cancelled, Event, Outcome, Priority, Published, Recorded, Unit, WorkItem};

use super::{NOW, SOON, claimed, done, finished, heard, item, publish, pull, take};

#[tokio::test]
async fn cancelled_in_the_queue_an_item_never_reaches_a_worker() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    assert_eq!(bus.cancel("a").await.unwrap(), Cancelled::NotLive);
    publish(&bus, "a").await;
    assert_eq!(bus.cancel("a").await.unwrap(), Cancelled::Queued);
    assert!(pull(&bus, NOW).await.is_none());
    assert_eq!(
        heard(&mut events, 1).await,
        [finished("a", 1, Outcome::Cancelled)]
    );

    // What is published later is another matter.
    assert_eq!(publish(&bus, "a").await, Published::Accepted);
    let lease = take(&bus).await;
    assert!(!lease.cancelled().is_cancelled());
    // Cancelled while it waits for its redelivery.
    drop(lease);
    // A bus may notice a moment later that the lease is gone.
    let attempt = match bus.cancel("a").await.unwrap() {
        Cancelled::Queued => 2,
        Cancelled::Running => 1,
        Cancelled::NotLive => panic!("it is live"),
    };
    assert_eq!(
        heard(&mut events, 2).await,
        [claimed("a", 1), finished("a", attempt, Outcome::Cancelled)]
    );
    assert!(pull(&bus, Duration::from_millis(300)).await.is_none());
}

#[tokio::test]
async fn cancelled_in_a_workers_hands_an_item_ends_when_the_worker_lets_go() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    for (id, outcome) in [
        ("a", Some(Outcome::Cancelled)),
        ("b", Some(done(1))),
        ("c", None),
    ] {
        publish(&bus, id).await;
        let lease = take(&bus).await;
        let token = lease.cancelled();
        assert_eq!(bus.cancel(id).await.unwrap(), Cancelled::Running);
        tokio::time::timeout(SOON, token.cancelled()).await.unwrap();
        assert_eq!(
            heard(&mut events, 1).await,
            [claimed(id, 1)],
            "the worker has it still"
        );
        match outcome.clone() {
            Some(outcome) => assert_eq!(lease.finish(outcome).await.unwrap(), Recorded::Won),
            None => drop(lease),
        }
        let expected = finished(id, 1, outcome.unwrap_or(Outcome::Cancelled));
        assert_eq!(heard(&mut events, 1).await, [expected]);
    }
    assert!(
        pull(&bus, Duration::from_millis(300)).await.is_none(),
        "nothing is delivered again"
    );
}

#[tokio::test]
async fn what_is_forgotten_is_delivered_to_nobody_and_its_holder_is_refused() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    let of = |id: &str, pipeline: &str| WorkItem {
        pipeline: pipeline.to_owned(),
        ..item(id, Priority::P1)
    };
    let (gone, other) = ("agents/shop.v2", "agents/shop");
    bus.publish(of("held", gone)).await.unwrap();
    let held = take(&bus).await;
    bus.publish(of("queued", gone)).await.unwrap();
    bus.publish(of("others", other)).await.unwrap();
    assert_eq!(heard(&mut events, 1).await, [claimed("held", 1)]);

    bus.forget(gone).await.unwrap();
    bus.forget("agents/never-was").await.unwrap();
    let told = held.cancelled().cancelled_owned();
    tokio::time::timeout(SOON, told).await.unwrap();
    assert_eq!(held.finish(done(1)).await.unwrap(), Recorded::Stale);
    let lease = take(&bus).await;
    assert_eq!(lease.item().id, "others");
    assert_eq!(lease.finish(done(2)).await.unwrap(), Recorded::Won);
    assert!(pull(&bus, NOW).await.is_none());
    let expected = [claimed("others", 1), finished("others", 1, done(2))];
    assert_eq!(heard(&mut events, 2).await, expected);

    // What comes later, of a pipeline of the same name, is another matter.
    for id in ["held", "queued"] {
        let published = bus.publish(of(id, gone)).await.unwrap();
        assert_eq!(published, Published::Accepted);
        let lease = take(&bus).await;
        assert_eq!(lease.finish(done(3)).await.unwrap(), Recorded::Won);
    }
}

#[tokio::test]
async fn an_attempt_that_lost_the_item_is_refused() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    publish(&bus, "a").await;
    let stale = take(&bus).await;
    assert!(!bus.redeliver("a", 7).await.unwrap());
    assert!(bus.redeliver("a", 1).await.unwrap());
    assert!(!bus.redeliver("a", 1).await.unwrap(), "it waits already");
    tokio::time::timeout(SOON, stale.cancelled().cancelled_owned())
        .await
        .unwrap();
    let second = take(&bus).await;
    assert_eq!(second.item().attempt, 2);
    stale.progress(99, None, Unit::Chunks, None);
    assert_eq!(stale.finish(done(1)).await.unwrap(), Recorded::Stale);
    second.progress(1, Some(2), Unit::Chunks, Some("embedding".to_owned()));
    let mut all = heard(&mut events, 3).await;
    assert!(bus.redeliver("a", 2).await.unwrap());
    let third = take(&bus).await;
    assert_eq!(third.finish(done(3)).await.unwrap(), Recorded::Won);
    // The same id, attempt and fence again are still another delivery.
    let again = WorkItem {
        attempt: 2,
        fence: 11,
        ..item("a", Priority::P1)
    };
    bus.publish(again).await.unwrap();
    let lease = take(&bus).await;
    assert_eq!(second.finish(done(2)).await.unwrap(), Recorded::Stale);
    assert_eq!(lease.finish(done(4)).await.unwrap(), Recorded::Won);

    all.extend(heard(&mut events, 4).await);
    let progress: Vec<&Event> = all
        .iter()
        .filter(|e| matches!(e, Event::Progress(_)))
        .collect();
    assert!(
        matches!(progress[..], [Event::Progress(p)] if p.done == 1 && p.attempt == 2),
        "{all:?}"
    );
    let ends: Vec<&Event> = all
        .iter()
        .filter(|e| matches!(e, Event::Finished { .. }))
        .collect();
    assert_eq!(
        ends,
        [&finished("a", 3, done(3)), &finished("a", 2, done(4))]
    );
}
