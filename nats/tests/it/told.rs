//! What is told of the work and of who does it: how much waits, and which workers there are.

use std::time::{Duration, Instant};

use loci_bus::{Device, Dispatcher, Priority, Recorded, Trouble, WorkItem, WorkQueue, Worker};
use loci_nats::{Depth, NatsBus, Roster};
use loci_testbed::Nats;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connect;
use crate::contract::{SOON, done, item};

fn of(class: &str, id: &str, priority: Priority) -> WorkItem {
    WorkItem {
        class: class.to_owned(),
        ..item(id, priority)
    }
}

/// Waiting and held, of each priority of a class.
async fn depths(bus: &NatsBus, class: &str) -> Vec<(u64, u64)> {
    let mut found = bus.depths(Some(class)).await.unwrap();
    assert!(found.iter().all(|d| d.class == class), "{found:?}");
    found.sort_by_key(|d| d.priority);
    found.iter().map(|d| (d.waiting, d.held)).collect()
}

/// Waits until it is so: what a worker says of its end is not waited for by itself.
async fn until_depths(bus: &NatsBus, class: &str, expected: [(u64, u64); 3]) {
    let started = Instant::now();
    loop {
        let now = depths(bus, class).await;
        if now == expected {
            return;
        }
        assert!(started.elapsed() < SOON, "{now:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_what_is_held_is_counted_by_class_and_priority() {
    let server = Nats::start();
    let (planner, worker) = (connect(&server).await, connect(&server).await);
    assert!(depths(&worker, "cpu").await.is_empty(), "nothing was ever");
    for (class, id, priority) in [
        ("cpu", "a", Priority::P1),
        ("cpu", "b", Priority::P1),
        ("cpu", "c", Priority::P0),
        ("gpu-l4", "d", Priority::P2),
    ] {
        planner.publish(of(class, id, priority)).await.unwrap();
    }
    until_depths(&worker, "cpu", [(1, 0), (2, 0), (0, 0)]).await;
    until_depths(&worker, "gpu-l4", [(0, 0), (0, 0), (1, 0)]).await;

    let urgent = worker.pull("cpu", SOON).await.unwrap().unwrap();
    let next = worker.pull("cpu", SOON).await.unwrap().unwrap();
    assert_eq!((&*urgent.item().id, &*next.item().id), ("c", "a"));
    until_depths(&planner, "cpu", [(0, 1), (1, 1), (0, 0)]).await;

    // All classes at once, as an operator tells them.
    let mut all = planner.depths(None).await.unwrap();
    all.retain(|d| d.waiting + d.held > 0);
    all.sort_by_key(|d| (d.class.clone(), d.priority));
    let depth = |class: &str, priority, waiting, held| Depth {
        class: class.to_owned(),
        priority,
        waiting,
        held,
    };
    let expected = [
        depth("cpu", Priority::P0, 0, 1),
        depth("cpu", Priority::P1, 1, 1),
        depth("gpu-l4", Priority::P2, 1, 0),
    ];
    assert_eq!(all, expected);

    for lease in [urgent, next] {
        assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
    }
    until_depths(&planner, "cpu", [(0, 0), (1, 0), (0, 0)]).await;
    // What is cancelled waits no longer, once somebody has asked for work.
    planner.cancel("b").await.unwrap();
    let nothing = worker.pull("cpu", Duration::from_secs(1)).await.unwrap();
    assert!(nothing.is_none());
    until_depths(&planner, "cpu", [(0, 0); 3]).await;
}

fn worker(id: &str, devices: Vec<Device>) -> Worker {
    Worker {
        id: id.to_owned(),
        class: "gpu-l4".to_owned(),
        slots: 2,
        version: "1.2.3".to_owned(),
        devices,
        ..Worker::default()
    }
}

/// The workers of the roster once it is as wanted.
async fn workers(
    roster: &mut tokio::sync::watch::Receiver<Roster>,
    wanted: impl Fn(&[Worker]) -> bool,
) -> Vec<Worker> {
    let all = |now: &Roster| -> Option<Vec<Worker>> {
        let all = now.as_ref()?;
        Some(all.values().cloned().collect())
    };
    let found = roster.wait_for(|now| all(now).is_some_and(|all| wanted(&all)));
    let found = tokio::time::timeout(SOON, found).await;
    all(&found.expect("within 20 s").unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_its_devices_are_in_the_roster_until_it_leaves() {
    let server = Nats::start();
    let (planner, bus) = (connect(&server).await, connect(&server).await);
    let device = |name: &str, memory_bytes| Device {
        name: name.to_owned(),
        memory_bytes,
        compute_capability: "8.9".to_owned(),
        ..Device::default()
    };
    let devices = vec![
        device("NVIDIA L4", 24 << 30),
        device("NVIDIA L40S", 48 << 30),
    ];
    let with = worker("with", devices);
    let without = worker("without", Vec::new());
    let stop = CancellationToken::new();
    let advertise = |worker: &Worker, stop: CancellationToken| {
        let (bus, (changes, told)) = (bus.clone(), watch::channel(worker.clone()));
        let advertised = tokio::spawn(async move { bus.advertise(told, &stop).await });
        (changes, advertised)
    };
    let (changes, leaves) = advertise(&with, stop.clone());
    // One that is there before anybody asks, and one that comes later.
    let mut roster = planner.roster();
    let found = workers(&mut roster, |all| all.len() == 1).await;
    assert_eq!(found, std::slice::from_ref(&with));
    let stays = CancellationToken::new();
    let (nothing_changes, other) = advertise(&without, stays.clone());
    drop(nothing_changes);
    let found = workers(&mut roster, |all| all.len() == 2).await;
    assert_eq!(found, [with.clone(), without.clone()]);

    // One that cannot go on says so at once, not with its next beat.
    let failed = Worker {
        trouble: Some(Trouble {
            reason: "DeviceFailed".to_owned(),
            message: "NVIDIA L4 failed twice".to_owned(),
        }),
        idle: true,
        ..with
    };
    changes.send_replace(failed.clone());
    let found = workers(&mut roster, |all| all.iter().any(|worker| worker.idle)).await;
    assert_eq!(found, [failed, without.clone()]);

    stop.cancel();
    leaves.await.unwrap().unwrap();
    let found = workers(&mut roster, |all| all.len() == 1).await;
    assert_eq!(found, [without]);
    stays.cancel();
    other.await.unwrap().unwrap();
}
