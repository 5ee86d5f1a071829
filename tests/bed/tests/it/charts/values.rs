//! What can be set, what cannot, and the examples.

use serde_json::{Value, json};

use super::{VALUES, named, of_kind, pods, rendered, selects, template};

#[test]
fn wrong_values_are_refused_by_name() {
    for (set, expected) in [
        ("operators.a=1", "'operators' not allowed"),
        ("operator.replica=2", "'replica' not allowed"),
        (
            "operator.tolerations[0].efect=NoSchedule",
            "'efect' not allowed",
        ),
        ("operator.affinity.node=x", "'node' not allowed"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.tags=x", "'tags' not allowed"),
        ("imagePullSecrets[0].secret=x", "'secret' not allowed"),
        (
            "workers[0].class=fetch,workers[0].replicas=1",
            "/workers/0/class",
        ),
        (
            "workers[0].class=a,workers[0].replicas=many",
            "/workers/0/replicas",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].gpus=1",
            "'gpus' not allowed",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].resources.limit.cpu=1",
            "'limit' not allowed",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[1].class=a,workers[1].replicas=1",
            "the class a stands twice",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].checkpoints=often",
            "/workers/0/checkpoints",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].device=tpu",
            "/workers/0/device",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].requires.memory=lots",
            "/workers/0/requires/memory",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].requires.computeCapability=sm_80",
            "/workers/0/requires/computeCapability",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].requires.cores=1",
            "'cores' not allowed",
        ),
        (
            "workers[0].class=a,workers[0].replicas=1,workers[0].device=cpu,workers[0].requires.memory=20Gi",
            "the class a asks for a GPU by requires, and for none by device: cpu",
        ),
        ("recall.replicas=0", "/recall/replicas"),
        ("recall.queriers[0].pods=x", "'pods' not allowed"),
        ("nats.replicas=2", "/nats/replicas"),
        ("nats.enabled=false", "/nats"),
        ("nats.enabled=false,nats.url=http://nats", "/nats/url"),
        ("nats.url=nats://nats:4222", "set nats.enabled=false"),
        ("nats.storage.size=lots", "/nats/storage/size"),
        ("store.size=lots", "/store/size"),
        ("store.url=gs://acme/loci", "/store/url"),
        ("store.accessModes={ReadOnlyMany}", "/store/accessModes/0"),
        ("watchNamespaces={Agents}", "/watchNamespaces/0"),
        (
            "clusterWide=true,watchNamespaces={agents}",
            "give one of them",
        ),
        ("clusterWide=perhaps", "/clusterWide"),
        ("hub=ftp://hub.example", "/hub"),
        ("log=", "/log"),
        ("networkPolicies.enable=true", "'enable' not allowed"),
    ] {
        let said = template("loci", &["--set", set]).expect_err(set);
        assert!(said.contains(expected), "{set}: {said}");
    }
    let said = template("loci-crds", &["--set", "policies.enabled=false"]).unwrap_err();
    assert!(said.contains("'policies' not allowed"), "{said}");
}

#[test]
fn workers_go_to_the_devices_of_their_class() {
    let all = rendered(VALUES[2]);
    let spec = |name: &str| named(&all, "Deployment", name)["spec"]["template"]["spec"].clone();
    let gpu = spec("loci-worker-gpu-l4");
    assert_eq!(gpu["runtimeClassName"], "nvidia");
    assert_eq!(gpu["nodeSelector"]["nvidia.com/gpu.product"], "NVIDIA-L4");
    assert_eq!(gpu["tolerations"][0]["key"], "nvidia.com/gpu");
    let container = &gpu["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], 1);
    let args = |spec: &Value| spec["containers"][0]["args"].as_array().unwrap().clone();
    for arg in [
        "--class=gpu-l4",
        "--device=cuda",
        "--require-memory=20Gi",
        "--require-capability=8.9",
    ] {
        assert!(args(&gpu).contains(&json!(arg)), "{arg}");
    }
    let image = container["image"].as_str().unwrap();
    assert!(image.starts_with("ghcr.io/loci-dev/loci-gpu:"), "{image}");
    // A pod whose card is none that the class may use is not ready.
    let probe = json!({"httpGet": {"path": "/readyz", "port": "status"}, "periodSeconds": 5});
    assert_eq!(container["readinessProbe"], probe);
    let status = json!({"name": "status", "containerPort": 7701, "protocol": "TCP"});
    assert!(container["ports"].as_array().unwrap().contains(&status));
    assert!(args(&gpu).contains(&json!("--status=0.0.0.0:7701")));
    let cpu = spec("loci-worker-cpu");
    let image = cpu["containers"][0]["image"].as_str().unwrap();
    assert!(image.starts_with("ghcr.io/loci-dev/loci:"), "{image}");
    assert!(args(&cpu).contains(&json!("--device=cpu")));
    let require = |arg: &Value| arg.as_str().unwrap().starts_with("--require");
    assert!(!args(&cpu).iter().any(require));
    for field in ["runtimeClassName", "nodeSelector", "tolerations"] {
        assert!(
            cpu.get(field)
                .is_none_or(|f| f.as_array().is_some_and(Vec::is_empty)),
            "{field}"
        );
    }
}

#[test]
fn a_class_that_says_nothing_of_devices_takes_those_that_there_are() {
    let all = rendered(&["--set=workers[0].class=a,workers[0].replicas=1,metrics.enabled=false"]);
    let spec = &named(&all, "Deployment", "loci-worker-a")["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    let args = container["args"].as_array().unwrap();
    assert!(args.contains(&json!("--device=auto")), "{args:?}");
    // Whether it takes steps is told also where nobody reads metrics.
    let status = json!([{"name": "status", "containerPort": 7701, "protocol": "TCP"}]);
    assert_eq!(container["ports"], status);
}

#[test]
fn nothing_stands_alone_in_the_example_for_production() {
    let all = rendered(VALUES[1]);
    assert!(of_kind(&all, "StatefulSet").is_empty(), "NATS is elsewhere");
    for (name, secret) in [
        ("loci-operator", "loci-nats"),
        ("loci-worker-cpu", "loci-nats-worker-cpu"),
    ] {
        let deployment = named(&all, "Deployment", name);
        let spec = &deployment["spec"]["template"]["spec"];
        assert!(
            deployment["spec"]["replicas"].as_i64().unwrap() > 1,
            "{name}"
        );
        let env = spec["containers"][0]["env"].as_array().unwrap();
        let value = |key: &str| {
            let found = env.iter().find(|e| e["name"] == key);
            found.unwrap_or_else(|| panic!("{name}: no {key}"))["value"].clone()
        };
        assert_eq!(value("LOCI_NATS_URL"), "tls://nats.nats.svc:4222");
        assert_eq!(value("LOCI_NATS_REPLICAS"), "3");
        let volumes = spec["volumes"].as_array().unwrap();
        let secrets = volumes.iter().map(|v| &v["secret"]["secretName"]);
        let secrets: Vec<_> = secrets.filter(|s| !s.is_null()).collect();
        assert_eq!(secrets, [secret], "{name}: one user of NATS");
    }
    let operator = named(&all, "Deployment", "loci-operator");
    let labels = &operator["spec"]["template"]["metadata"]["labels"];
    let budget = named(&all, "PodDisruptionBudget", "loci-operator");
    assert!(selects(&budget["spec"]["selector"], labels));
    let spread = &operator["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    assert!(selects(&spread["labelSelector"], labels));
    // A budget for one would keep a node from being drained.
    assert!(of_kind(&rendered(&[]), "PodDisruptionBudget").is_empty());
}

#[test]
fn a_bucket_needs_no_volume_and_its_keys_go_to_the_operator_and_workers_alone() {
    let all = rendered(&["--set=store.url=s3://acme/loci,store.secret=bucket"]);
    assert!(of_kind(&all, "PersistentVolumeClaim").is_empty());
    let mut keys = Vec::new();
    for (labels, spec) in pods(&all) {
        let container = &spec["containers"][0];
        let component = labels["app.kubernetes.io/component"].as_str();
        if !container["envFrom"].is_null() {
            assert_eq!(
                container["envFrom"],
                json!([{"secretRef": {"name": "bucket"}}])
            );
            let place = json!({"name": "LOCI_STORE", "value": "s3://acme/loci"});
            assert!(container["env"].as_array().unwrap().contains(&place));
            keys.extend(component);
        }
    }
    keys.sort_unstable();
    assert_eq!(keys, ["operator", "worker"]);
    let rest = rendered(&["--set=store.secret=bucket"]);
    let none = |(_, spec): (&Value, &Value)| spec["containers"][0]["envFrom"].is_null();
    assert!(pods(&rest).into_iter().all(none), "no bucket, no keys");
}

#[test]
fn the_charts_are_of_one_version() {
    let versions = ["loci", "loci-crds"].map(|chart| {
        let text = crate::definitions::text(&format!("charts/{chart}/Chart.yaml"));
        let chart: Value = serde_saphyr::from_str(&text).unwrap();
        (chart["version"].clone(), chart["appVersion"].clone())
    });
    assert_eq!(versions[0], versions[1]);
    assert_eq!(versions[0].0, versions[0].1);
}
