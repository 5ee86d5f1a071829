//! GPUs: which there are, and workers that want one. Written for machines with and without.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loci_bus::{Dispatcher, Priority, WorkItem};
use loci_nats::{NatsBus, NatsOptions};
use loci_testbed::Nats;
use serde_json::Value;

use crate::harness::{get, loci, text};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_machine_says_which_gpus_it_has_or_why_it_has_none() {
    let run = |args: &[&str]| {
        let output = loci().arg("devices").args(args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let told: Value = serde_json::from_str(&run(&["-o", "json"])).unwrap();
    let table = run(&[]);
    let devices = told["devices"].as_array().unwrap();
    for device in devices {
        for field in ["name", "uuid", "computeCapability"] {
            assert!(table.contains(device[field].as_str().unwrap()), "{table}");
        }
    }
    if devices.is_empty() {
        let why = told["trouble"]["message"].as_str().unwrap();
        assert!(why.starts_with("no CUDA device: "), "{why}");
        assert_eq!(table.trim_end(), why);
    } else {
        assert!(
            told["trouble"].is_null() && table.contains("driver: CUDA "),
            "{table}"
        );
    }
}

#[test]
fn flags_that_contradict_or_do_not_read_are_named() {
    for (args, parts) in [
        (
            &["--device", "cpu", "--require-memory", "20Gi"][..],
            &["--require-memory", "--device cpu"][..],
        ),
        (
            &["--require-capability", "sm_80"],
            &["--require-capability", "such as 8.0"],
        ),
        (&["--require-memory", "lots"], &["--require-memory", "2Gi"]),
        (&["--device", "tpu"], &["no device tpu", "cuda"]),
    ] {
        let state = tempfile::tempdir().unwrap();
        let output = loci()
            .args(["worker", "--nats", "nats://127.0.0.1:9", "--state"])
            .arg(state.path())
            .args(args)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{args:?}");
        let said = text(&output.stderr);
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

/// A worker; killed when dropped.
struct Worker {
    child: Child,
    status: String,
    _state: tempfile::TempDir,
}

impl Worker {
    fn start(nats: &Nats, args: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let state = tempfile::tempdir().unwrap();
        let child = loci()
            .args(["worker", "--class", "gpu", "--status", &address])
            .args(["--nats", &nats.url(), "--state"])
            .arg(state.path())
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            status: format!("http://{address}/readyz"),
            _state: state,
        }
    }

    /// What it says of itself, once it does.
    fn readiness(&self) -> (u16, String) {
        until(|| get(&self.status)).map_or_else(
            || panic!("it does not answer"),
            |(code, said)| (code, said.to_string()),
        )
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = ask() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// What `loci devices workers` says.
fn workers(nats: &Nats, args: &[&str]) -> String {
    let mut command: Command = loci();
    command.args(["devices", "workers", "--nats", &nats.url()]);
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn item() -> WorkItem {
    WorkItem {
        id: "sha256:ab".into(),
        pipeline: "agents/support".into(),
        run: "support-1".into(),
        step: "Embed".into(),
        attempt: 1,
        fence: 0,
        priority: Priority::P1,
        class: "gpu".into(),
        payload: Value::Null,
        term: 0,
        traceparent: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_gpu_that_its_class_asks_for_takes_nothing_and_says_why() {
    let nats = Nats::start();
    let options = NatsOptions::new(nats.url(), "loci-test");
    let bus = NatsBus::connect(options).await.unwrap();
    bus.publish(item()).await.unwrap();
    // More than any card has.
    let refused = Worker::start(&nats, &["--require-memory", "999Ti"]);
    let (code, why) = refused.readiness();
    assert_eq!(code, 503, "{why}");
    assert!(why.contains("takes no steps: "), "{why}");
    let seen = until(|| {
        let all: Value = serde_json::from_str(&workers(&nats, &["-o", "json"])).unwrap();
        all.as_array().unwrap().first().cloned()
    });
    let told = seen.expect("it tells of itself");
    assert_eq!(
        (&told["class"], &told["idle"]),
        (&"gpu".into(), &true.into())
    );
    let reason = told["trouble"]["message"].as_str().unwrap();
    let table = workers(&nats, &[]);
    assert!(table.contains(reason) && table.contains("gpu"), "{table}");
    let depths = bus.depths(Some("gpu")).await.unwrap();
    let waiting: u64 = depths.iter().map(|depth| depth.waiting).sum();
    assert_eq!(waiting, 1, "{depths:?}");
    drop(refused);

    // A class that allows the CPU takes it: it is no item that can be done, and ends.
    let auto = Worker::start(&nats, &["--device", "auto"]);
    let (code, said) = auto.readiness();
    assert_eq!(code, 200, "{said}");
    let started = Instant::now();
    loop {
        let depths = bus.depths(Some("gpu")).await.unwrap();
        if depths.iter().all(|depth| depth.waiting + depth.held == 0) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{depths:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
