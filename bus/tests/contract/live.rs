//! From publication to delivery.

use std::time::{Duration, Instant};

use futures::StreamExt;
use loci_bus::{BusError, Event, Outcome, Priority, Published, Recorded, WorkItem};
use serde_json::json;

use super::{NOW, SOON, claimed, done, finished, heard, item, publish, pull, take};

#[tokio::test]
async fn an_id_is_live_once_until_its_outcome() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    assert_eq!(publish(&bus, "a").await, Published::Accepted);
    assert_eq!(publish(&bus, "a").await, Published::Duplicate);
    let lease = take(&bus).await;
    assert_eq!(lease.item(), &item("a", Priority::P1));
    assert_eq!(publish(&bus, "a").await, Published::Duplicate);
    assert!(pull(&bus, NOW).await.is_none());
    assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
    assert_eq!(publish(&bus, "a").await, Published::Accepted);
    assert_eq!(
        take(&bus).await.finish(done(2)).await.unwrap(),
        Recorded::Won
    );
    let each = |n| [claimed("a", 1), finished("a", 1, done(n))];
    assert_eq!(heard(&mut events, 4).await, [each(1), each(2)].concat());
    drop(bus);
    assert_eq!(events.next().await, None, "the events end with the bus");
}

#[tokio::test]
async fn urgent_items_come_first_then_the_oldest_of_the_workers_class() {
    use Priority::{P0, P1, P2};
    let bus = crate::bed().await;
    for (id, priority) in [
        ("a", P2),
        ("b", P1),
        ("c", P0),
        ("d", P2),
        ("e", P0),
        ("f", P1),
    ] {
        bus.publish(item(id, priority)).await.unwrap();
    }
    let gpu = WorkItem {
        class: "gpu".to_owned(),
        ..item("g", P0)
    };
    bus.publish(gpu).await.unwrap();
    let mut order = String::new();
    while let Some(lease) = pull(&bus, NOW).await {
        order.push_str(&lease.item().id);
        lease.finish(done(0)).await.unwrap();
    }
    assert_eq!(order, "cebfad");
    assert_eq!(bus.pull("gpu", NOW).await.unwrap().unwrap().item().id, "g");
}

#[tokio::test]
async fn what_no_bus_could_carry_is_refused_by_name() {
    let bus = crate::bed().await;
    for bad in ["", "a.b", "a b", "a*", "a>", "a\n", &"x".repeat(257)] {
        let error = bus.publish(item(bad, Priority::P0)).await.unwrap_err();
        assert!(
            matches!(error, BusError::Name { field: "id", .. }),
            "{error}"
        );
    }
    let class = WorkItem {
        class: "g.pu".to_owned(),
        ..item("a", Priority::P0)
    };
    assert!(
        bus.publish(class)
            .await
            .unwrap_err()
            .to_string()
            .contains("the class of a work item")
    );
    let large = WorkItem {
        payload: json!("x".repeat(2 << 20)),
        ..item("a", Priority::P0)
    };
    let error = bus.publish(large).await.unwrap_err();
    assert!(matches!(error, BusError::TooLarge { .. }), "{error}");

    let mut events = bus.events().await.unwrap();
    publish(&bus, "a").await;
    let output = json!("x".repeat(2 << 20));
    take(&bus)
        .await
        .finish(Outcome::Done { output })
        .await
        .unwrap();
    let last = heard(&mut events, 2).await.pop().unwrap();
    let Event::Finished {
        outcome:
            Outcome::Failed {
                reason,
                retryable: false,
                ..
            },
        ..
    } = last
    else {
        panic!("{last:?}");
    };
    assert_eq!(reason, "OutputTooLarge");
}

#[tokio::test]
async fn a_lease_lost_by_drop_or_panic_is_delivered_again() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    publish(&bus, "a").await;
    drop(take(&bus).await);
    assert!(pull(&bus, NOW).await.is_none(), "not without a pause");
    assert_eq!(publish(&bus, "a").await, Published::Duplicate);

    let lease = take(&bus).await;
    assert_eq!((lease.item().attempt, lease.item().fence), (2, 11));
    let worker = tokio::spawn(async move {
        let _held = lease;
        panic!("a bug in a step");
    });
    assert!(worker.await.unwrap_err().is_panic());

    let lease = take(&bus).await;
    assert_eq!((lease.item().attempt, lease.item().fence), (3, 12));
    assert_eq!(lease.finish(done(3)).await.unwrap(), Recorded::Won);
    let expected = [
        claimed("a", 1),
        claimed("a", 2),
        claimed("a", 3),
        finished("a", 3, done(3)),
    ];
    assert_eq!(heard(&mut events, 4).await, expected);
}

#[tokio::test]
async fn a_waiting_worker_is_woken_by_what_arrives_and_by_what_falls_due() {
    let bus = crate::bed().await;
    let start = Instant::now();
    let (lease, _) = tokio::join!(take(&bus), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        publish(&bus, "a").await
    });
    // Two wait while the item is lost; the one woken first gives up before it falls due.
    let (early, lease, ()) =
        tokio::join!(pull(&bus, Duration::from_millis(60)), take(&bus), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(lease);
        });
    assert!(early.is_none());
    assert_eq!(lease.item().attempt, 2);
    lease.finish(done(1)).await.unwrap();
    assert!(start.elapsed() < SOON / 2, "woken by the timeout only");

    // A worker that stops waiting takes nothing along.
    assert!(
        tokio::time::timeout(Duration::from_millis(20), bus.pull("cpu", SOON))
            .await
            .is_err()
    );
    publish(&bus, "b").await;
    assert_eq!(take(&bus).await.item().id, "b");
}
