//! An operator in a namespace of its own.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, Resource, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_models::DeviceRequest;
use loci_operator::{Election, Options, Serving};
use loci_recall::Auth;
use loci_store::RemoteOptions;
use loci_testbed::{ControlPlane, History};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use loci_testbed::hub;

/// The longest that anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace, and what an operator keeps outside of the API server.
pub struct Site {
    pub client: Client,
    pub namespace: String,
    hub: String,
    state: tempfile::TempDir,
    history: History,
    config: Config,
    /// Its own, unless the API server is one that all share.
    pub plane: Option<ControlPlane>,
}

/// A running operator; killed, as it were, when dropped.
pub struct Running {
    pub url: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Site {
    pub async fn new(prefix: &str) -> Self {
        Self::on(ControlPlane::shared().await.unwrap(), prefix).await
    }

    /// With an API server of its own, for what would disturb others.
    pub async fn alone(prefix: &str) -> Self {
        let plane = ControlPlane::start().await.unwrap();
        let site = Self::on(&plane, prefix).await;
        Self {
            plane: Some(plane),
            ..site
        }
    }

    async fn on(plane: &ControlPlane, prefix: &str) -> Self {
        let definitions: Vec<Value> = loci_crds::definitions()
            .iter()
            .map(|(_, d)| serde_json::to_value(d).unwrap())
            .collect();
        plane.install(&definitions).await.unwrap();
        let client = plane.client().await.unwrap();
        Self {
            history: History::watch(&client).await.unwrap(),
            client,
            namespace: plane.namespace(prefix).await.unwrap(),
            hub: hub::serve().await,
            state: tempfile::tempdir().unwrap(),
            config: plane.config().await.unwrap(),
            plane: None,
        }
    }

    /// Starts an operator for the namespace.
    pub async fn start(&self) -> Running {
        self.start_with("", |_| {}).await
    }

    /// Starts one of several, with caches of its own beside the same store.
    pub async fn start_as(&self, name: &str, election: Option<Election>) -> Running {
        self.start_with(name, |options| options.election = election)
            .await
    }

    /// The directory of artefacts.
    pub fn store(&self) -> std::path::PathBuf {
        self.state.path().join("store")
    }

    /// As if the operator were installed anew, with the store that there was.
    pub fn lose_caches(&self) {
        for cache in ["revisions", "models", "git"] {
            std::fs::remove_dir_all(self.state.path().join(cache)).unwrap();
        }
    }

    /// Starts an operator that differs, with its caches in a directory of this name.
    pub async fn start_with(&self, name: &str, change: impl FnOnce(&mut Options)) -> Running {
        let stop = CancellationToken::new();
        let listen = free();
        let mut options = Options {
            namespaces: vec![self.namespace.clone()],
            state: self.state.path().join(name),
            store: self.state.path().join("store").into(),
            remote: RemoteOptions::from_env(self.state.path().join("objects")),
            serving: Serving::Here {
                listen,
                auth: Auth::Off,
            },
            hub: Some(self.hub.parse().unwrap()),
            device: DeviceRequest::Cpu,
            nats: None,
            election: None,
            deletion_grace: Duration::from_secs(3600),
            metrics: None,
        };
        change(&mut options);
        let running = loci_operator::run(self.config.clone(), options, stop.clone());
        Running {
            url: format!("http://{listen}"),
            task: tokio::spawn(running),
            stop,
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// `kubectl apply --server-side`.
    pub async fn apply<K>(&self, name: &str, object: Value) -> kube::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let params = PatchParams::apply("a-person").force();
        self.api::<K>()
            .patch(name, &params, &Patch::Apply(&object))
            .await
    }

    /// A ConfigMap with documents.
    pub async fn documents(&self, documents: &[(&str, &str)]) {
        self.map("docs", documents).await;
    }

    /// A ConfigMap of this name.
    pub async fn map(&self, name: &str, documents: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = documents
            .iter()
            .map(|(key, text)| ((*key).to_owned(), json!(text)))
            .collect();
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        self.apply::<ConfigMap>(name, map).await.unwrap();
    }

    /// A pipeline over the documents, with a suite.
    pub async fn pipeline(&self) -> MemoryPipeline {
        let suite = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faq"},
            "data": {"faq.jsonl": suite.to_string()},
        });
        self.apply::<ConfigMap>("faq", map).await.unwrap();
        self.apply("shop", manifest()).await.unwrap()
    }

    /// Reads an object again and again until it is as wanted.
    pub async fn until<K, T>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> Option<T>) -> T
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        self.within(PATIENCE, name, what, wanted).await
    }

    /// The same, for what may take longer or has to be sooner.
    pub async fn within<K, T>(
        &self,
        patience: Duration,
        name: &str,
        what: &str,
        wanted: impl Fn(&K) -> Option<T>,
    ) -> T
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let (api, started) = (self.api::<K>(), Instant::now());
        loop {
            let object = api.get_opt(name).await.unwrap();
            if let Some(found) = object.as_ref().and_then(&wanted) {
                return found;
            }
            if started.elapsed() >= patience {
                let (runs, releases) = (self.runs().await, self.releases().await);
                let all = json!({"object": object, "runs": runs, "releases": releases});
                panic!("{name}: waiting until {what}: {all:#}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every status that there was agreed with what was so.
    pub async fn statuses_agree(&self) {
        let faults = self.history.faults().await.unwrap();
        assert!(!self.history.is_empty() && faults.is_empty(), "{faults:#?}");
    }

    /// The versions of a pipeline that were not Ready after it had been, and why.
    pub fn unready(&self, name: &str) -> Vec<String> {
        self.history.unready(&self.namespace, name)
    }

    /// Waits until the release of this number serves.
    pub async fn serving(&self, number: i64) {
        self.serves("shop", number).await;
    }

    /// The same of another pipeline.
    pub async fn serves(&self, pipeline: &str, number: i64) {
        let name = format!("{pipeline}-{number}");
        self.until(pipeline, &format!("{name} serves"), |p: &MemoryPipeline| {
            let status = p.status.as_ref()?;
            (status.serving_release.as_ref() == Some(&name)).then_some(())
        })
        .await;
    }

    /// Waits for an event about the pipeline with this reason; gives its note.
    pub async fn event(&self, reason: &str) -> String {
        let (api, started) = (self.api::<Event>(), Instant::now());
        loop {
            let all = api.list(&Default::default()).await.unwrap().items;
            let found = all.iter().find(|e| e.reason.as_deref() == Some(reason));
            if let Some(event) = found {
                let about = event.regarding.as_ref().unwrap();
                assert_eq!(about.kind.as_deref(), Some("MemoryPipeline"));
                return event.note.clone().unwrap();
            }
            assert!(started.elapsed() < PATIENCE, "no event {reason}: {all:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The warnings about a pipeline.
    pub async fn warnings(&self, pipeline: &str) -> Vec<Event> {
        let mut all = self
            .api::<Event>()
            .list(&Default::default())
            .await
            .unwrap()
            .items;
        let about = |event: &Event| {
            let about = event.regarding.as_ref();
            about.and_then(|about| about.name.as_deref()) == Some(pipeline)
        };
        all.retain(|event| about(event) && event.type_.as_deref() == Some("Warning"));
        all.sort_by_key(ResourceExt::name_any);
        all
    }

    pub async fn runs(&self) -> Vec<MemoryRun> {
        self.api().list(&Default::default()).await.unwrap().items
    }

    pub async fn releases(&self) -> Vec<MemoryRelease> {
        self.api().list(&Default::default()).await.unwrap().items
    }
}

/// An address of this machine that is free now; nobody else here takes it within the moment.
pub fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

pub fn manifest() -> Value {
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

/// A condition's status and reason.
pub fn condition(pipeline: &MemoryPipeline, kind: &str) -> Option<(String, String)> {
    let all = &pipeline.status.as_ref()?.conditions;
    let found = all.iter().find(|c| c.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone()))
}

impl Running {
    /// The best passage's text.
    pub async fn best(&self, question: &str) -> Option<String> {
        let asked = reqwest::Client::new()
            .post(format!("{}/v1/retrieve", self.url))
            .json(&json!({"query": question, "k": 1}));
        let answer: Value = asked.send().await.ok()?.json().await.ok()?;
        Some(answer["passages"][0]["text"].as_str()?.to_owned())
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.expect("it ends").unwrap()
    }

    /// Ends it cleanly.
    pub async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.stop.cancel();
    }
}
