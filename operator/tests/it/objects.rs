//! What the operator makes for a pipeline, on an API server that enforces the `restricted` Pod Security Standard.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use loci_crds::MemoryPipeline;
use loci_operator::{Network, Program, Template, objects};
use serde_json::{Value, json};

use crate::site::{Site, manifest};

fn pipeline(namespace: &str) -> MemoryPipeline {
    let mut pipeline: MemoryPipeline = serde_json::from_value(manifest()).unwrap();
    pipeline.metadata.namespace = Some(namespace.to_owned());
    pipeline.metadata.uid = Some("0f5b41d5-5dd8-4aa9-9d34-b13dc55ea04b".to_owned());
    pipeline
}

/// Everything that makes a pod larger.
fn template(network: Option<Network>) -> Template {
    Template {
        program: Program {
            image: "ghcr.io/loci-dev/loci:1".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: Vec::new(),
            log: None,
        },
        replicas: 2,
        resources: json!({"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}),
        token_secret: Some("tokens".to_owned()),
        hub: Some("http://hub.example/".parse().unwrap()),
        deadline: std::time::Duration::from_secs(600),
        network,
    }
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    all.iter().find(|o| o["kind"] == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_takes_what_serves_a_pipeline_and_finds_its_pods_restricted() {
    let site = Site::new("restricted").await;
    let (client, namespace) = (site.client.clone(), site.namespace.clone());
    // It has to be there: what belongs to nobody is collected.
    let owner = site.pipeline().await;
    let enforce =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    Api::<Namespace>::all(client.clone())
        .patch(&namespace, &PatchParams::default(), &Patch::Merge(enforce))
        .await
        .unwrap();

    let all = objects(&owner, &template(Some(Network::Open)));
    for object in &all {
        let part = |key: &str| object[key].as_str().unwrap();
        let (group, version) = part("apiVersion").split_once('/').unwrap_or(("", "v1"));
        let kind = GroupVersionKind::gvk(group, version, part("kind"));
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace, &ApiResource::from_gvk(&kind));
        let mut by = PatchParams::apply("it");
        by.field_validation = Some(kube::api::ValidationDirective::Strict);
        let name = object["metadata"]["name"].as_str().unwrap();
        let taken = api.patch(name, &by, &Patch::Apply(object)).await;
        taken.unwrap_or_else(|e| panic!("{}: {e}", part("kind")));
    }

    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut spec = of_kind(&all, "Deployment")["spec"]["template"]["spec"].clone();
    let pod = |spec: &Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "replica"}, "spec": spec})).unwrap()
    };
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&dry, &pod(&spec)).await.unwrap();
    // The API server does look.
    let container = &mut spec["containers"][0]["securityContext"];
    container["allowPrivilegeEscalation"] = json!(true);
    let refused = pods.create(&dry, &pod(&spec)).await.unwrap_err();
    assert!(
        refused.to_string().contains("violates PodSecurity"),
        "{refused}"
    );
}

#[test]
fn replicas_have_limits_and_a_file_system_that_nobody_can_write() {
    let all = objects(&pipeline("agents"), &template(None));
    let pod = &of_kind(&all, "Deployment")["spec"]["template"]["spec"];
    for container in pod["containers"].as_array().unwrap() {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["resources"]["limits"]["memory"], "2Gi");
    }
}

#[test]
fn queries_come_from_whom_the_network_is_open_to_and_the_operator_alone_hears_of_releases() {
    let untold = objects(&pipeline("agents"), &template(None));
    assert!(untold.iter().all(|o| o["kind"] != "NetworkPolicy"));
    let ingress = |network: Network| {
        let all = objects(&pipeline("agents"), &template(Some(network)));
        let policy = of_kind(&all, "NetworkPolicy");
        let pods = &of_kind(&all, "Deployment")["spec"]["selector"]["matchLabels"];
        assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], pods);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
        policy["spec"]["ingress"].clone()
    };
    let everything = ingress(Network::Open);
    assert_eq!(everything, json!([{}]), "from everybody");

    let network = |queriers: &[Value]| Network::Guarded {
        operator: "loci-system".to_owned(),
        queriers: queriers.to_vec(),
    };
    let all = ingress(network(&[]));
    assert_eq!(
        all[0],
        json!({"ports": [{"port": "http", "protocol": "TCP"}]})
    );
    let from = &all[1]["from"][0];
    let namespace = "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
    assert_eq!(all[1]["ports"][0]["port"], "status");
    assert_eq!(from.pointer(namespace), Some(&json!("loci-system")));
    assert_eq!(
        from["podSelector"]["matchLabels"]["app.kubernetes.io/component"],
        "operator"
    );
    let peer = json!({"podSelector": {"matchLabels": {"app": "agent"}}});
    let all = ingress(network(std::slice::from_ref(&peer)));
    assert_eq!(all[0]["from"], json!([peer]));
}
