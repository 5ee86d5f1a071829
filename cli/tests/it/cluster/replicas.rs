//! Serving by replicas. There is no node: this test plays the kubelet, and starts the processes of the pods itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use loci_crds::MemoryPipeline;
use serde_json::{Value, json};

use super::{Cluster, Process};

/// The last part of the next pod's address.
static HOSTS: AtomicU8 = AtomicU8::new(1);

/// A loopback address of a pod's own.
pub(super) fn address() -> String {
    // Tests of one process run beside each other.
    let (id, host) = (std::process::id(), HOSTS.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{host}", 100 + (id >> 8) % 100, id % 256)
}

/// A pod, and the process that is its container.
pub(super) struct Replica {
    pub(super) pipeline: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) process: Process,
}

impl Replica {
    /// Queries of this pod go to a loopback address of its own.
    pub(super) async fn start(cluster: &Cluster, pipeline: &str, number: u8) -> Self {
        let name = format!("{pipeline}-recall-{number}");
        let address = address();
        let labels =
            json!({"app.kubernetes.io/component": "recall", "loci.dev/pipeline": pipeline});
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"serviceAccountName": format!("{pipeline}-recall"), "automountServiceAccountToken": false, "containers": [{"name": "recall", "image": "loci"}]},
        });
        let pods: Api<Pod> = cluster.api();
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let process = Self::process(cluster, pipeline, &name, &address, &[]);
        let replica = Self {
            pipeline: pipeline.to_owned(),
            name,
            address,
            process,
        };
        replica.status(cluster, false).await;
        replica
    }

    pub(super) fn process(
        cluster: &Cluster,
        pipeline: &str,
        name: &str,
        address: &str,
        more: &[&str],
    ) -> Process {
        let (listen, status) = (format!("{address}:7700"), format!("{address}:7701"));
        let namespace = cluster.namespace.as_str();
        let args = ["recall", "--pipeline", pipeline, "--namespace", namespace];
        let of_addresses = ["--listen", &listen, "--status", &status];
        cluster.spawn(name, &[&args[..], &of_addresses, more].concat())
    }

    async fn status(&self, cluster: &Cluster, ready: bool) {
        runs(cluster, &self.name, &self.address, ready).await;
    }

    /// Its container is killed and started again, with other options.
    pub(super) async fn restart(self, cluster: &Cluster, more: &[&str]) -> Self {
        let Self {
            pipeline,
            name,
            address,
            process,
        } = self;
        process.kill();
        let replica = Self {
            process: Self::process(cluster, &pipeline, &name, &address, more),
            pipeline,
            name,
            address,
        };
        replica.status(cluster, false).await;
        replica.ready(cluster).await;
        replica
    }

    /// Waits until its readiness probe succeeds, and says so.
    pub(super) async fn ready(&self, cluster: &Cluster) {
        let url = format!("http://{}:7700/readyz", self.address);
        cluster
            .until(&format!("{} is ready", self.name), async || {
                reqwest::get(&url)
                    .await
                    .is_ok_and(|answer| answer.status().is_success())
            })
            .await;
        self.status(cluster, true).await;
    }

    /// The release that answers, and what it finds.
    pub(super) async fn ask(&self, client: &reqwest::Client) -> Result<(String, String), String> {
        let url = format!("http://{}:7700/v1/retrieve", self.address);
        let question = json!({"query": "opening hours", "k": 50});
        let answer = client
            .post(url)
            .json(&question)
            .send()
            .await
            .map_err(|e| e.to_string())?;
        let code = answer.status();
        let body: Value = answer.json().await.map_err(|e| e.to_string())?;
        if !code.is_success() {
            return Err(format!("{code}: {body}"));
        }
        let passages = body["passages"].as_array().unwrap();
        let texts: Vec<&str> = passages.iter().filter_map(|p| p["text"].as_str()).collect();
        Ok((
            body["release"].as_str().unwrap().to_owned(),
            texts.join(" "),
        ))
    }
}

/// Says that a pod runs at an address, and whether it is ready.
pub(super) async fn runs(cluster: &Cluster, pod: &str, address: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    let status = json!({"status": {
        "podIP": address, "podIPs": [{"ip": address}], "phase": "Running",
        "conditions": [{"type": "Ready", "status": ready}],
    }});
    let params = PatchParams::default();
    let (pods, status) = (cluster.api::<Pod>(), Patch::Merge(status));
    pods.patch_status(pod, &params, &status).await.unwrap();
}

/// Asks all replicas in turn, at a steady rate, whatever the answers.
async fn load(replicas: Arc<Vec<Replica>>, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let client = reqwest::Client::new();
    let failed = Arc::<tokio::sync::Mutex<Vec<String>>>::default();
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    let mut queries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let n = queries.len();
        let (replicas, client, failed) = (replicas.clone(), client.clone(), failed.clone());
        queries.push(tokio::spawn(async move {
            if let Err(error) = replicas[n % replicas.len()].ask(&client).await {
                failed.lock().await.push(error);
            }
        }));
    }
    let asked = queries.len();
    for query in queries {
        query.await.unwrap();
    }
    let failed = failed.lock().await.clone();
    (asked, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_load_switch_and_serve_without_a_failed_query_or_anybody_else() {
    let cluster = Cluster::new("replicas").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let operator = cluster.operator_with_replicas();
    let (worker, _fetcher) = (cluster.worker(), cluster.fetcher());
    cluster
        .until("a deployment is made", async || {
            let found = cluster.api::<Deployment>().get_opt("shop-recall").await;
            found.unwrap().is_some()
        })
        .await;
    let replicas = [
        Replica::start(&cluster, "shop", 1).await,
        Replica::start(&cluster, "shop", 2).await,
    ];
    for replica in &replicas {
        replica.ready(&cluster).await;
    }
    cluster.serving(1).await;
    let client = reqwest::Client::new();
    for replica in &replicas {
        let (release, text) = replica.ask(&client).await.unwrap();
        assert_eq!(release, "shop-1");
        assert!(text.contains("nine"), "{text}");
    }
    let deployment = cluster
        .api::<Deployment>()
        .get("shop-recall")
        .await
        .unwrap();
    assert_eq!(deployment.spec.as_ref().unwrap().replicas, Some(2));
    assert!(
        cluster
            .api::<PodDisruptionBudget>()
            .get_opt("shop-recall")
            .await
            .unwrap()
            .is_some()
    );

    // Ten releases under load.
    let (replicas, stop) = (Arc::new(Vec::from(replicas)), Arc::<AtomicBool>::default());
    let asking = tokio::spawn(load(replicas.clone(), stop.clone()));
    for hour in 2..=11 {
        cluster
            .documents(&format!("The workshop opens at {hour} o'clock."))
            .await;
        cluster.serving(hour).await;
        for replica in &*replicas {
            let (release, _) = replica.ask(&client).await.unwrap();
            assert_eq!(
                release,
                format!("shop-{hour}"),
                "all serve it when it is said to serve"
            );
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (asked, failed) = asking.await.unwrap();
    assert!(
        asked > 200 && failed.is_empty(),
        "{} of {asked} failed: {failed:?}",
        failed.len()
    );

    // The next operator finds them as they are, and NATS empty.
    operator.kill();
    cluster.nats.kill();
    cluster.nats.delete_store();
    cluster.nats.start_again();
    let operator = cluster.operator_with_replicas();
    cluster.documents("The workshop opens at 12 o'clock.").await;
    cluster.serving(12).await;
    cluster.documents("The workshop opens at 13 o'clock.").await;
    cluster.serving(13).await;

    // Nobody but the replicas is left, and one is started again.
    operator.kill();
    drop(worker);
    cluster.nats.kill();
    let mut replicas = Arc::into_inner(replicas).unwrap();
    let again = replicas.remove(0).restart(&cluster, &[]).await;
    let (release, text) = again.ask(&client).await.unwrap();
    assert_eq!(release, "shop-13");
    assert!(text.contains("13"), "{text}");

    // An operator that starts without NATS sends no step out, and goes back all the same.
    let _operator = cluster.operator_with_replicas();
    cluster.documents("The workshop opens at 14 o'clock.").await;
    let back = json!({"metadata": {"annotations": {"loci.dev/rollback": "12"}}});
    let pipelines = cluster.api::<MemoryPipeline>();
    let (params, back) = (PatchParams::default(), Patch::Merge(&back));
    pipelines.patch("shop", &params, &back).await.unwrap();
    replicas.push(again);
    cluster
        .until("the release before answers", async || {
            let mut answers = Vec::new();
            for replica in &replicas {
                answers.push(replica.ask(&client).await.map(|(release, _)| release));
            }
            answers.iter().all(|a| a.as_deref() == Ok("shop-12"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artefacts_are_given_to_who_has_the_key_of_their_revision_only() {
    let cluster = Cluster::new("artifacts").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let _operator = cluster.operator_with_replicas();
    let (_worker, _fetcher) = (cluster.worker(), cluster.fetcher());
    let mut releases = BTreeMap::<String, Value>::new();
    // Written before any replica is there.
    let found = std::sync::Mutex::new(None);
    cluster
        .until("a release is to be loaded", async || {
            let map = cluster
                .api::<ConfigMap>()
                .get_opt("shop-serving")
                .await
                .unwrap();
            let json = map.and_then(|m| m.data?.get("releases").cloned());
            *found.lock().unwrap() = json.clone();
            json.is_some_and(|json| json.contains("shop-1"))
        })
        .await;
    let json = found.into_inner().unwrap().unwrap();
    releases.extend(serde_json::from_str::<BTreeMap<String, Value>>(&json).unwrap());
    let wanted = &releases["shop-1"];
    let (url, key) = (
        wanted["url"].as_str().unwrap(),
        wanted["key"].as_str().unwrap(),
    );
    let client = reqwest::Client::new();
    let code = async |url: &str, key: &str| {
        let answer = client.get(url).bearer_auth(key).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(code(url, key).await, 200);
    assert_eq!(code(url, &"0".repeat(64)).await, 403);
    assert_eq!(code(url, "").await, 403);
    assert_eq!(client.get(url).send().await.unwrap().status().as_u16(), 403);
    // The key of one revision opens no other, and only files of its own.
    let manifest: Value = client
        .get(url)
        .bearer_auth(key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let tree = manifest["body"]["tree"].as_object().unwrap();
    let file = tree.values().next().unwrap()["digest"].as_str().unwrap();
    assert_eq!(code(&format!("{url}/files/{file}"), key).await, 200);
    let corpus = manifest["body"]["corpus"].as_str().unwrap();
    assert_eq!(code(&format!("{url}/files/{corpus}"), key).await, 404);
    let (base, _) = url.rsplit_once('/').unwrap();
    assert_eq!(code(&format!("{base}/{corpus}"), key).await, 403);
}
