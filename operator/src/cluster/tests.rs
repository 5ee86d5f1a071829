//! Statuses that two write, on the real API server.

use kube::api::{Patch, PatchParams};
use loci_crds::run::RunPhase;
use loci_testbed::ControlPlane;
use serde_json::{Value, json};

use super::*;
use crate::maps::Maps;

/// A pipeline in a namespace of its own, and what keeps its resources.
async fn kept() -> Cluster {
    let plane = ControlPlane::shared().await.unwrap();
    let definitions = loci_crds::definitions();
    let definitions: Vec<Value> = definitions
        .iter()
        .map(|(_, d)| serde_json::to_value(d).unwrap())
        .collect();
    plane.install(&definitions).await.unwrap();
    let client = plane.client().await.unwrap();
    let namespace = plane.namespace("status").await.unwrap();
    let pipeline: MemoryPipeline = serde_json::from_value(json!({
        "apiVersion": "loci.dev/v1alpha1",
        "kind": "MemoryPipeline",
        "metadata": {"name": "shop"},
        "spec": {
            "embedder": {"model": "hf://org/tiny@main"},
            "sources": [{"name": "docs", "memory": "factual", "configMap": {"name": "docs"}}],
        },
    }))
    .unwrap();
    let api: Api<MemoryPipeline> = Api::namespaced(client.clone(), &namespace);
    let pipeline = api.create(&PostParams::default(), &pipeline).await.unwrap();
    let held = Held {
        events: Events::new(client.clone(), &pipeline),
        client,
        known: Arc::default(),
        sight: Sight {
            maps: Maps::default(),
            yard: None,
        },
        annotations: Annotations::default(),
        term: 0,
    };
    held.known.wrote_object(Kind::Pipeline, &pipeline).unwrap();
    Cluster::new(held, pipeline, References::default(), None)
}

async fn run(cluster: &Cluster) -> MemoryRun {
    let spec = json!({"pipelineRef": {"name": "shop"}, "kind": "Refresh", "trigger": "Initial"});
    let spec = serde_json::from_value(spec).unwrap();
    cluster.create_run("shop-run", spec).await.unwrap()
}

fn says(phase: RunPhase, message: &str) -> MemoryRunStatus {
    MemoryRunStatus {
        phase,
        message: Some(message.to_owned()),
        observed_generation: Some(1),
        ..MemoryRunStatus::default()
    }
}

async fn there(cluster: &Cluster) -> MemoryRun {
    cluster.api().get("shop-run").await.unwrap()
}

/// What the process knows of the run by now.
fn known(cluster: &Cluster) -> Vec<Option<MemoryRunStatus>> {
    let runs = cluster.known.facts().runs();
    runs.into_iter().map(|run| run.status).collect()
}

async fn annotate<K>(cluster: &Cluster, name: &str)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let patch = json!({"metadata": {"annotations": {"team": "support"}}});
    let api = cluster.api::<K>();
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_written_once_more_over_an_object_that_somebody_has_annotated_since() {
    let cluster = kept().await;
    let read = run(&cluster).await;
    annotate::<MemoryRun>(&cluster, "shop-run").await;
    let ours = says(RunPhase::Running, "ours");
    let written = cluster.update_run(&read, ours.clone()).await.unwrap();
    let now = there(&cluster).await;
    assert_eq!(now, written);
    assert_eq!(now.status.as_ref(), Some(&ours));
    assert_eq!(now.annotations()["team"], "support");
    assert_eq!(known(&cluster), [Some(ours)]);

    // So it is with the pipeline's, which is written over what was heard of it last.
    annotate::<MemoryPipeline>(&cluster, "shop").await;
    let ours = MemoryPipelineStatus {
        observed_generation: 1,
        ..MemoryPipelineStatus::default()
    };
    cluster.write_status(&ours).await.unwrap();
    let now = cluster.api::<MemoryPipeline>().get("shop").await.unwrap();
    assert_eq!(now.status.as_ref(), Some(&ours));
    assert_eq!(now.annotations()["team"], "support");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_else_has_written_since_is_not_written_over() {
    let cluster = kept().await;
    let read = run(&cluster).await;
    let theirs = json!({"status": says(RunPhase::Cancelled, "theirs")});
    cluster
        .api::<MemoryRun>()
        .patch_status("shop-run", &PatchParams::default(), &Patch::Merge(theirs))
        .await
        .unwrap();
    let before = there(&cluster).await;
    let refused = cluster
        .update_run(&read, says(RunPhase::Running, "ours"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "the status of shop-run has changed since it was read"
    );
    assert_eq!(there(&cluster).await, before);
    assert_eq!(
        known(&cluster),
        std::slice::from_ref(&before.status),
        "it is read anew"
    );

    // Over what was read anew it is.
    let ours = says(RunPhase::Running, "ours, knowing theirs");
    let written = cluster.update_run(&before, ours.clone()).await.unwrap();
    assert_eq!(written.status, Some(ours));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_of_no_object_that_was_deleted_or_has_only_the_name() {
    let cluster = kept().await;
    let read = run(&cluster).await;
    let ours = says(RunPhase::Running, "ours");
    let api = cluster.api::<MemoryRun>();
    api.delete("shop-run", &DeleteParams::default())
        .await
        .unwrap();
    let gone = cluster.update_run(&read, ours.clone()).await.unwrap_err();
    assert_eq!(gone.to_string(), "shop-run was deleted");
    assert!(known(&cluster).is_empty());

    let anew = run(&cluster).await;
    assert_ne!(anew.uid(), read.uid());
    let refused = cluster.update_run(&read, ours).await.unwrap_err();
    assert_eq!(refused.to_string(), "shop-run was deleted and made anew");
    assert_eq!(there(&cluster).await, anew);
}
