//! Several operators as processes: one is stopped, woken and killed.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Cluster, PATIENCE, Process};

/// How long nobody may lead.
const HANDOVER: Duration = Duration::from_secs(20);

impl Cluster {
    /// An operator that stands for election, and that the API server's audit log knows by its name.
    fn candidate(&self, name: &str, metrics: &str) -> Process {
        let admin = std::fs::read(self.plane.kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_slice(&admin).unwrap();
        config["users"][0]["user"]["as"] = json!(name);
        config["users"][0]["user"]["as-groups"] = json!(["system:masters"]);
        let kubeconfig = self.dir.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let election = ["--lease-namespace", &self.namespace, "--identity", name];
        let here = ["--listen", "127.0.0.1:0", "--metrics", metrics];
        let args = [&self.watching()[..], &election, &here].concat();
        self.spawn_with(name, &args, |command| {
            command.env("KUBECONFIG", &kubeconfig);
        })
    }

    async fn lease(&self) -> (String, i32) {
        let lease = self.api::<Lease>().get_opt("loci-operator").await.unwrap();
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        (
            spec.holder_identity.unwrap_or_default(),
            spec.lease_transitions.unwrap_or_default(),
        )
    }

    /// Waits until `name` leads; gives its term.
    async fn leads(&self, name: &str) -> i32 {
        let leads = format!("{name}_");
        self.until(&format!("{name} leads"), async || {
            self.lease().await.0.starts_with(&leads)
        })
        .await;
        self.lease().await.1
    }

    /// What an operator has written since then.
    fn written(&self, name: &str, since: Timestamp) -> Vec<Value> {
        let all = self.plane.audit().unwrap();
        let of = |event: &Value| {
            let at = event["requestReceivedTimestamp"].as_str().unwrap();
            let verb = event["verb"].as_str().unwrap();
            event["impersonatedUser"]["username"] == name
                && at.parse::<Timestamp>().unwrap() >= since
                && !["get", "list", "watch"].contains(&verb)
        };
        all.into_iter().filter(of).collect()
    }
}

/// An address of this machine that is free now.
fn free() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn told(metrics: &str) -> String {
    let answer = reqwest::get(format!("http://{metrics}/metrics")).await;
    answer.unwrap().text().await.unwrap()
}

impl Process {
    /// Waits until it ends by itself.
    fn ends(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_or_killed_is_replaced_and_writes_nothing_when_it_wakes() {
    let begun = Timestamp::now();
    let cluster = Cluster::new("leaders").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let metrics = [free(), free(), free()];
    let mut a = cluster.candidate("a", &metrics[0]);
    let first = cluster.leads("a").await;
    let b = cluster.candidate("b", &metrics[1]);
    let worker = cluster.worker();
    cluster.serving(1).await;
    cluster.settled(1).await;
    // Who stands by knows everything and has written nothing.
    assert_eq!(cluster.written("b", begun), Vec::<Value>::new());
    assert!(!cluster.written("a", begun).is_empty());
    let [of_a, of_b] = [told(&metrics[0]).await, told(&metrics[1]).await];
    assert!(of_a.contains("loci_leads 1") && of_a.contains(&format!("loci_leader_term {first}")));
    assert!(of_b.contains("loci_leads 0"), "{of_b}");

    // Stopped while a step of its run waits for a worker.
    worker.kill();
    cluster.documents("The workshop opens at ten.").await;
    cluster.at_work("Embed").await;
    a.signal(Signal::STOP);
    let stopped = Instant::now();
    let second = cluster.leads("b").await;
    let without = stopped.elapsed();
    println!("after a SIGSTOP nobody led for {without:?}");
    assert!(without < HANDOVER, "{without:?}");
    assert_eq!(second, first + 1);
    let worker = cluster.worker();
    cluster.serving(2).await;
    cluster.settled(2).await;
    cluster.documents("The workshop opens at eleven.").await;
    cluster.serving(3).await;
    cluster.settled(3).await;

    // Woken, it has much to say and says nothing.
    let woken = Timestamp::now();
    a.signal(Signal::CONT);
    assert_eq!(a.ends().code(), Some(1), "{}", cluster.logs());
    let log = std::fs::read_to_string(cluster.log("a")).unwrap();
    assert!(log.contains("leadership is lost: the Lease"), "{log}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.written("a", woken), Vec::<Value>::new());
    cluster.settled(3).await;
    assert_eq!(cluster.lease().await.1, second);

    // Killed while a step waits.
    let c = cluster.candidate("c", &metrics[2]);
    worker.kill();
    cluster.documents("The workshop opens at twelve.").await;
    cluster.at_work("Embed").await;
    b.kill();
    let killed = Instant::now();
    let third = cluster.leads("c").await;
    let without = killed.elapsed();
    println!("after a kill -9 nobody led for {without:?}");
    assert!(without < HANDOVER, "{without:?}");
    assert_eq!(third, second + 1);
    let _worker = cluster.worker();
    cluster.serving(4).await;
    cluster.settled(4).await;
    drop(c);
}
