//! From an earlier chart to this one.

use std::process::Command;
use std::sync::Arc;

use loci_testbed::root;
use serde_json::{Value, json};

use crate::cluster::{AGENTS, RIVALS, SYSTEM, apply, field, kubectl, state, until};
use crate::story::{Story, blocking, definitions, rolled_out};

/// The charts as they were released.
pub const EARLIER: &str = "tests/fixtures/chart-0.1.0";
const IMAGE: &str = "{.spec.template.spec.containers[0].image}";

/// The image of a chart, by its appVersion.
pub fn image(charts: &str) -> String {
    let file = root().join(charts).join("loci/Chart.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let version = text.lines().find_map(|l| l.strip_prefix("appVersion: "));
    format!("ghcr.io/loci-dev/loci:{}", version.unwrap())
}

/// Lets this program run as the earlier charts' own: under the image's name that they ask for, and with the rights that
/// it asks for since.
pub fn lend(rendered: &str) {
    tag();
    let all: Vec<Value> = serde_saphyr::from_multiple(rendered).unwrap();
    let of_rights = |o: &Value| {
        let kind = o["kind"].as_str().unwrap_or_default();
        kind.ends_with("Role") || kind.ends_with("RoleBinding")
    };
    let rights = all.into_iter().filter(of_rights);
    let rename = |mut object: Value| {
        let lent = |name: &Value| format!("lent-{}", name.as_str().unwrap()).into();
        object["metadata"]["name"] = lent(&object["metadata"]["name"]);
        object["metadata"]["labels"] = json!({"loci.test/lent": "true"});
        let clusters = object["kind"].as_str().unwrap().starts_with("Cluster");
        if !clusters && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = SYSTEM.into();
        }
        if object["roleRef"].is_object() {
            object["roleRef"]["name"] = lent(&object["roleRef"]["name"]);
        }
        object
    };
    apply(&rights.map(rename).collect::<Vec<_>>());
}

/// Lets fetchers reach the earlier chart's NATS, which knew of none, by the only user that it has. The later chart takes
/// the Secrets over.
pub fn lend_nats() {
    let data = field("secret/loci-nats", SYSTEM, "{.data}");
    let data: Value = serde_json::from_str(&data).unwrap();
    let secret = |namespace: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "loci-fetcher-nats", "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "loci", "meta.helm.sh/release-namespace": SYSTEM},
            },
            "data": {"url": data["url"], "password": data["password"]},
        })
    };
    apply(&[secret(AGENTS), secret(RIVALS)]);
}

fn tag() {
    let socket = state().unwrap().join("containerd.sock");
    let done = Command::new("ctr")
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "tag", "--force"])
        .args([image("charts"), image(EARLIER)])
        .status()
        .unwrap();
    assert!(done.success());
}

/// Definitions first, then the chart, as docs/operations.md says. Nobody who asks meanwhile is let down.
pub async fn from_an_earlier_chart(story: Arc<Story>) {
    let image_of = |namespace: &str, what: &str| field(what, namespace, IMAGE);
    let (operator, replicas) = ("deployment/loci-operator", "deployment/shop-recall");
    let (before, now) = (image(EARLIER), image("charts"));
    blocking(|| {
        assert_eq!(image_of(SYSTEM, operator), before);
        assert_eq!(image_of(AGENTS, replicas), before);
    });
    let act = async || {
        blocking(|| {
            definitions("charts");
            story.install(&[]);
            rolled_out(SYSTEM, operator);
            until("replicas are made anew", || {
                image_of(AGENTS, replicas) == now
            });
            rolled_out(AGENTS, replicas);
            kubectl(&[
                "delete",
                "role,rolebinding,clusterrole,clusterrolebinding",
                "-A",
                "-lloci.test/lent=true",
            ]);
        });
    };
    story.unharmed("an upgrade from 0.1.0", act).await;
    blocking(|| {
        assert_eq!(image_of(SYSTEM, operator), now);
        kubectl(&["get", "validatingadmissionpolicy", "loci-machine-paths"]);
        kubectl(&["-n", AGENTS, "get", "networkpolicy", "shop-recall"]);
    });
    story.history.forget();
    story.follows().await;
}
