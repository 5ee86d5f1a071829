//! Workers that make way for what is more urgent.

use std::time::{Duration, Instant};

use loci_bus::{Cancelled, Outcome, Priority, Recorded};

use super::{Bed, NOW, SOON, claimed, done, finished, heard, item, publish, pull, take};

/// Whether that is told within 20 s: a server may count a moment later.
async fn told(bus: &Bed, than: Priority, expected: bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < SOON {
        if bus.urgent("cpu", than).await.unwrap() == expected {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn what_is_given_back_is_due_at_once_as_the_next_attempt() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    publish(&bus, "a").await;
    let start = Instant::now();
    for attempt in 1..8 {
        let lease = take(&bus).await;
        let fence = u64::from(attempt) + 9;
        assert_eq!((lease.item().attempt, lease.item().fence), (attempt, fence));
        lease.give_back();
    }
    // As so many losses it would wait for more than 12 s.
    assert!(start.elapsed() < Duration::from_secs(10));
    let lease = take(&bus).await;
    drop(lease);
    assert!(pull(&bus, NOW).await.is_none(), "lost, it is not");
    let lease = take(&bus).await;
    assert_eq!(lease.finish(done(9)).await.unwrap(), Recorded::Won);
    let mut expected: Vec<_> = (1..=9).map(|attempt| claimed("a", attempt)).collect();
    expected.push(finished("a", 9, done(9)));
    assert_eq!(heard(&mut events, 10).await, expected);
}

#[tokio::test]
async fn what_is_more_urgent_is_told_of_and_had_first() {
    use Priority::{P0, P1, P2};
    let bus = crate::bed().await;
    for than in Priority::ALL {
        assert!(!bus.urgent("cpu", than).await.unwrap());
    }
    bus.publish(item("long", P2)).await.unwrap();
    assert!(told(&bus, P2, false).await && told(&bus, P0, false).await);
    let long = take(&bus).await;
    bus.publish(item("refresh", P1)).await.unwrap();
    assert!(told(&bus, P2, true).await);
    assert!(!bus.urgent("cpu", P1).await.unwrap());
    assert!(!bus.urgent("gpu", P2).await.unwrap());

    long.give_back();
    let pull_urgent = async |wait| bus.pull_at_least("cpu", P1, wait).await.unwrap();
    let refresh = pull_urgent(SOON).await.unwrap();
    assert_eq!(refresh.item().id, "refresh");
    assert!(told(&bus, P2, false).await);
    // What is less urgent waits, though nothing else does.
    assert!(pull_urgent(Duration::from_millis(300)).await.is_none());
    refresh.finish(done(1)).await.unwrap();
    let long = take(&bus).await;
    assert_eq!((long.item().id.as_str(), long.item().attempt), ("long", 2));
    // A worker that waits for what is urgent is woken by it.
    let (next, _) = tokio::join!(pull_urgent(SOON), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bus.publish(item("asked", P0)).await
    });
    assert_eq!(next.unwrap().item().id, "asked");
}

#[tokio::test]
async fn an_item_that_is_given_back_when_it_is_cancelled_or_lost_is_not_offered_again() {
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    publish(&bus, "a").await;
    let lease = take(&bus).await;
    assert_eq!(bus.cancel("a").await.unwrap(), Cancelled::Running);
    lease.give_back();
    let expected = [claimed("a", 1), finished("a", 1, Outcome::Cancelled)];
    assert_eq!(heard(&mut events, 2).await, expected);
    assert!(pull(&bus, Duration::from_millis(300)).await.is_none());

    publish(&bus, "b").await;
    let lost = take(&bus).await;
    assert!(bus.redeliver("b", 1).await.unwrap());
    let second = take(&bus).await;
    lost.give_back();
    assert!(pull(&bus, Duration::from_millis(300)).await.is_none());
    assert_eq!(second.finish(done(2)).await.unwrap(), Recorded::Won);
    let expected = [claimed("b", 1), claimed("b", 2), finished("b", 2, done(2))];
    assert_eq!(heard(&mut events, 3).await, expected);
}
