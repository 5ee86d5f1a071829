//! Loci's admission policies on a real API server: what they cost, and what they leave alone.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use loci_crds::MemoryPipeline;
use loci_testbed::ControlPlane;
use serde_json::{Value, json};

use crate::definitions::{definitions, text};
use crate::{refusal, until};

const POLICIES: [&str; 2] = ["machine-paths", "advice"];

/// Installs the policies as they stand in their files.
async fn install(client: &Client) {
    let by = PatchParams::apply("it");
    for file in POLICIES {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text(&format!("crds/policies/{file}.yaml"))).unwrap();
        assert_eq!(documents.len(), 2, "a policy and its binding");
        let name = format!("loci-{file}");
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let patch = Patch::Apply(&documents[0]);
        policies.patch(&name, &by, &patch).await.unwrap();
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        let patch = Patch::Apply(&documents[1]);
        bindings.patch(&name, &by, &patch).await.unwrap();
    }
}

/// As many and as long as the schema allows and a request can carry; all of it of one machine.
fn largest() -> Value {
    let globs = vec![json!("*".repeat(256)); 32];
    let source = |i: usize| {
        let git = json!({"url": format!("file:///{}", "a".repeat(2040)), "include": globs, "exclude": globs});
        json!({"name": format!("{i:063}"), "memory": "episodic", "git": git})
    };
    let suite = |i: usize| json!({"name": format!("{i:063}"), "retrieval": {"data": {"file": "a".repeat(4096)}}});
    let gate = |i: usize| json!({"suite": format!("{:063}", 31), "metric": format!("recallAt{}", i + 1), "floor": "0.5"});
    json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "largest"},
        "spec": {
            "embedder": {"model": format!("file://{}", "a".repeat(2041))},
            "sources": (0..32).map(source).collect::<Vec<_>>(),
            "index": {"refresh": {"interval": "9999h"}, "freshness": "1s"},
            "suites": (0..32).map(suite).collect::<Vec<_>>(),
            "gates": (0..64).map(gate).collect::<Vec<_>>(),
            "serving": {"latencyBudget": "1ms"},
        },
    })
}

#[tokio::test]
async fn policies_count_for_what_changes_and_judge_the_largest_pipeline() {
    let plane = ControlPlane::start().await.unwrap();
    plane.install(&definitions()).await.unwrap();
    plane.controllers().await.unwrap();
    let client = plane.client().await.unwrap();
    let namespace = plane.namespace("policies").await.unwrap();
    let api: Api<MemoryPipeline> = Api::namespaced(client.clone(), &namespace);
    let object: MemoryPipeline = serde_json::from_value(largest()).unwrap();
    let stored = api.create(&PostParams::default(), &object).await.unwrap();

    install(&client).await;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut other = object.clone();
    other.metadata.name = Some("other".into());
    until("the policy counts", async || {
        api.create(&dry, &other).await.is_err()
    })
    .await;
    let (code, said) = refusal(api.create(&dry, &other).await);
    assert_eq!(code, 422, "{said}");
    for field in [
        "spec.embedder.model: ",
        "spec.sources[0].git.url, ",
        "spec.sources[31].git.url: ",
        "spec.suites[31].retrieval.data.file: ",
    ] {
        assert!(said.contains(field), "{field} {said}");
    }

    let source = |name: &str, memory: &str| json!({"name": name, "memory": memory, "configMap": {"name": name}});
    let adapted = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "adapted"},
        "spec": {
            "embedder": {"model": "hf://org/model@main"},
            "sources": [source("notices", "episodic"), source("runbooks", "procedural")],
            "adapters": [{"name": "a", "base": "hf://org/base@main", "sources": ["runbooks"]}],
        },
    });
    let mut adapted: MemoryPipeline = serde_json::from_value(adapted).unwrap();
    api.create(&dry, &adapted).await.unwrap();
    adapted.spec.adapters[0].base = "file:///srv/base".to_owned();
    let (code, said) = refusal(api.create(&dry, &adapted).await);
    assert_eq!(code, 422, "{said}");
    assert!(said.contains("spec.adapters[0].base: "), "{said}");

    // What was stored before can be annotated and deleted, but not changed into more of the same.
    let by = PatchParams::default();
    let note = Patch::Merge(json!({"metadata": {"annotations": {"loci.dev/refresh": "1"}}}));
    api.patch("largest", &by, &note).await.unwrap();
    let status = Patch::Merge(json!({"status": {"observedGeneration": 1}}));
    api.patch_status("largest", &by, &status).await.unwrap();
    let change = Patch::Merge(json!({"spec": {"suspend": true}}));
    let (_, said) = refusal(api.patch("largest", &by, &change).await);
    assert!(said.contains("spec.embedder.model: "), "{said}");
    let whole = DeleteParams::foreground();
    api.delete("largest", &whole).await.unwrap();
    until("it goes", async || {
        let found = api.get_opt("largest").await.unwrap();
        found.is_none_or(|p| p.metadata.uid != stored.metadata.uid)
    })
    .await;
}

#[tokio::test]
async fn policies_name_fields_that_there_are() {
    let plane = ControlPlane::start().await.unwrap();
    plane.install(&definitions()).await.unwrap();
    let client = plane.client().await.unwrap();
    install(&client).await;
    plane.controllers().await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
    for file in POLICIES {
        let name = format!("loci-{file}");
        until(
            "the expressions are checked against the schema",
            async || {
                let status = policies.get(&name).await.unwrap().status;
                let Some(checked) = status.and_then(|s| s.type_checking) else {
                    return false;
                };
                let warnings = checked.expression_warnings.unwrap_or_default();
                assert!(warnings.is_empty(), "{name}: {warnings:#?}");
                true
            },
        )
        .await;
    }
}
