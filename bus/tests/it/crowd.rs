//! Listeners that are slow.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt};
use loci_bus::{Event, Unit};

use crate::contract::{Bed, NOW, SOON, claimed, done, finished, publish, pull};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listener_that_does_not_listen_holds_nobody_up_and_misses_no_outcome() {
    const ITEMS: u64 = 200;
    const STEPS: u64 = 500;
    let bus = crate::bed().await;
    let mut slow = bus.events().await.unwrap();
    drop(bus.events().await.unwrap());
    for i in 0..ITEMS {
        publish(&bus, &format!("item-{i}")).await;
    }
    let worker = |bus: Bed| async move {
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
    // Unconstrained, or tokio feigns silence after 128 events.
    let next = || {
        tokio::task::unconstrained(slow.next())
            .now_or_never()
            .flatten()
    };
    let events: Vec<Event> = std::iter::from_fn(next).collect();
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
