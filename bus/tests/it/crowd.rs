//! Many items, many workers, slow listeners.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use loci_bus::{Dispatcher, Event, LocalBus, Published, Recorded, Unit};

use crate::{NOW, SOON, claimed, done, finished, heard, publish, pull, take};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listener_that_does_not_listen_holds_nobody_up_and_misses_no_outcome() {
    const ITEMS: u64 = 200;
    const STEPS: u64 = 500;
    let bus = LocalBus::new();
    let mut slow = bus.events().await.unwrap();
    drop(bus.events().await.unwrap());
    for i in 0..ITEMS {
        publish(&bus, &format!("item-{i}")).await;
    }
    let worker = |bus: LocalBus| async move {
        while let Some(lease) = pull(&bus, NOW).await {
            let reporter = lease.reporter();
            let work = move || {
                (1..=STEPS).for_each(|i| reporter.progress(i, Some(STEPS), Unit::Tokens, None));
            };
            tokio::task::spawn_blocking(work).await.unwrap();
            lease.finish(done(STEPS)).await.unwrap();
        }
    };
    let workers: Vec<_> = (0..4).map(|_| tokio::spawn(worker(bus.clone()))).collect();
    for worker in workers {
        tokio::time::timeout(SOON, worker).await.unwrap().unwrap();
    }
    let events = heard(&mut slow);
    assert_eq!(
        events.len() as u64,
        3 * ITEMS,
        "one claim, the latest progress, one outcome each"
    );
    let mut by_item: HashMap<String, Vec<Event>> = HashMap::new();
    for event in events {
        let (Event::Claimed { id, .. } | Event::Finished { id, .. }) = &event else {
            let Event::Progress(progress) = &event else {
                unreachable!()
            };
            assert_eq!(progress.done, STEPS);
            by_item.get_mut(&progress.id).unwrap().push(event);
            continue;
        };
        by_item.entry(id.clone()).or_default().push(event);
    }
    for (id, events) in by_item {
        assert_eq!(events[0], claimed(&id, 1));
        assert_eq!(events[2], finished(&id, 1, done(STEPS)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn among_many_workers_that_come_and_go_every_item_ends_once() {
    const ITEMS: usize = 600;
    let bus = LocalBus::new();
    let mut events = bus.events().await.unwrap();
    let worker = |bus: LocalBus, n: usize| async move {
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
        while heard(&mut events)
            .iter()
            .all(|e| !matches!(e, Event::Finished { .. }))
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for worker in workers {
        let last = tokio::time::timeout(SOON, worker).await.unwrap();
        assert_eq!(last.unwrap(), Recorded::Won);
    }
    assert!(pull(&bus, NOW).await.is_none());
}
