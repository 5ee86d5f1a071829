//! What the metrics of operators and workers tell of the work over NATS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use loci_bus::{Device, Dispatcher, Outcome, Priority, Trouble, WorkItem, WorkQueue, Worker};
use loci_nats::{NatsBus, NatsOptions};
use loci_operator::{Own, Scope, serve_metrics};
use loci_testbed::Nats;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lasting::leftover;
use crate::site::{Site, free};

const PATIENCE: Duration = Duration::from_secs(30);

async fn told(address: SocketAddr) -> String {
    match reqwest::get(format!("http://{address}/metrics")).await {
        Ok(answer) => answer.text().await.unwrap(),
        Err(error) => error.to_string(),
    }
}

/// Waits until the metrics have all these lines.
async fn tells(address: SocketAddr, lines: &[&str]) -> String {
    let started = Instant::now();
    loop {
        let text = told(address).await;
        let there = |line: &&str| text.lines().any(|l| l == *line);
        if lines.iter().all(there) {
            return text;
        }
        assert!(started.elapsed() < PATIENCE, "{lines:#?} of:\n{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn item(id: &str, class: &str, priority: Priority) -> WorkItem {
    WorkItem {
        class: class.to_owned(),
        priority,
        ..leftover("agents/shop", id)
    }
}

fn device(name: &str, gigabytes: u64, capability: &str) -> Device {
    Device {
        name: name.to_owned(),
        memory_bytes: gigabytes << 30,
        compute_capability: capability.to_owned(),
        ..Device::default()
    }
}

fn worker() -> Worker {
    Worker {
        id: "worker-7".to_owned(),
        class: "gpu".to_owned(),
        slots: 2,
        version: "1.2.3".to_owned(),
        devices: vec![
            device("NVIDIA L4", 24, "8.9"),
            device("NVIDIA H100", 80, "9.0"),
            device("NVIDIA L4", 24, "8.9"),
        ],
        ..Worker::default()
    }
}

/// One of the same class whose card is too small for it.
fn refused() -> Worker {
    Worker {
        id: "worker-8".to_owned(),
        trouble: Some(Trouble {
            reason: "BelowClass".to_owned(),
            message: "NVIDIA T4 has 15.0 GiB of memory and the class asks for 20.0 GiB".to_owned(),
        }),
        idle: true,
        devices: vec![device("NVIDIA T4", 15, "7.5")],
        ..worker()
    }
}

/// Four items of two classes; a worker holds the most urgent.
async fn work(bus: &NatsBus) -> loci_bus::Lease {
    for (id, class, priority) in [
        ("a", "cpu", Priority::P1),
        ("b", "cpu", Priority::P1),
        ("c", "cpu", Priority::P0),
        ("d", "gpu", Priority::P2),
    ] {
        bus.publish(item(id, class, priority)).await.unwrap();
    }
    let lease = bus.pull("cpu", PATIENCE).await.unwrap().unwrap();
    assert_eq!(lease.item().id, "c");
    lease
}

const OF_CPU: [&str; 4] = [
    r#"loci_queue_depth{class="cpu",priority="p0"} 0"#,
    r#"loci_queue_depth{class="cpu",priority="p1"} 2"#,
    r#"loci_queue_held{class="cpu",priority="p0"} 1"#,
    r#"loci_queue_held{class="cpu",priority="p1"} 0"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_tells_what_waits_who_works_and_on_what() {
    let site = Site::new("metrics").await;
    let server = Nats::start();
    let options = NatsOptions::new(server.url(), "loci-test");
    let bus = NatsBus::connect(options.clone()).await.unwrap();
    let lease = work(&bus).await;
    let stop = CancellationToken::new();
    let advertised = [worker(), refused()].map(|worker| {
        let (told_by, leaves, told) = (bus.clone(), stop.clone(), watch::channel(worker).1);
        tokio::spawn(async move { told_by.advertise(told, &leaves).await })
    });

    let address = free();
    let running = site
        .start_with("", |o| {
            o.nats = Some(options);
            o.metrics = Some(address);
        })
        .await;
    let mut lines = OF_CPU.to_vec();
    lines.extend([
        r#"loci_queue_depth{class="gpu",priority="p2"} 1"#,
        r#"loci_queue_held{class="gpu",priority="p2"} 0"#,
        // One takes nothing.
        r#"loci_workers{class="gpu"} 1"#,
        r#"loci_worker_ready{class="gpu",worker="worker-7"} 1"#,
        r#"loci_worker_ready{class="gpu",worker="worker-8"} 0"#,
        r#"loci_worker_without_device{class="gpu",worker="worker-8",reason="BelowClass"} 1"#,
        r#"loci_worker_slots{class="gpu",worker="worker-7",version="1.2.3"} 2"#,
        // Two of a kind count together.
        r#"loci_worker_device_memory_bytes{class="gpu",worker="worker-7",device="NVIDIA L4",compute_capability="8.9"} 51539607552"#,
        r#"loci_worker_device_memory_bytes{class="gpu",worker="worker-7",device="NVIDIA H100",compute_capability="9.0"} 85899345920"#,
    ]);
    tells(address, &lines).await;

    let output = Value::Null;
    lease.finish(Outcome::Done { output }).await.unwrap();
    stop.cancel();
    for advertised in advertised {
        advertised.await.unwrap().unwrap();
    }
    let idle = [r#"loci_queue_held{class="cpu",priority="p0"} 0"#];
    tells(address, &idle).await;
    let started = Instant::now();
    while told(address).await.contains("worker-") {
        assert!(
            started.elapsed() < PATIENCE,
            "a worker that left is told of"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_what_waits_for_its_class() {
    let server = Nats::start();
    let options = NatsOptions::new(server.url(), "loci-test");
    let bus = NatsBus::connect(options).await.unwrap();
    let lease = work(&bus).await;
    let (address, stop) = (free(), CancellationToken::new());
    let (_unchanged, told) = watch::channel(Worker {
        class: "cpu".to_owned(),
        ..worker()
    });
    loci_models::kernel_fell_back("attention", "NVRTC is not here");
    let scope = Scope::Worker(Own { told, card: None });
    let serving = tokio::spawn(serve_metrics(address, bus.clone(), scope, stop.clone()));
    let mut lines = OF_CPU.to_vec();
    lines.extend([
        r#"loci_worker_ready{class="cpu",worker="worker-7"} 1"#,
        r#"loci_worker_kernel_fallbacks_total{kernel="attention"} 1"#,
    ]);
    let text = tells(address, &lines).await;
    assert!(!text.contains("gpu"), "{text}");
    drop(lease);
    stop.cancel();
    serving.await.unwrap().unwrap();
}
