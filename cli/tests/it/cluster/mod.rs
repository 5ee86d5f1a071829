//! The operator and its workers as processes of their own, with a real API server and a real NATS server between them.

mod adapters;
mod bucket;
mod copies;
mod fetchers;
mod held;
mod leaders;
mod plugin;
mod progress;
mod replicas;
mod scale;
mod steps;
mod trainings;
mod vllm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use loci_crds::run::RunPhase;
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_testbed::{ControlPlane, Nats, S3, hub, s3};
use serde_json::{Value, json};

use crate::harness::loci;

const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace, a NATS server, and a directory for artefacts and logs.
struct Cluster {
    plane: &'static ControlPlane,
    client: Client,
    namespace: String,
    nats: Nats,
    hub: String,
    dir: tempfile::TempDir,
    /// Where artefacts are; a directory when there is none.
    bucket: Option<S3>,
    /// The environment of replicas.
    of_replicas: BTreeMap<String, String>,
}

fn manifest() -> Value {
    json!({
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
    })
}

/// A process; killed when dropped.
struct Process(Child);

impl Process {
    /// `kill -9`.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// `kill`, and waits.
    fn end(mut self) {
        self.signal(rustix::process::Signal::TERM);
        self.0.wait().unwrap();
    }

    /// The resident memory, in bytes: now, and at most.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let bytes = |field: &str| {
            let line = status.lines().find(|line| line.starts_with(field)).unwrap();
            let number = line.split_whitespace().nth(1).unwrap();
            number.parse::<u64>().unwrap() * 1024
        };
        (bytes("VmRSS:"), bytes("VmHWM:"))
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
        Self::on(ControlPlane::shared().await.unwrap(), prefix).await
    }

    async fn on(plane: &'static ControlPlane, prefix: &str) -> Self {
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
            bucket: None,
            of_replicas: BTreeMap::new(),
        }
    }

    /// Whose processes share no directory.
    async fn with_bucket(prefix: &str) -> Self {
        Self {
            bucket: Some(S3::start()),
            ..Self::new(prefix).await
        }
    }

    /// The store, and who may use it: replicas and fetchers hold no key.
    fn store(&self, name: &str) -> BTreeMap<String, String> {
        let (place, mut variables) = match &self.bucket {
            None => (
                self.dir.path().join("store").display().to_string(),
                BTreeMap::new(),
            ),
            Some(_) if name.contains("recall") || name == "fetcher" => return BTreeMap::new(),
            Some(bucket) => (format!("s3://{}/team/loci", s3::BUCKET), bucket.variables()),
        };
        variables.insert("LOCI_STORE".to_owned(), place);
        variables
    }

    fn spawn(&self, name: &str, args: &[&str]) -> Process {
        self.spawn_with(name, args, |_| {})
    }

    fn spawn_with(&self, name: &str, args: &[&str], change: impl FnOnce(&mut Command)) -> Process {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(name))
            .unwrap();
        let models = ["--hub", &self.hub, "--device", "cpu"];
        let models = if ["fetcher", "adapters"].contains(&args[0]) {
            &[][..]
        } else {
            &models
        };
        let mut command = loci();
        command
            .args(args)
            .args(models)
            .arg("--state")
            .arg(self.dir.path().join(name))
            .env("KUBECONFIG", self.plane.kubeconfig())
            .env("LOCI_NATS_URL", self.nats.url())
            .envs(self.store(name))
            .envs(self.of_replicas.iter().filter(|_| args[0] == "recall"))
            .stdout(Stdio::null())
            .stderr(log);
        change(&mut command);
        Process(command.spawn().unwrap())
    }

    fn operator(&self) -> Process {
        let here = ["--listen", "127.0.0.1:0"];
        self.spawn("operator", &[&self.watching()[..], &here].concat())
    }

    /// Which has pipelines served by pods of their own.
    fn operator_with_replicas(&self) -> Process {
        self.operator_with(&[])
    }

    fn operator_with(&self, more: &[&str]) -> Process {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let artifacts = listener.local_addr().unwrap().to_string();
        drop(listener);
        let url = format!("http://{artifacts}");
        let image = [
            "--recall-image",
            "loci",
            "--artifacts",
            &artifacts,
            "--artifacts-url",
            &url,
        ];
        self.spawn("operator", &[&self.watching()[..], &image, more].concat())
    }

    fn watching(&self) -> [&str; 3] {
        ["operator", "--watch", &self.namespace]
    }

    fn worker(&self) -> Process {
        self.spawn("worker", &["worker"])
    }

    /// The namespace's fetcher. Its Secrets are in `secrets`, for this test is the kubelet.
    fn fetcher(&self) -> Process {
        let secrets = self.dir.path().join("secrets");
        let args = ["fetcher", "--namespace", &self.namespace, "--secrets"];
        self.spawn(
            "fetcher",
            &[&args[..], &[secrets.to_str().unwrap()]].concat(),
        )
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// The end of every log.
    fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "log") {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(30)..].join("\n");
                all.push_str(&format!("{}:\n{end}\n", path.display()));
            }
        }
        all
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
        self.pipeline_named("shop", "1h").await;
    }

    async fn pipeline_named(&self, name: &str, interval: &str) {
        let suite = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
        let data = json!({"faq.jsonl": suite.to_string()});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faq"}, "data": data});
        self.apply("ConfigMap", "faq", map).await;
        let mut pipeline = manifest();
        pipeline["metadata"]["name"] = name.into();
        pipeline["spec"]["index"]["refresh"]["interval"] = interval.into();
        self.apply("MemoryPipeline", name, pipeline).await;
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
        self.serves("shop", number).await;
    }

    async fn serves(&self, pipeline: &str, number: u32) {
        let name = format!("{pipeline}-{number}");
        self.until(&format!("{name} serves"), async || {
            let pipeline = self.api::<MemoryPipeline>().get(pipeline).await.unwrap();
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
