//! Trainings that stop for others: where a worker is told to end, and where a refresh waits for the only one.

use loci_crds::MemoryRelease;
use loci_store::Store;
use loci_testbed::hub;
use loci_worker::step::Training;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Cluster;
use super::adapters::lines;
use super::plugin::{plugin, said};

/// Documents, a question, and so many examples.
async fn maps(cluster: &Cluster, examples: usize) {
    cluster.documents("The workshop opens at nine.").await;
    let question: Value = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
    for (name, key, text) in [
        ("faq", "faq.jsonl", question.to_string()),
        ("runbooks", "even.jsonl", lines(0..examples, "response")),
    ] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: text}});
        cluster.apply("ConfigMap", name, map).await;
    }
}

/// A pipeline whose adapter takes thousands of steps, and is judged by nothing.
async fn declare(cluster: &Cluster, name: &str) {
    let mut pipeline = super::manifest();
    pipeline["metadata"]["name"] = name.into();
    let spec = &mut pipeline["spec"];
    let runbooks =
        json!({"name": "runbooks", "memory": "procedural", "configMap": {"name": "runbooks"}});
    spec["sources"].as_array_mut().unwrap().push(runbooks);
    spec["adapters"] = json!([{
        "name": "escalation", "base": hub::DECODER, "sources": ["runbooks"], "guard": "none",
        "lora": {"targetModules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
        "training": {"epochs": 100, "batch": 1, "learningRate": "1e-3"},
    }]);
    cluster.apply("MemoryPipeline", name, pipeline).await;
}

/// Has it trained.
fn tune(cluster: &Cluster, pipeline: &str) {
    let args = ["run", "finetune", "--pipeline", pipeline];
    said(plugin(cluster, &args));
}

/// The steps up to which the training under way is written down.
async fn written(store: &Store) -> usize {
    for name in store.documents().await.unwrap() {
        if Training::is_name(&name) {
            let found = store.document::<Training>(&name).await.unwrap();
            return found.map_or(0, |(training, _)| training.step);
        }
    }
    0
}

/// Waits until so much of a training is written down that it has begun.
async fn begun(cluster: &Cluster) -> Store {
    let dir = cluster.dir.path().join("store");
    let store = Store::open_local(&dir).await.unwrap();
    let begun = async || written(&store).await > 0;
    cluster.until("the training has begun", begun).await;
    store
}

/// The line by which a process says that it goes on with a training.
fn goes_on(cluster: &Cluster, process: &str) -> Option<String> {
    let told = std::fs::read_to_string(cluster.log(process)).unwrap();
    let mut lines = told.lines();
    let line = lines.find(|line| line.contains("a training goes on"));
    line.map(str::to_owned)
}

/// The adapter of this pipeline's second release, once there is one.
async fn adapter(cluster: &Cluster, pipeline: &str) -> String {
    let name = format!("{pipeline}-2");
    let get = async || cluster.api::<MemoryRelease>().get_opt(&name).await.unwrap();
    let there = async || get().await.is_some();
    cluster.until(&format!("there is {name}"), there).await;
    let release = get().await.unwrap();
    release.spec.adapters[0].adapter.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_leaves_its_training_to_another() {
    let cluster = Cluster::new("told").await;
    maps(&cluster, 60).await;
    declare(&cluster, "shop").await;
    let _operator = cluster.operator();
    let mut first = cluster.spawn("first", &["worker", "--checkpoints", "100ms"]);
    cluster.serving(1).await;
    tune(&cluster, "shop");
    let store = begun(&cluster).await;
    first.signal(Signal::TERM);
    assert!(first.0.wait().unwrap().success(), "{}", cluster.logs());
    let left = written(&store).await;

    // It was given back, so that nobody waits until the worker is missed. The other goes on, and comes to what comes of it
    // when nobody stops it.
    let _second = cluster.spawn("second", &["worker"]);
    let stopped = adapter(&cluster, "shop").await;
    let line = goes_on(&cluster, "second").unwrap_or_default();
    assert!(line.contains(&format!("step={left}")), "{left}: {line}");
    declare(&cluster, "twin").await;
    cluster.serves("twin", 1).await;
    tune(&cluster, "twin");
    assert_eq!(adapter(&cluster, "twin").await, stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_makes_way_for_a_refresh_where_there_is_one_worker() {
    let cluster = Cluster::new("way").await;
    // More steps than this test waits for.
    maps(&cluster, 2000).await;
    declare(&cluster, "shop").await;
    let _operator = cluster.operator();
    let _worker = cluster.spawn("worker", &["worker", "--checkpoints", "100ms"]);
    cluster.serving(1).await;
    tune(&cluster, "shop");
    begun(&cluster).await;
    cluster.documents("The workshop opens at ten.").await;
    cluster.serving(2).await;
    let release = cluster.api::<MemoryRelease>().get("shop-2").await.unwrap();
    assert!(release.spec.adapters.is_empty(), "the training came first");
    let again = async || goes_on(&cluster, "worker").is_some();
    cluster.until("the training goes on", again).await;
}
