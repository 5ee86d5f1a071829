//! Many items, many workers that come and go.

use std::collections::HashMap;

use futures::StreamExt;
use loci_bus::{Event, Published, Recorded};

use super::{Bed, NOW, SOON, done, publish, pull, take};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn among_many_workers_that_come_and_go_every_item_ends_once() {
    const ITEMS: usize = 200;
    let bus = crate::bed().await;
    let mut events = bus.events().await.unwrap();
    let worker = |bus: Bed, n: usize| async move {
        loop {
            let lease = take(&bus).await;
            if lease.item().id == "end" {
                return lease.finish(done(0)).await.unwrap();
            }
            // A third of the first attempts is lost.
            if lease.item().attempt == 1 && lease.item().id.len() % 3 == n % 3 {
                continue;
            }
            tokio::task::yield_now().await;
            assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
        }
    };
    let workers: Vec<_> = (0..16)
        .map(|n| tokio::spawn(worker(bus.clone(), n)))
        .collect();
    for i in 0..ITEMS {
        assert_eq!(
            publish(&bus, &format!("item-{i}")).await,
            Published::Accepted
        );
    }
    let mut ended: HashMap<String, usize> = HashMap::new();
    while ended.len() < ITEMS {
        let event = tokio::time::timeout(SOON, events.next())
            .await
            .unwrap()
            .unwrap();
        if let Event::Finished { id, outcome, .. } = event {
            assert_eq!(outcome, done(1));
            *ended.entry(id).or_default() += 1;
        }
    }
    assert!(ended.values().all(|n| *n == 1));
    for _ in &workers {
        publish(&bus, "end").await;
        // One "end" at a time is live; whoever gets it stops.
        while !matches!(events.next().await, Some(Event::Finished { .. })) {}
    }
    for worker in workers {
        let last = tokio::time::timeout(SOON, worker).await.unwrap();
        assert_eq!(last.unwrap(), Recorded::Won);
    }
    assert!(pull(&bus, NOW).await.is_none());
}
