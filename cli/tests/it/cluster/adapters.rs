//! Adapters in a cluster: trained by a worker on what a fetcher read, loaded by replicas from the operator, steered by
//! `kubectl loci`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use loci_testbed::hub;
use serde_json::{Value, json};

use super::Cluster;
use super::plugin::{plugin, said};
use super::replicas::Replica;
use crate::harness::text;

/// What is right of these numbers, as examples or as cases.
pub(super) fn lines(numbers: std::ops::Range<usize>, answer: &str) -> String {
    let line = |n: usize| {
        let right = if n.is_multiple_of(2) { "Yes." } else { "No." };
        json!({"prompt": format!("Is {n} even?"), answer: right}).to_string() + "\n"
    };
    numbers.map(line).collect()
}

/// The pipeline of the other tests, with an adapter.
pub(super) async fn declare(cluster: &Cluster, serving: Value) {
    let question = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
    for (name, key, text) in [
        ("faq", "faq.jsonl", question.to_string()),
        ("runbooks", "even.jsonl", lines(0..40, "response")),
        ("cases", "cases.jsonl", lines(100..140, "reference")),
    ] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: text}});
        cluster.apply("ConfigMap", name, map).await;
    }
    let mut pipeline = super::manifest();
    let spec = &mut pipeline["spec"];
    spec["serving"] = serving;
    let mut add = |list: &str, item: Value| spec[list].as_array_mut().unwrap().push(item);
    add(
        "sources",
        json!({"name": "runbooks", "memory": "procedural", "configMap": {"name": "runbooks"}}),
    );
    add(
        "suites",
        json!({"name": "even", "behavior": {"data": {"configMap": {"name": "cases", "key": "cases.jsonl"}}}}),
    );
    add(
        "gates",
        json!({"suite": "even", "metric": "likelihood", "minGain": "0.10"}),
    );
    spec["adapters"] = json!([{
        "name": "escalation", "base": hub::DECODER, "sources": ["runbooks"], "minExamples": 8, "guard": "none",
        "lora": {"targetModules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
        "training": {"epochs": 20, "learningRate": "1e-2"},
    }]);
    cluster.apply("MemoryPipeline", "shop", pipeline).await;
}

/// A short answer, always by the likeliest token.
pub(super) async fn chat(replica: &Replica) -> (u16, Value) {
    let asked = json!({
        "model": "shop:escalation", "messages": [{"role": "user", "content": "Is 8 even?"}],
        "max_tokens": 8, "temperature": 0, "k": 0,
    });
    let url = format!("http://{}:7700/v1/chat/completions", replica.address);
    let sent = reqwest::Client::new().post(url).json(&asked).send().await;
    let answer = sent.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The name of the adapter by which all replicas answer, and the release.
async fn answers(replicas: &[Replica]) -> (String, String) {
    let mut all = Vec::new();
    for replica in replicas {
        let (status, answer) = chat(replica).await;
        assert_eq!(status, 200, "{answer}");
        let part = |key: &str| answer[key].as_str().unwrap().to_owned();
        all.push((part("model"), part("release")));
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// What asks for an adapter's manifest are answered by: its own key, another, none.
async fn codes(url: &str, key: &str, other: &str) -> [u16; 3] {
    let client = reqwest::Client::new();
    let mut codes = [0; 3];
    for (code, key) in codes.iter_mut().zip([key, other, ""]) {
        let answer = client.get(url).bearer_auth(key).send().await.unwrap();
        *code = answer.status().as_u16();
    }
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_trained_loaded_by_replicas_and_taken_back() {
    let cluster = Cluster::new("tuned").await;
    cluster.documents("The workshop opens at nine.").await;
    declare(&cluster, json!({})).await;
    let operator = cluster.operator_with_replicas();
    let (_worker, _fetcher) = (cluster.worker(), cluster.fetcher());
    cluster
        .until("a deployment is made", async || {
            let found = cluster.api::<Deployment>().get_opt("shop-recall").await;
            found.unwrap().is_some()
        })
        .await;
    let mut replicas = vec![
        Replica::start(&cluster, "shop", 1).await,
        Replica::start(&cluster, "shop", 2).await,
    ];
    for replica in &replicas {
        replica.ready(&cluster).await;
    }
    cluster.serving(1).await;
    let (status, refused) = chat(&replicas[0]).await;
    assert_eq!(status, 404, "{refused}");

    said(plugin(&cluster, &["suspend", "--adapter", "escalation"]));
    let refused = plugin(&cluster, &["run", "finetune"]).output().unwrap();
    assert!(!refused.status.success());
    let refused = text(&refused.stderr);
    assert!(
        refused.contains("escalation of shop is suspended"),
        "{refused}"
    );
    let off = ["suspend", "--adapter", "escalation", "--off"];
    said(plugin(&cluster, &off));
    said(plugin(&cluster, &["run", "finetune", "--wait"]));
    cluster.serving(2).await;
    let (adapter, release) = answers(&replicas).await;
    assert_eq!(release, "shop-2");
    let (_, digest) = adapter.rsplit_once("sha256-").unwrap();
    for table in [&["status", "shop"][..], &["releases", "shop"]] {
        let told = said(plugin(&cluster, table));
        assert!(
            told.contains("escalation") && told.contains(digest),
            "{told}"
        );
    }

    // A refresh of the index keeps it.
    cluster.documents("The workshop opens at ten.").await;
    cluster.serving(3).await;
    let kept = (adapter.clone(), "shop-3".to_owned());
    assert_eq!(answers(&replicas).await, kept);

    let map = cluster.api::<ConfigMap>().get("shop-serving").await;
    let releases = map.unwrap().data.unwrap().remove("releases").unwrap();
    let releases: BTreeMap<String, Value> = serde_json::from_str(&releases).unwrap();
    let wanted = &releases["shop-3"];
    let part = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    let own = &wanted["adapters"]["escalation"];
    let (url, key) = (part(own, "url"), part(own, "key"));
    let other = part(wanted, "key");
    assert_eq!(codes(&url, &key, &other).await, [200, 403, 403]);

    // One is started again with nobody to ask but the hub, and has it.
    operator.kill();
    let again = replicas.remove(0).restart(&cluster, &[]).await;
    replicas.push(again);
    assert_eq!(answers(&replicas).await, kept);

    // The next operator gives adapters out elsewhere, which is no reason to load them once more.
    let _operator = cluster.operator_with_replicas();
    said(plugin(&cluster, &["rollback", "shop", "1"]));
    cluster
        .until("nobody chats any more", async || {
            let mut gone = true;
            for replica in &replicas {
                gone &= chat(replica).await.0 == 404;
            }
            gone
        })
        .await;
}
