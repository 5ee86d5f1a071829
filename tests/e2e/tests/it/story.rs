//! What all scenarios share: the cluster with Loci installed, and a pipeline over a ConfigMap.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use loci_digest::Digest;
use loci_testbed::{History, hub};
use serde_json::{Value, json};

use crate::cluster::{
    AGENTS, NODE, PATIENCE, RIVALS, SYSTEM, apply, field, helm, kubectl, state, until, wait_ready,
};
use crate::figures::Figures;
use crate::install::ended;
use crate::load::{Load, Report, ask, client};
use crate::objects::{self, PIPELINE, RELEASE, RUN};
use crate::upgrade;

/// How long nothing happens before something does.
const QUIET: Duration = Duration::from_secs(4);

/// What scenarios share.
pub struct Story {
    pub client: Client,
    pub hub: String,
    pub asking: reqwest::Client,
    pub history: History,
    pub figures: Mutex<Figures>,
    /// When there were no Roles.
    pub without_rights: Mutex<Vec<(Timestamp, Timestamp)>>,
    texts: AtomicU32,
}

/// Pods that are not `restricted` are refused here.
pub fn namespace(name: &str) -> Value {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A volume on the node, for the chart's claim.
fn volume() -> Value {
    let path = state().unwrap().join("volumes/store");
    std::fs::create_dir_all(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(65532), Some(65532)).unwrap();
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "store"},
        "spec": {
            "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    })
}

/// What the chart is installed with. On a node that is short of CPU each pod gets what it requests, and what answers
/// queries is to come first.
fn values(hub: &str) -> Value {
    json!({
        "hub": hub,
        "watchNamespaces": [AGENTS, RIVALS],
        "image": {"pullPolicy": "Never"},
        "nats": {"image": {"pullPolicy": "Never"}},
        "recall": {"resources": {"requests": {"cpu": "150m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}}},
        "operator": {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}},
        "workers": [{
            "class": "cpu", "replicas": 1, "runtimeClassName": "", "nodeSelector": {}, "tolerations": [],
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "4Gi"}},
        }],
    })
}

fn opening(hours: &str) -> String {
    format!("# Opening hours\n\n{hours}\n")
}

pub fn documents(namespace: &str, hours: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs", "namespace": namespace},
        "data": {
            "hours.md": opening(hours),
            "returns.md": "# Returns\n\nA parcel can be sent back within thirty days.\n",
        },
    })
}

/// The other tenant's pipeline, made anew or again, and Ready.
pub fn rivals(hours: &str) {
    let docs = documents(RIVALS, hours);
    apply(&[&[docs], &pipeline(RIVALS, "shop", from_config_map())[..]].concat());
    wait_ready(RIVALS, "shop");
}

/// A suite of one question, and a pipeline that is judged by it.
pub fn pipeline(namespace: &str, name: &str, source: Value) -> Vec<Value> {
    let suite = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faq", "namespace": namespace},
        "data": {"faq.jsonl": suite.to_string()},
    });
    let pipeline = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "embedder": {"model": hub::MODEL},
            "sources": [source],
            "index": {"refresh": {"interval": "1h"}, "maxDeletion": "100%"},
            "releases": {"historyLimit": 5, "minAge": "1s"},
            "suites": [{"name": "faq", "retrieval": {"data": {"configMap": {"name": "faq", "key": "faq.jsonl"}}}}],
            "gates": [{"suite": "faq", "metric": "recallAt5", "floor": "0.50"}],
        },
    });
    vec![map, pipeline]
}

/// The ConfigMap `docs`.
pub fn from_config_map() -> Value {
    json!({"name": "docs", "memory": "factual", "configMap": {"name": "docs"}})
}

/// Installs the chart with the definitions.
pub fn definitions(charts: &str) {
    let chart = format!("{charts}/loci-crds");
    helm(&[
        "upgrade",
        "--install",
        "loci-crds",
        &chart,
        "--namespace",
        SYSTEM,
    ]);
    kubectl(&["wait", "--for=condition=Established", "crds", "--all"]);
}

pub fn rolled_out(namespace: &str, what: &str) {
    kubectl(&["-n", namespace, "rollout", "status", what, "--timeout=120s"]);
}

impl Story {
    /// Installs Loci from these charts, and has a pipeline serve.
    pub async fn begin(charts: &str) -> Arc<Self> {
        let hub = hub::serve_on(NODE.parse().unwrap()).await;
        apply(&[
            namespace(SYSTEM),
            namespace(AGENTS),
            namespace(RIVALS),
            volume(),
        ]);
        definitions(charts);
        let client = objects::client().await;
        let history = History::watch(&client).await.unwrap();
        let story = Self {
            client,
            hub,
            asking: self::client(),
            history,
            figures: Mutex::default(),
            without_rights: Mutex::default(),
            texts: AtomicU32::default(),
        };
        if charts == upgrade::EARLIER {
            upgrade::lend(&story.helm(&["template", "loci", "charts/loci"]));
        }
        story.install_from(charts, &[]);
        if charts == upgrade::EARLIER {
            upgrade::lend_nats();
        }
        apply(
            &[
                &[documents(AGENTS, "The workshop opens at nine.")],
                &pipeline(AGENTS, "shop", from_config_map())[..],
            ]
            .concat(),
        );
        wait_ready(AGENTS, "shop");
        rolled_out(AGENTS, "deployment/shop-recall");
        Arc::new(story)
    }

    pub fn install(&self, extra: &[&str]) {
        self.install_from("charts", extra);
    }

    fn install_from(&self, charts: &str, extra: &[&str]) {
        let chart = format!("{charts}/loci");
        let install = ["upgrade", "--install", "loci", &chart];
        let patience = ["--wait", "--timeout=90s"];
        self.helm(&[&install[..], &patience, extra].concat());
    }

    /// `helm`, with the values that Loci is installed with.
    fn helm(&self, args: &[&str]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), values(&self.hub).to_string()).unwrap();
        let values = file.path().to_str().unwrap();
        helm(&[args, &["--namespace", SYSTEM, "--values", values]].concat())
    }

    /// Where a pipeline is asked: its Service's address.
    pub fn url(&self, namespace: &str, name: &str) -> String {
        let service = format!("service/{name}-recall");
        let mut address = String::new();
        until("the Service has an address", || {
            address = field(&service, namespace, "{.spec.clusterIP}");
            !address.is_empty()
        });
        format!("http://{address}:7700")
    }

    pub fn shop(&self) -> String {
        self.url(AGENTS, "shop")
    }

    /// A sentence that was never there before.
    pub fn news(&self) -> String {
        let number = self.texts.fetch_add(1, Ordering::Relaxed) + 1;
        format!("The workshop opens at {number} o'clock.")
    }

    pub async fn status(&self, namespace: &str, name: &str) -> Value {
        let found = objects::get(&self.client, namespace, PIPELINE, name).await;
        found.map(|p| p["status"].clone()).unwrap_or_default()
    }

    pub async fn served(&self) -> String {
        let status = self.status(AGENTS, "shop").await;
        status["servingRelease"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The runs and the releases of a namespace.
    pub async fn made(&self, namespace: &str) -> (Vec<Value>, Vec<Value>) {
        let runs = objects::list(&self.client, namespace, RUN).await;
        (runs, objects::list(&self.client, namespace, RELEASE).await)
    }

    /// Waits until no run of the shop's namespace is under way.
    pub async fn at_rest(&self) {
        self.until("every run has ended", async || {
            ended(&self.made(AGENTS).await.0)
        })
        .await;
    }

    /// Changes a document of the shop, and waits until another release serves: that it says so.
    pub async fn follows(&self) -> String {
        self.follows_with().await.0
    }

    /// The same; the release, and the text.
    pub async fn follows_with(&self) -> (String, String) {
        let text = self.news();
        let before = self.served().await;
        objects::apply(&self.client, &documents(AGENTS, &text)).await;
        self.until("another release serves", async || {
            let now = self.served().await;
            !now.is_empty() && now != before
        })
        .await;
        self.says(&text).await;
        (self.served().await, text)
    }

    /// Waits until answers are from the document with these hours: a small model's passages are shorter than a sentence.
    pub async fn says(&self, hours: &str) {
        let (url, version) = (self.shop(), Digest::of(opening(hours)).to_string());
        self.until(&format!("answers say: {hours}"), async || {
            let answer = ask(&self.asking, &url).await;
            answer.is_ok_and(|a| a["passages"].to_string().contains(&version))
        })
        .await;
    }

    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !done().await {
            assert!(started.elapsed() < PATIENCE, "waiting until {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The load on the shop while nothing happens.
    pub async fn quiet(&self, time: Duration) {
        let load = Load::start(&self.shop());
        tokio::time::sleep(time).await;
        let report = load.stop().await;
        assert!(report.failed.is_empty(), "quiet: {:?}", report.failed);
        self.figures.lock().unwrap().quiet(&report);
    }

    /// The load on the shop while something happens, and for a while after.
    pub async fn under_load<T>(
        &self,
        what: &str,
        after: Duration,
        act: impl AsyncFnOnce() -> T,
    ) -> (Report, T) {
        self.quiet(QUIET).await;
        let load = Load::start(&self.shop());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let result = act().await;
        tokio::time::sleep(after).await;
        let report = load.stop().await;
        self.figures.lock().unwrap().disturbed(what, &report);
        (report, result)
    }

    /// From then until now somebody could be refused what they may do.
    pub fn without_rights_since(&self, began: Timestamp) {
        let mut windows = self.without_rights.lock().unwrap();
        windows.push((began, Timestamp::now()));
    }

    /// The same, of which no query may fail.
    pub async fn unharmed<T>(&self, what: &str, act: impl AsyncFnOnce() -> T) -> T {
        let (report, result) = self.under_load(what, Duration::from_secs(8), act).await;
        assert!(report.failed.is_empty(), "{what}: {:?}", report.failed);
        result
    }
}

/// The highest number of a release.
pub fn newest(releases: &[Value]) -> i64 {
    let numbers = releases.iter().filter_map(|r| r["spec"]["number"].as_i64());
    numbers.max().unwrap_or(0)
}

/// Runs what blocks.
pub fn blocking<T>(act: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(act)
}
