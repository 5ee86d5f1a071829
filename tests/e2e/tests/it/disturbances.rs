//! What administrators do to a cluster every day.

use std::sync::Arc;

use serde_json::json;

use crate::cluster::{AGENTS, SYSTEM, field, kubectl, until};
use crate::node::pods;
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

pub async fn eviction(story: Arc<Story>) {
    let act = async || {
        blocking(|| {
            let pod = pods(AGENTS, "recall")
                .into_iter()
                .find(|p| p.name.starts_with("shop-"))
                .unwrap();
            let metadata = json!({"name": pod.name, "namespace": AGENTS});
            let eviction =
                json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), eviction.to_string()).unwrap();
            let path = format!("/api/v1/namespaces/{AGENTS}/pods/{}/eviction", pod.name);
            kubectl(&[
                "create",
                "--raw",
                &path,
                "-f",
                file.path().to_str().unwrap(),
            ]);
            rolled_out(AGENTS, "deployment/shop-recall");
        });
    };
    story.unharmed("an eviction", act).await;
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
