//! From an empty cluster to a pipeline that serves through everything that happens to a cluster.

use std::time::Duration;

use loci_testbed::hub;
use serde_json::{Value, json};

use crate::cluster::{
    AGENTS, NODE, SYSTEM, apply, field, helm, kubectl, state, try_kubectl, until,
};
use crate::load::{Load, ask, client};

/// Pods that are not `restricted` are refused here.
fn namespace(name: &str) -> Value {
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

fn documents(hours: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs", "namespace": AGENTS},
        "data": {
            "hours.md": format!("# Opening hours\n\n{hours}\n"),
            "returns.md": "# Returns\n\nA parcel can be sent back within thirty days.\n",
        },
    })
}

fn pipeline() -> Vec<Value> {
    let suite = json!({"question": "parcel", "expected": [{"document": "returns.md"}]});
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faq", "namespace": AGENTS},
        "data": {"faq.jsonl": suite.to_string()},
    });
    let pipeline = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": "shop", "namespace": AGENTS},
        "spec": {
            "embedder": {"model": hub::MODEL},
            "sources": [{"name": "docs", "memory": "factual", "configMap": {"name": "docs"}}],
            "index": {"refresh": {"interval": "1h"}},
            "suites": [{"name": "faq", "retrieval": {"data": {"configMap": {"name": "faq", "key": "faq.jsonl"}}}}],
            "gates": [{"suite": "faq", "metric": "recallAt5", "floor": "0.50"}],
        },
    });
    vec![map, pipeline]
}

fn install(hub: &str, extra: &[&str]) {
    let (hub, watch) = (
        format!("hub={hub}"),
        format!("watchNamespaces={{{AGENTS}}}"),
    );
    let common = [
        "upgrade",
        "--install",
        "loci",
        "charts/loci",
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout=90s",
        "--set",
        &hub,
        "--set",
        &watch,
        "--set",
        "image.pullPolicy=Never,nats.image.pullPolicy=Never",
    ];
    helm(&[&common[..], extra].concat());
}

fn serving(number: u32) {
    let name = format!("shop-{number}");
    until(&format!("{name} serves"), || {
        field("memorypipeline/shop", AGENTS, "{.status.servingRelease}") == name
    });
}

fn names(namespace: &str, component: &str) -> Vec<String> {
    let label = format!("-lapp.kubernetes.io/component={component}");
    let names = kubectl(&["-n", namespace, "get", "pods", &label, "-oname"]);
    names.lines().map(str::to_owned).collect()
}

fn rolled_out(namespace: &str, what: &str) {
    kubectl(&["-n", namespace, "rollout", "status", what, "--timeout=120s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_by_helm_a_pipeline_serves_through_all_that_happens_to_a_cluster() {
    if state().is_none() {
        return;
    }
    let hub = hub::serve_on(NODE.parse().unwrap()).await;
    apply(&[namespace(SYSTEM), namespace(AGENTS), volume()]);
    helm(&[
        "upgrade",
        "--install",
        "loci-crds",
        "charts/loci-crds",
        "--namespace",
        SYSTEM,
    ]);
    install(&hub, &[]);
    helm(&["test", "loci", "--namespace", SYSTEM]);

    // kubectl apply, kubectl wait, a query through the Service with citations.
    apply(&[&[documents("The workshop opens at nine.")], &pipeline()[..]].concat());
    kubectl(&[
        "-n",
        AGENTS,
        "wait",
        "--for=condition=Ready",
        "memorypipeline/shop",
        "--timeout=180s",
    ]);
    rolled_out(AGENTS, "deployment/shop-recall");
    let address = field("service/shop-recall", AGENTS, "{.spec.clusterIP}");
    let (url, asking) = (format!("http://{address}:7700"), client());
    let answer = ask(&asking, &url).await.unwrap();
    assert_eq!(answer["release"], "shop-1");
    let citation = &answer["passages"][0]["citation"];
    assert_eq!(citation["source"], "docs", "{citation}");

    // Steady, for comparison.
    let load = Load::start(&url);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let steady = load.stop().await;
    assert!(steady.failed.is_empty(), "{:?}", steady.failed);

    let load = Load::start(&url);
    let swaps = 50;
    for number in 2..=swaps + 1 {
        apply(&[documents(&format!(
            "The workshop opens at {number} o'clock."
        ))]);
        serving(number);
    }
    let swapped = load.stop().await;
    println!(
        "50 swaps: {} asked, {} failed, p99 {:?} (steady {:?})",
        swapped.asked,
        swapped.failed.len(),
        swapped.p99(),
        steady.p99()
    );
    assert!(swapped.failed.is_empty(), "{:?}", swapped.failed);

    let during = async |what: &str, act: &dyn Fn()| {
        let load = Load::start(&url);
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::task::block_in_place(act);
        tokio::time::sleep(Duration::from_secs(8)).await;
        let report = load.stop().await;
        println!(
            "{what}: {} asked, {} failed, p99 {:?}",
            report.asked,
            report.failed.len(),
            report.p99()
        );
        assert!(report.failed.is_empty(), "{what}: {:?}", report.failed);
    };
    during("a rollout of the replicas", &|| {
        kubectl(&["-n", AGENTS, "rollout", "restart", "deployment/shop-recall"]);
        rolled_out(AGENTS, "deployment/shop-recall");
    })
    .await;
    during("an eviction", &|| {
        let pod = names(AGENTS, "recall")[0].clone();
        let name = pod.trim_start_matches("pod/");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": AGENTS}});
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), eviction.to_string()).unwrap();
        let path = format!("/api/v1/namespaces/{AGENTS}/pods/{name}/eviction");
        kubectl(&["create", "--raw", &path, "-f", file.path().to_str().unwrap()]);
        rolled_out(AGENTS, "deployment/shop-recall");
    })
    .await;
    during("helm upgrade", &|| {
        install(
            &hub,
            &["--set", "log=warn,recall.resources.requests.cpu=200m"],
        );
        rolled_out(AGENTS, "deployment/shop-recall");
    })
    .await;
    for component in ["operator", "nats", "worker"] {
        during(&format!("a restart of {component}"), &|| {
            for pod in names(SYSTEM, component) {
                kubectl(&["-n", SYSTEM, "delete", &pod, "--now"]);
            }
        })
        .await;
    }
    // All of it is there again, and works.
    for what in [
        "deployment/loci-operator",
        "statefulset/loci-nats",
        "deployment/loci-worker-cpu",
    ] {
        rolled_out(SYSTEM, what);
    }
    apply(&[documents("The workshop is closed.")]);
    serving(swaps + 2);

    // Uninstalled and installed again: what was built is kept, and goes on being served meanwhile.
    during("uninstalling and reinstalling", &|| {
        helm(&["uninstall", "loci", "--namespace", SYSTEM, "--wait"]);
        until("nothing is left behind", || {
            let kinds = "all,secret,configmap,networkpolicy,role,rolebinding,serviceaccount";
            let label = "-lapp.kubernetes.io/instance=loci";
            let left = ["get", kinds, "-A", label, "-oname"];
            try_kubectl(&left).unwrap().is_empty()
        });
        install(&hub, &[]);
    })
    .await;
    apply(&[documents("The workshop opens again.")]);
    serving(swaps + 3);
}
