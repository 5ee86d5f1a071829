//! Loci's definitions on a real API server.

use kube::api::{Api, Patch, PatchParams, PostParams};
use loci_crds::{MemoryPipeline, MemoryRun};
use loci_testbed::ControlPlane;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::refusal;

pub fn text(path: &str) -> String {
    let path = loci_testbed::root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Each definition as it stands in its file.
pub fn definitions() -> Vec<Value> {
    let files = loci_crds::definitions().into_iter().map(|(file, _)| file);
    let all: Vec<Value> = files
        .map(|file| serde_saphyr::from_str(&text(&format!("crds/yaml/{file}"))).unwrap())
        .collect();
    assert_eq!(all.len(), 3);
    all
}

/// The shared control plane with all definitions, each as it stands in its file. An API server refuses those whose
/// rules cost too much.
pub async fn installed() -> &'static ControlPlane {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let plane = ControlPlane::shared().await.unwrap();
    let install = async || plane.install(&definitions()).await.unwrap();
    INSTALLED.get_or_init(install).await;
    plane
}

/// The quickstart's pipeline.
fn pipeline() -> Value {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text("examples/quickstart/pipeline.yaml")).unwrap();
    documents[0].clone()
}

async fn pipelines(plane: &ControlPlane) -> Api<MemoryPipeline> {
    let namespace = plane.namespace("definitions").await.unwrap();
    Api::namespaced(plane.client().await.unwrap(), &namespace)
}

async fn apply(api: &Api<MemoryPipeline>, pipeline: &Value) -> kube::Result<MemoryPipeline> {
    let by = PatchParams::apply("it");
    api.patch("handbook", &by, &Patch::Apply(pipeline)).await
}

#[tokio::test]
async fn a_new_pipeline_says_that_nobody_looked_at_it() {
    let api = pipelines(installed().await).await;
    let made = apply(&api, &pipeline()).await.unwrap();
    let status = made.status.expect("a status by default");
    assert_eq!(status.observed_generation, -1);
    assert_eq!(status.conditions, []);
    assert_eq!(made.metadata.generation, Some(1));

    // The default is read, not stored: the second application stores it, and changes nothing from then on.
    let second = apply(&api, &pipeline()).await.unwrap();
    let third = apply(&api, &pipeline()).await.unwrap();
    assert_eq!(
        second.metadata.resource_version,
        third.metadata.resource_version
    );
}

#[tokio::test]
async fn rules_refuse_on_the_server_what_they_refuse_offline() {
    let api = pipelines(installed().await).await;
    let adapter = json!({"name": "a", "base": "hf://org/base@main", "sources": ["runbooks"]});
    for (pointer, value, field, message) in [
        (
            "/spec/index/chunking",
            json!({"overlapTokens": 129}),
            "spec.index.chunking",
            "overlapTokens is at most half of maxTokens",
        ),
        (
            "/spec/suites",
            json!([]),
            "spec.gates",
            "a gate names a suite that is not in suites",
        ),
        (
            "/spec/adapters",
            json!([adapter]),
            "spec.adapters",
            "an adapter names a source that is not in sources",
        ),
        (
            "/spec/sources/0/directory",
            json!({"path": "handbook"}),
            "spec.sources[0]",
            "give exactly one of git, http, bucket, configMap, directory, push",
        ),
        (
            "/spec/index/refresh/cron",
            json!("0 3 * * 0"),
            "spec.index.refresh",
            "give interval or cron, not both",
        ),
    ] {
        let mut changed = pipeline();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value;
        let (code, said) = refusal(apply(&api, &changed).await);
        assert_eq!(code, 422, "{said}");
        assert!(
            said.contains(&format!("{field}: Invalid value")) && said.contains(message),
            "{pointer}: {said}"
        );
    }
}

#[tokio::test]
async fn the_spec_of_a_run_is_immutable() {
    let plane = installed().await;
    let namespace = plane.namespace("definitions").await.unwrap();
    let api: Api<MemoryRun> = Api::namespaced(plane.client().await.unwrap(), &namespace);
    let run = serde_json::from_value(json!({
        "metadata": {"name": "support-1"},
        "spec": {"pipelineRef": {"name": "support"}, "kind": "Refresh", "trigger": "Initial"}
    }));
    api.create(&PostParams::default(), &run.unwrap())
        .await
        .unwrap();

    let patch = Patch::Merge(json!({"spec": {"trigger": "Requested"}}));
    let (code, said) = refusal(
        api.patch("support-1", &PatchParams::default(), &patch)
            .await,
    );
    assert_eq!(code, 422, "{said}");
    assert!(
        said.contains("a run's spec is immutable: create another run"),
        "{said}"
    );
}
