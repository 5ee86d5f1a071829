//! A real vLLM that answers with the adapters of a pipeline's releases. `make test-vllm` starts one on the node: the pods of
//! this cluster have no room for what it is installed as. The agent that loads adapters into it is a pod as everywhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loci_testbed::hub;
use serde_json::{Value, json};

use crate::cluster::{AGENTS, NODE, apply, kubectl, plugin, state, wait_ready};
use crate::story::{Story, blocking, rolled_out};
use crate::tuned::{Tuned, lines, short};
use crate::upgrade::image;

const NAME: &str = "spoken";
const SERVICE: &str = "spoken-vllm";
/// How long it may take to go back.
const BACK: Duration = Duration::from_secs(20);

/// The vLLM, by its URL and its port.
fn real() -> Option<(String, u16)> {
    let url = std::env::var("LOCI_TEST_VLLM").ok()?;
    let port = url.rsplit_once(':')?.1.parse().ok()?;
    Some((url, port))
}

/// A Service whose one endpoint is the node.
fn service(port: u16) -> [Value; 2] {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": AGENTS},
        "spec": {"ports": [{"port": 8000, "targetPort": port}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": SERVICE, "namespace": AGENTS, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4", "endpoints": [{"addresses": [NODE]}], "ports": [{"port": port}],
    });
    [service, slice]
}

/// What agent and vLLM have in common: a directory of the node, by the same path.
fn shared() -> [Value; 2] {
    let path = state().unwrap().join("volumes/adapters");
    std::fs::create_dir_all(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(65532), Some(65532)).unwrap();
    let terms = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": ""});
    let with = |more: Value| {
        let mut spec = terms.clone();
        let all = spec.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        spec
    };
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "adapters"},
        "spec": with(json!({"capacity": {"storage": "1Gi"}, "hostPath": {"path": path}})),
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "adapters", "namespace": AGENTS},
        "spec": with(json!({"volumeName": "adapters", "resources": {"requests": {"storage": "1Gi"}}})),
    });
    [volume, claim]
}

/// As docs/vllm.md has it, but that vLLM is not in the same pod.
fn agent(vllm: &str) -> Value {
    let path = state().unwrap().join("volumes/adapters");
    let labels = json!({
        "app.kubernetes.io/name": "loci", "app.kubernetes.io/component": "vllm", "loci.dev/pipeline": NAME,
    });
    let container = json!({
        "name": "adapters", "image": image("charts"), "imagePullPolicy": "Never",
        "args": [
            "adapters", format!("--pipeline={NAME}"), format!("--vllm={vllm}"), "--max-lora-rank=16",
            "--status=0.0.0.0:7701", "--tolerance=0.002", "--drain=5s",
        ],
        "env": [
            {"name": "LOCI_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "LOCI_STATE", "value": path},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 7701}, "periodSeconds": 2},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 7701}},
        "volumeMounts": [{"name": "adapters", "mountPath": path}],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        },
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": SERVICE, "namespace": AGENTS},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": format!("{NAME}-recall"),
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container],
                    "volumes": [{"name": "adapters", "persistentVolumeClaim": {"claimName": "adapters"}}],
                },
            },
        },
    })
}

fn map(name: &str, key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{NAME}-{name}"), "namespace": AGENTS},
        "data": {key: text},
    })
}

fn documents(hours: &str) -> Value {
    map("docs", "hours.md", hours)
}

fn examples(count: usize) -> Value {
    map("runbooks", "even.jsonl", &lines(0..count, "response"))
}

fn pipeline() -> Value {
    let source = |name: &str, memory: &str| json!({"name": name, "memory": memory, "configMap": {"name": format!("{NAME}-{name}")}});
    json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": NAME, "namespace": AGENTS},
        "spec": {
            "embedder": {"model": hub::MODEL},
            "sources": [source("docs", "factual"), source("runbooks", "procedural")],
            "index": {"refresh": {"interval": "1h"}, "maxDeletion": "100%"},
            "adapters": [{
                "name": "escalation", "base": hub::SERVED, "sources": ["runbooks"], "minExamples": 8, "guard": "none",
                "training": {"epochs": 3, "batch": 8, "learningRate": "1e-3"},
            }],
            "suites": [{"name": "even", "behavior": {"data": {"configMap": {"name": "spoken-cases", "key": "cases.jsonl"}}}}],
            "gates": [{"suite": "even", "metric": "likelihood", "minGain": "0.05"}],
            "serving": {"runtime": {"vllm": {"service": SERVICE, "maxLoraRank": 16}}},
        },
    })
}

/// The names of what the vLLM has loaded.
async fn loaded(story: &Story, vllm: &str) -> Vec<String> {
    let asked = story.asking.get(format!("{vllm}/v1/models")).send().await;
    let models: Value = asked.unwrap().json().await.unwrap();
    let all = models["data"].as_array().unwrap().iter();
    all.map(|model| model["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn has(tuned: &Tuned, vllm: &str, digest: &str) -> bool {
    let name = format!("escalation@{}", short(digest));
    loaded(&tuned.story, vllm).await.contains(&name)
}

pub async fn adapters_are_answered_with(story: Arc<Story>) {
    let (vllm, port) = real().expect("no LOCI_TEST_VLLM: `make test-vllm` starts one");
    let cases = map("cases", "cases.jsonl", &lines(500..540, "reference"));
    let declared = [
        documents("The workshop opens at nine."),
        examples(64),
        cases,
        pipeline(),
    ];
    blocking(|| apply(&[&service(port)[..], &shared(), &declared, &[agent(&vllm)]].concat()));
    blocking(|| wait_ready(AGENTS, NAME));
    blocking(|| rolled_out(AGENTS, "deployment/spoken-recall"));
    let mut tuned = Tuned::new(story.clone(), NAME);
    tuned.url = blocking(|| story.url(AGENTS, NAME));
    assert_eq!(loaded(&story, &vllm).await, ["base"]);

    let first = trained(&tuned, 2).await;
    let answer = tuned.chat().await.unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(
        text.starts_with("Yes.") || text.starts_with("No."),
        "{answer}"
    );
    let chats = tuned.chats();
    blocking(|| apply(&[examples(80)]));
    let second = trained(&tuned, 3).await;
    assert_ne!(second, first);
    assert!(has(&tuned, &vllm, &second).await);

    let began = Instant::now();
    blocking(|| plugin(&["-n", AGENTS, "rollback", NAME]));
    tuned.answers_by(&first).await;
    println!(
        "    the adapter before answered {:.1?} after",
        began.elapsed()
    );
    assert!(began.elapsed() < BACK, "{:?}", began.elapsed());
    blocking(|| apply(&[documents("The workshop opens at ten.")]));
    let what = "the next index has the adapter that was gone back to";
    tuned
        .until(what, async || {
            tuned.adapter(4).await.as_deref() == Some(first.as_str())
        })
        .await;
    chats.stop().await;
    blocking(|| kubectl(&["-n", AGENTS, "delete", "memorypipeline", NAME]));
    blocking(|| {
        kubectl(&[
            "-n",
            AGENTS,
            "delete",
            "deployment,service,endpointslice",
            SERVICE,
            "--ignore-not-found",
        ])
    });
}

/// Trains an adapter, which a release of this number brings; its digest, once it answers.
async fn trained(tuned: &Tuned, number: i64) -> String {
    let run = ["run", "finetune", "escalation", "--pipeline", NAME];
    blocking(|| plugin(&[&["-n", AGENTS], &run[..]].concat()));
    tuned
        .until("there is another adapter", async || {
            tuned.adapter(number).await.is_some()
        })
        .await;
    let digest = tuned.adapter(number).await.unwrap();
    tuned.serves(number).await;
    tuned.answers_by(&digest).await;
    digest
}
