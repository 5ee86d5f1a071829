//! The operator and its workers as processes of their own, with a real API server and a real NATS server between them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use loci_crds::run::RunPhase;
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_testbed::{ControlPlane, Nats, hub};
use serde_json::{Value, json};

use crate::harness::loci;

const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace, a NATS server, and a directory for artefacts and logs.
struct Cluster {
    plane: &'static ControlPlane,
    client: Client,
    namespace: String,
    nats: Nats,
    hub: String,
    dir: tempfile::TempDir,
}

/// A process; killed when dropped.
struct Process(Child);

impl Process {
    /// `kill -9`.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    async fn new(prefix: &str) -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        let definitions: Vec<Value> = loci_crds::definitions()
            .iter()
            .map(|(_, d)| serde_json::to_value(d).unwrap())
            .collect();
        plane.install(&definitions).await.unwrap();
        Self {
            client: plane.client().await.unwrap(),
            namespace: plane.namespace(prefix).await.unwrap(),
            plane,
            nats: Nats::start(),
            hub: hub::serve().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn spawn(&self, name: &str, args: &[&str]) -> Process {
        let log = self.log(name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let child = loci()
            .args(args)
            .args([
                "--nats",
                &self.nats.url(),
                "--hub",
                &self.hub,
                "--device",
                "cpu",
            ])
            .arg("--store")
            .arg(self.dir.path().join("store"))
            .arg("--state")
            .arg(self.dir.path().join(name))
            .env("KUBECONFIG", self.plane.kubeconfig())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    fn operator(&self) -> Process {
        self.spawn(
            "operator",
            &[
                "operator",
                "--watch",
                &self.namespace,
                "--listen",
                "127.0.0.1:0",
            ],
        )
    }

    fn worker(&self) -> Process {
        self.spawn("worker", &["worker"])
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    fn logs(&self) -> String {
        let read = |name| {
            let file = std::fs::File::open(self.log(name)).map(BufReader::new);
            let lines = file.map(|f| f.lines().map_while(Result::ok).collect::<Vec<_>>());
            let lines = lines.unwrap_or_default();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!(
            "operator:\n{}\nworker:\n{}",
            read("operator"),
            read("worker")
        )
    }

    async fn apply(&self, kind: &str, name: &str, object: Value) {
        let params = PatchParams::apply("a-person").force();
        let patch = Patch::Apply(&object);
        match kind {
            "ConfigMap" => drop(
                self.api::<ConfigMap>()
                    .patch(name, &params, &patch)
                    .await
                    .unwrap(),
            ),
            _ => drop(
                self.api::<MemoryPipeline>()
                    .patch(name, &params, &patch)
                    .await
                    .unwrap(),
            ),
        }
    }

    async fn documents(&self, hours: &str) {
        let data = json!({
            "hours.md": format!("# Opening hours\n\n{hours}\n"),
            "returns.md": "# Returns\n\nA parcel can be sent back within thirty days.\n",
        });
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs"}, "data": data});
        self.apply("ConfigMap", "docs", map).await;
    }

    async fn pipeline(&self) {
        let suite = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
        let data = json!({"faq.jsonl": suite.to_string()});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faq"}, "data": data});
        self.apply("ConfigMap", "faq", map).await;
        let pipeline = json!({
            "apiVersion": "loci.dev/v1alpha1",
            "kind": "MemoryPipeline",
            "metadata": {"name": "shop"},
            "spec": {
                "embedder": {"model": hub::MODEL},
                "sources": [{"name": "docs", "memory": "factual", "configMap": {"name": "docs"}}],
                "index": {"refresh": {"interval": "1h"}},
                "suites": [{"name": "faq", "retrieval": {"data": {"configMap": {"name": "faq", "key": "faq.jsonl"}}}}],
                "gates": [{"suite": "faq", "metric": "recallAt5", "floor": "0.50"}],
            },
        });
        self.apply("MemoryPipeline", "shop", pipeline).await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !done().await {
            assert!(
                started.elapsed() < PATIENCE,
                "waiting until {what}\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn serving(&self, number: u32) {
        let name = format!("shop-{number}");
        self.until(&format!("{name} serves"), async || {
            let pipeline = self.api::<MemoryPipeline>().get("shop").await.unwrap();
            pipeline
                .status
                .is_some_and(|s| s.serving_release.as_ref() == Some(&name))
        })
        .await;
    }

    /// Waits until a run is at work on this step.
    async fn at_work(&self, step: &str) {
        self.until(&format!("{step} is at work"), async || {
            let runs = self
                .api::<MemoryRun>()
                .list(&Default::default())
                .await
                .unwrap();
            let steps = runs
                .items
                .into_iter()
                .filter_map(|r| r.status)
                .flat_map(|s| s.steps);
            steps
                .into_iter()
                .any(|s| s.name.as_str() == step && s.completion_time.is_none())
        })
        .await;
    }

    /// Everything was made once.
    async fn settled(&self, number: usize) {
        let runs = self
            .api::<MemoryRun>()
            .list(&Default::default())
            .await
            .unwrap()
            .items;
        let releases = self
            .api::<MemoryRelease>()
            .list(&Default::default())
            .await
            .unwrap()
            .items;
        assert_eq!((runs.len(), releases.len()), (number, number));
        for run in runs {
            assert_eq!(run.status.unwrap().phase, RunPhase::Succeeded);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_go_to_workers_over_nats_and_whatever_is_killed_the_release_comes() {
    let cluster = Cluster::new("cluster").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;

    // No worker yet: the work waits for one.
    let operator = cluster.operator();
    cluster.at_work("Embed").await;
    let worker = cluster.worker();
    cluster.serving(1).await;
    cluster.settled(1).await;

    // The operator is killed while a step waits; another finds it in the queue.
    worker.kill();
    cluster.documents("The workshop opens at ten.").await;
    cluster.at_work("Embed").await;
    operator.kill();
    let (_operator, worker) = (cluster.operator(), cluster.worker());
    cluster.serving(2).await;
    cluster.settled(2).await;

    // NATS is killed and loses all that it had.
    worker.signal(rustix::process::Signal::TERM);
    cluster.documents("The workshop opens at eleven.").await;
    cluster.at_work("Embed").await;
    cluster.nats.kill();
    cluster.nats.delete_store();
    cluster.nats.start_again();
    let _worker = cluster.worker();
    cluster.serving(3).await;
    cluster.settled(3).await;
}
