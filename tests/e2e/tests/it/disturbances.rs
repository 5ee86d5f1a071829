//! What administrators do to a cluster every day.

use std::sync::Arc;

use serde_json::json;

use crate::cluster::{AGENTS, SYSTEM, field, kubectl, try_kubectl, until};
use crate::node::{Pod, pods};
use crate::story::{Story, blocking, rolled_out};

const REQUESTED: &str = "{.spec.template.spec.containers[0].resources.requests.cpu}";

pub async fn rollout(story: Arc<Story>) {
    let act = async || {
        blocking(|| {
            kubectl(&["-n", AGENTS, "rollout", "restart", "deployment/shop-recall"]);
            rolled_out(AGENTS, "deployment/shop-recall");
        });
    };
    story.unharmed("a rollout of the replicas", act).await;
}

/// As `kubectl drain` does on all nodes at once: every replica is evicted, and what the budget refuses is asked for again.
pub async fn eviction(story: Arc<Story>) {
    let act = async || {
        blocking(|| {
            let all = pods(AGENTS, "recall").into_iter();
            let all: Vec<Pod> = all.filter(|p| p.name.starts_with("shop-")).collect();
            assert!(all.len() > 1, "{all:?}");
            let mut refused = 0;
            for pod in &all {
                until(&format!("{} is evicted", pod.name), || {
                    let done = evict(pod);
                    refused += usize::from(!done);
                    done
                });
            }
            rolled_out(AGENTS, "deployment/shop-recall");
            println!("    the budget refused {refused} times");
            refused
        })
    };
    let refused = story.unharmed("evictions", act).await;
    assert!(refused > 0, "the budget had nothing to refuse");
}

/// False when the budget refuses.
fn evict(pod: &Pod) -> bool {
    let metadata = json!({"name": pod.name, "namespace": pod.namespace});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), eviction.to_string()).unwrap();
    let (namespace, name) = (&pod.namespace, &pod.name);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let file = file.path().to_str().unwrap();
    match try_kubectl(&["create", "--raw", &path, "-f", file]) {
        Ok(_) => true,
        Err(why) if why.contains("disruption budget") => false,
        Err(why) => panic!("{name} is not evicted: {why}"),
    }
}

pub async fn helm_upgrade(story: Arc<Story>) {
    let act = async || {
        blocking(|| {
            story.install(&["--set", "log=warn,recall.resources.requests.cpu=160m"]);
            until("replicas are made anew", || {
                field("deployment/shop-recall", AGENTS, REQUESTED) == "160m"
            });
            rolled_out(AGENTS, "deployment/shop-recall");
        });
    };
    story.unharmed("helm upgrade", act).await;
}

pub async fn restarts(story: Arc<Story>) {
    for component in ["operator", "nats", "worker"] {
        let act = async || {
            blocking(|| {
                for pod in pods(SYSTEM, component) {
                    kubectl(&["-n", SYSTEM, "delete", "pod", &pod.name, "--now"]);
                }
            });
        };
        story
            .unharmed(&format!("a restart of {component}"), act)
            .await;
    }
    for what in [
        "deployment/loci-operator",
        "statefulset/loci-nats",
        "deployment/loci-worker-cpu",
    ] {
        blocking(|| rolled_out(SYSTEM, what));
    }
    story.follows().await;
    let unready = story.history.unready(AGENTS, "shop");
    assert!(unready.is_empty(), "Ready all the time: {unready:#?}");
}
