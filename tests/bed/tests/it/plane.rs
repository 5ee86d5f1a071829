//! The control plane itself.

use std::path::Path;
use std::process::Stdio;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use loci_testbed::{ControlPlane, service_account};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{refusal, until};

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn create() -> PostParams {
    PostParams::default()
}

#[tokio::test]
async fn roles_decide_and_the_audit_log_tells() {
    let plane = ControlPlane::shared().await.unwrap();
    let ns = plane.namespace("roles").await.unwrap();
    let reader = service_account(&ns, "reader");
    let client = plane.client_as(&reader, &[]).await.unwrap();
    let seen: Api<ConfigMap> = Api::namespaced(client, &ns);
    let (code, said) = refusal(seen.list(&ListParams::default()).await);
    assert_eq!(code, 403, "{said}");
    assert!(said.contains(&reader), "{said}");

    let admin = plane.client().await.unwrap();
    let roles: Api<Role> = Api::namespaced(admin.clone(), &ns);
    let role = object(json!({
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    }));
    roles.create(&create(), &role).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(admin, &ns);
    let binding = object(json!({
        "metadata": {"name": "readers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccounts:{ns}")}]
    }));
    bindings.create(&create(), &binding).await.unwrap();
    until("the role counts", async || {
        seen.list(&ListParams::default()).await.is_ok()
    })
    .await;

    until("the log tells who listed, and by which role", async || {
        plane.audit().unwrap().iter().any(|event| {
            let why = event["annotations"]["authorization.k8s.io/reason"].as_str();
            event["impersonatedUser"]["username"] == reader.as_str()
                && event["verb"] == "list"
                && why.is_some_and(|w| w.contains(&format!("readers/{ns}")))
        })
    })
    .await;
}

#[tokio::test]
async fn admission_policies_count() {
    let plane = ControlPlane::shared().await.unwrap();
    let ns = plane.namespace("admission").await.unwrap();
    let client = plane.client().await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let policy = object(json!({
        "metadata": {"name": ns},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "has(object.data)", "message": "say something"}]
        }
    }));
    policies.create(&create(), &policy).await.unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let binding = object(json!({
        "metadata": {"name": ns},
        "spec": {"policyName": ns, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}}}}
    }));
    bindings.create(&create(), &binding).await.unwrap();

    let maps: Api<ConfigMap> = Api::namespaced(client, &ns);
    let dry = PostParams {
        dry_run: true,
        ..create()
    };
    let silent = object(json!({"metadata": {"name": "silent"}}));
    until("the policy counts", async || {
        maps.create(&dry, &silent).await.is_err()
    })
    .await;
    let (_, said) = refusal(maps.create(&create(), &silent).await);
    assert!(said.contains("say something"), "{said}");
}

#[tokio::test]
async fn controllers_collect_garbage_and_a_drop_leaves_nothing() {
    let plane = ControlPlane::start().await.unwrap();
    plane.controllers().await.unwrap();
    let ns = plane.namespace("garbage").await.unwrap();
    let client = plane.client().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &ns);
    let owner = object(json!({"metadata": {"name": "owner"}}));
    let owner = maps.create(&create(), &owner).await.unwrap();
    let owned = object(json!({"metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]}}));
    maps.create(&create(), &owned).await.unwrap();
    maps.delete("owner", &DeleteParams::default())
        .await
        .unwrap();
    until("what is owned goes with its owner", async || {
        maps.get_opt("owned").await.unwrap().is_none()
    })
    .await;

    let namespaces: Api<Namespace> = Api::all(client);
    namespaces
        .delete(&ns, &DeleteParams::default())
        .await
        .unwrap();
    until("the namespace goes", async || {
        namespaces.get_opt(&ns).await.unwrap().is_none()
    })
    .await;

    let kubeconfig = plane.kubeconfig();
    drop(plane);
    assert!(!kubeconfig.parent().unwrap().exists());
    assert!(namespaces.get_opt(&ns).await.is_err(), "it answers yet");
}

#[tokio::test]
async fn kubectl_talks_to_it() {
    let plane = ControlPlane::shared().await.unwrap();
    let kubectl = std::env::var("LOCI_TEST_KUBECTL")
        .expect("LOCI_TEST_KUBECTL names no kubectl: run `make test`");
    let output = Command::new(kubectl)
        .args(["version", "--output=json"])
        .env("KUBECONFIG", plane.kubeconfig())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let versions: Value = serde_json::from_slice(&output.stdout).expect(&said);
    assert_eq!(versions["serverVersion"]["major"], "1", "{versions}");
}

#[tokio::test]
async fn it_ends_with_its_process_even_when_that_is_killed() {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_loci-testbed"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = output.next_line().await.unwrap().unwrap();
    let kubeconfig = line.strip_prefix("export KUBECONFIG=").unwrap();
    let dir = Path::new(kubeconfig).parent().unwrap();
    let file = std::fs::read_to_string(kubeconfig).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let server = file["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let address = server.strip_prefix("https://").unwrap();
    std::net::TcpStream::connect(address).unwrap();

    holder.kill().await.unwrap();
    until("the directory goes", async || !dir.exists()).await;
    until("the port is free", async || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
}
