//! The Helm charts as they are rendered, and what an API server says of that.

mod values;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use loci_testbed::{ControlPlane, root};
use serde_json::{Value, json};

const SYSTEM: &str = "loci-system";
const AGENTS: &str = "agents";
/// What a chart is rendered with, each a different corner.
const VALUES: [&[&str]; 5] = [
    &[],
    &["--values=examples/helm/ha-values.yaml"],
    &["--values=examples/helm/gpu-values.yaml"],
    &["--set=clusterWide=true,recall.tokenSecret=tokens,hub=http://hub.example"],
    &[
        "--set=nats.storage.persistent=true,nats.storage.storageClassName=fast,store.existingClaim=store,imagePullSecrets[0].name=pull",
    ],
];

/// `helm template`: the objects, or why there are none.
fn template(chart: &str, args: &[&str]) -> Result<Vec<Value>, String> {
    let helm = std::env::var("LOCI_TEST_HELM")
        .expect("LOCI_TEST_HELM names no helm: run `make tools`, and the tests by `make test`");
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(helm)
        .args([
            "template",
            "loci",
            &format!("charts/{chart}"),
            "--namespace",
            SYSTEM,
        ])
        .args(args)
        .current_dir(root())
        .env("HELM_CACHE_HOME", home.path())
        .env("HELM_CONFIG_HOME", home.path())
        .env("HELM_DATA_HOME", home.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    let all: Vec<Value> = serde_saphyr::from_multiple(&text(&output.stdout)).unwrap();
    Ok(all.into_iter().filter(|o| !o.is_null()).collect())
}

fn rendered(args: &[&str]) -> Vec<Value> {
    template("loci", args).unwrap_or_else(|e| panic!("{args:?}: {e}"))
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|o| o["kind"] == kind).collect()
}

fn named<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(all, kind)
        .into_iter()
        .find(|o| o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The labels and the spec of every pod that comes of these objects.
fn pods(all: &[Value]) -> Vec<(&Value, &Value)> {
    let of = |object: &'_ Value| match object["kind"].as_str().unwrap() {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" => Some("/spec/template"),
        _ => None,
    };
    let found = all.iter().filter_map(|o| Some((o, of(o)?)));
    found
        .map(|(object, at)| {
            let pod = object.pointer(at).unwrap();
            (&pod["metadata"]["labels"], &pod["spec"])
        })
        .collect()
}

/// Whether these labels are asked for by that selector.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object().unwrap();
    wanted.iter().all(|(key, value)| &labels[key] == value)
}

/// What `kubectl apply` says on an API server that wants `restricted` pods; nothing is stored.
fn said_of(plane: &ControlPlane, objects: &[Value]) -> (bool, String) {
    use std::io::Write;
    let kubectl = std::env::var("LOCI_TEST_KUBECTL")
        .expect("LOCI_TEST_KUBECTL names no kubectl: run `make test`");
    let cache = tempfile::tempdir().unwrap();
    let mut child = Command::new(kubectl)
        .args(["apply", "--server-side", "--validate=strict", "-f", "-"])
        .arg("--dry-run=server")
        .env("KUBECONFIG", plane.kubeconfig())
        .env("KUBECACHEDIR", cache.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut objects = objects.to_vec();
    let here = |o: &&mut Value| !o["kind"].as_str().unwrap().starts_with("Cluster");
    for object in objects.iter_mut().filter(here) {
        let namespace = &mut object["metadata"]["namespace"];
        if namespace.is_null() {
            *namespace = SYSTEM.into();
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut input = child.stdin.take().unwrap();
    input.write_all(list.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

async fn namespaces(plane: &ControlPlane) {
    use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
    use kube::api::{Api, Patch, PatchParams};
    let client = plane.client().await.unwrap();
    let by = PatchParams::apply("it").force();
    for name in [SYSTEM, AGENTS] {
        let level = |mode: &str| format!("pod-security.kubernetes.io/{mode}");
        let labels = json!({level("enforce"): "restricted", level("warn"): "restricted"});
        let wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let all: Api<Namespace> = Api::all(client.clone());
        all.patch(name, &by, &Patch::Apply(wanted)).await.unwrap();
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        let patch = Patch::Apply(account);
        accounts.patch("default", &by, &patch).await.unwrap();
    }
}

#[tokio::test]
async fn an_api_server_takes_all_that_is_rendered_and_finds_every_pod_restricted() {
    let plane = ControlPlane::shared().await.unwrap();
    namespaces(plane).await;
    for values in VALUES {
        let (taken, said) = said_of(plane, &rendered(values));
        assert!(taken && said.is_empty(), "{values:?}: {said}");
    }
    // It does look.
    let mut all = rendered(&[]);
    let worker = all
        .iter_mut()
        .find(|o| o["metadata"]["name"] == "loci-worker-cpu")
        .unwrap();
    worker["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    worker["spec"]["template"]["spec"]["hostnetwork"] = json!(true);
    let (taken, said) = said_of(plane, &all);
    assert!(!taken && said.contains("hostnetwork"), "{said}");
    let worker = all
        .iter_mut()
        .find(|o| o["metadata"]["name"] == "loci-worker-cpu")
        .unwrap();
    worker["spec"]["template"]["spec"]
        .as_object_mut()
        .unwrap()
        .remove("hostnetwork");
    let (_, said) = said_of(plane, &all);
    assert!(said.contains("would violate PodSecurity"), "{said}");
}

#[test]
fn every_container_asks_for_what_it_needs_is_limited_and_writes_nowhere_but_to_volumes() {
    for values in VALUES {
        for (labels, spec) in pods(&rendered(values)) {
            let containers = spec["containers"].as_array().unwrap();
            for container in containers {
                let resources = &container["resources"];
                let given = ["/requests/cpu", "/requests/memory", "/limits/memory"];
                for part in given {
                    assert!(
                        resources.pointer(part).is_some(),
                        "{labels} {part}: {resources}"
                    );
                }
                assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            }
        }
    }
}

#[test]
fn each_pod_is_reached_by_those_that_have_to() {
    let all = rendered(&[]);
    let policies = of_kind(&all, "NetworkPolicy");
    let mut seen = BTreeSet::new();
    for (labels, _) in pods(&all)
        .into_iter()
        .filter(|(l, _)| l["app.kubernetes.io/component"] != "recall")
    {
        let mine: Vec<_> = policies
            .iter()
            .filter(|p| selects(&p["spec"]["podSelector"], labels))
            .collect();
        assert_eq!(mine.len(), 1, "{labels}");
        let spec = &mine[0]["spec"];
        assert!(
            spec["policyTypes"]
                .as_array()
                .unwrap()
                .contains(&json!("Ingress"))
        );
        let component = labels["app.kubernetes.io/component"].as_str().unwrap();
        let from = |rule: &Value| rule["from"][0]["podSelector"]["matchLabels"].clone();
        let ingress: Vec<&Value> = spec["ingress"].as_array().into_iter().flatten().collect();
        assert!(
            ingress.iter().all(|rule| rule["from"].is_array()),
            "{component} is open to all"
        );
        if component == "operator" {
            let artifacts = ingress
                .iter()
                .find(|r| r["ports"][0]["port"] == "artifacts")
                .unwrap();
            assert_eq!(from(artifacts)["app.kubernetes.io/component"], "recall");
            assert_eq!(artifacts["from"][0]["namespaceSelector"], json!({}));
            let second = &artifacts["from"][1]["podSelector"]["matchLabels"];
            assert_eq!(second["app.kubernetes.io/component"], "fetcher");
        }
        if component == "nats" {
            assert_eq!(
                ingress[0]["ports"],
                json!([{"port": "nats", "protocol": "TCP"}])
            );
            assert_eq!(from(ingress[0])["app.kubernetes.io/instance"], "loci");
            assert!(ingress[0]["from"][0].get("namespaceSelector").is_none());
            let second = &ingress[0]["from"][1]["podSelector"]["matchLabels"];
            assert_eq!(second["app.kubernetes.io/component"], "fetcher");
        }
        seen.insert(component);
    }
    assert!(
        seen.is_superset(&["operator", "worker", "nats"].into()),
        "{seen:?}"
    );

    let off = rendered(&["--set=networkPolicies.enabled=false"]);
    assert_eq!(of_kind(&off, "NetworkPolicy"), Vec::<&Value>::new());
    let told = |all: &[Value]| {
        let env = &named(all, "Deployment", "loci-operator")["spec"]["template"]["spec"]["containers"]
            [0]["env"];
        let found = env
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["name"] == "LOCI_RECALL_QUERIERS");
        found.map(|e| e["value"].as_str().unwrap().to_owned())
    };
    assert_eq!(told(&off).as_deref(), Some("open"), "replicas too");
    assert_eq!(told(&all).as_deref(), Some("[]"));
    let some = rendered(&[VALUES[1][0]]);
    let peers: Value = serde_json::from_str(&told(&some).unwrap()).unwrap();
    let label = "/0/podSelector/matchLabels/app.kubernetes.io~1part-of";
    assert_eq!(peers.pointer(label), Some(&json!("agents")));
}

#[test]
fn rights_are_of_the_watched_namespaces_unless_all_are_asked_for() {
    let all = rendered(&["--set=watchNamespaces={agents,support}"]);
    // Whether a namespace is there can be asked of the cluster only.
    let beyond = of_kind(&all, "ClusterRole");
    assert_eq!(beyond.len(), 1);
    let namespaces = json!({
        "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["agents", "support"], "verbs": ["get"],
    });
    assert_eq!(beyond[0]["rules"], json!([namespaces]));
    for namespace in ["agents", "support"] {
        let here = |kind: &str| {
            let of = of_kind(&all, kind).into_iter();
            let mut of = of.filter(|o| o["metadata"]["namespace"] == namespace);
            of.find(|o| o["metadata"]["name"] == "loci-operator")
                .unwrap()
        };
        assert_eq!(here("RoleBinding")["subjects"][0]["namespace"], SYSTEM);
        assert_eq!(here("RoleBinding")["roleRef"]["kind"], "Role");
        here("Role");
    }
    let own = rendered(&[]);
    let roles = of_kind(&own, "Role");
    assert!(
        roles
            .iter()
            .all(|r| r["metadata"].get("namespace").is_none_or(|n| n == SYSTEM))
    );

    let wide = rendered(&["--set=clusterWide=true"]);
    let rules = |o: &Value| o["rules"].as_array().unwrap().clone();
    let of_one = rules(named(&own, "Role", "loci-operator"));
    let of_all = rules(named(&wide, "ClusterRole", "loci-operator"));
    assert!(of_one.iter().all(|r| of_all.contains(r)), "the same rights");
    for rule in of_one.iter().chain(&of_all) {
        let has = |key: &str, value: &str| rule[key].as_array().unwrap().contains(&json!(value));
        assert!(
            !["apiGroups", "resources", "verbs"]
                .iter()
                .any(|k| has(k, "*")),
            "{rule}"
        );
        assert!(!has("resources", "secrets"), "no Secrets: {rule}");
    }
}

#[test]
fn each_role_has_a_user_of_its_own_at_the_charts_nats() {
    let all = rendered(&["--set=watchNamespaces={agents,support}"]);
    let text = |o: &Value, key: &str| o["stringData"][key].as_str().unwrap_or_default().to_owned();
    let secrets = of_kind(&all, "Secret");
    let of_server = |o: &&&Value| o["stringData"]["nats.conf"].is_string();
    let of_server = *secrets.iter().find(of_server).unwrap();
    let config = text(of_server, "nats.conf");
    let server = named(&all, "StatefulSet", "loci-nats");
    let volumes = server["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let mounted = volumes.iter().find(|v| v["name"] == "config").unwrap();
    assert_eq!(
        mounted["secret"]["secretName"],
        of_server["metadata"]["name"]
    );
    let mut users = BTreeSet::new();
    for secret in secrets
        .iter()
        .filter(|s| s["stringData"]["url"].is_string())
    {
        let url = text(secret, "url");
        let (user, rest) = url
            .strip_prefix("nats://")
            .unwrap()
            .split_once(':')
            .unwrap();
        let (password, _) = rest.split_once('@').unwrap();
        let known = format!("{{user: \"{user}\", password: \"{password}\", permissions:");
        assert_eq!(config.matches(&known).count(), 1, "{user}");
        if let Some(namespace) = user.strip_prefix("fetcher-") {
            assert_eq!(secret["metadata"]["namespace"], namespace);
            assert_eq!(secret["metadata"]["name"], "loci-fetcher-nats");
        }
        users.insert(user.to_owned());
    }
    let expected = [
        "operator",
        "worker-cpu",
        "fetcher-agents",
        "fetcher-support",
    ];
    assert_eq!(users, expected.map(str::to_owned).into());
    assert_eq!(config.matches("{user:").count(), expected.len());
    assert!(!config.contains('@'), "nothing is left to fill in");
}

#[test]
fn definitions_outlive_their_chart_and_policies_do_not() {
    let keep = |o: &&Value| o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
    let all = template("loci-crds", &[]).unwrap();
    let kept: BTreeSet<_> = all
        .iter()
        .filter(keep)
        .map(|o| o["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kept, ["CustomResourceDefinition"].into());
    assert_eq!(
        all.iter().filter(keep).count(),
        loci_crds::definitions().len()
    );
    assert_eq!(
        of_kind(&all, "CustomResourceDefinition").len(),
        loci_crds::definitions().len()
    );
    assert_eq!(of_kind(&all, "ValidatingAdmissionPolicy").len(), 2);
    assert_eq!(of_kind(&all, "ValidatingAdmissionPolicyBinding").len(), 2);
    let off = template("loci-crds", &["--set=admissionPolicies.enabled=false"]).unwrap();
    assert!(off.iter().all(|o| o["kind"] == "CustomResourceDefinition"));
}
