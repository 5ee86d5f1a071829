//! Candidates that replicas cannot load: held with the reason, tried again, never promoted half.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use loci_crds::release::ReleasePhase;
use loci_crds::{MemoryPipeline, MemoryRelease};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Cluster;
use super::replicas::Replica;

/// Two replicas that serve the first release.
async fn served(cluster: &Cluster) -> [Replica; 2] {
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    cluster
        .until("a deployment is made", async || {
            let found = cluster.api::<Deployment>().get_opt("shop-recall").await;
            found.unwrap().is_some()
        })
        .await;
    let replicas = [
        Replica::start(cluster, "shop", 1).await,
        Replica::start(cluster, "shop", 2).await,
    ];
    for replica in &replicas {
        replica.ready(cluster).await;
    }
    cluster.serving(1).await;
    replicas
}

/// Waits until a release is held, and says why.
async fn held(cluster: &Cluster, name: &str) -> String {
    let message = std::sync::Mutex::new(String::new());
    cluster
        .until(&format!("{name} is held"), async || {
            let release = cluster.api::<MemoryRelease>().get_opt(name).await.unwrap();
            let Some(status) = release.and_then(|r| r.status) else {
                return false;
            };
            assert_eq!(status.phase, ReleasePhase::Candidate);
            let said = status.message.unwrap_or_default();
            message.lock().unwrap().clone_from(&said);
            said.contains("is held")
        })
        .await;
    message.into_inner().unwrap()
}

/// Waits until a condition has this status and reason, and returns its message.
async fn condition(cluster: &Cluster, kind: &str, status: &str, reason: &str) -> String {
    let message = std::sync::Mutex::new(String::new());
    cluster
        .until(&format!("{kind} is {status} {reason}"), async || {
            let pipeline = cluster.api::<MemoryPipeline>().get("shop").await.unwrap();
            let conditions = pipeline.status.map(|s| s.conditions).unwrap_or_default();
            conditions.into_iter().any(|c| {
                let so = c.type_ == kind && c.status == status && c.reason == reason;
                if so {
                    *message.lock().unwrap() = c.message;
                }
                so
            })
        })
        .await;
    message.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_does_not_fit_is_held_with_the_numbers_and_what_serves_stays() {
    let cluster = Cluster::new("held").await;
    let (_operator, _worker) = (cluster.operator_with_replicas(), cluster.worker());
    let _fetcher = cluster.fetcher();
    let [one, two] = served(&cluster).await;
    // A container with less memory than the process takes by itself: what served is loaded, nothing beside it.
    let two = two.restart(&cluster, &["--memory-limit", "8Mi"]).await;
    cluster.documents("The workshop opens at ten.").await;
    let message = held(&cluster, "shop-2").await;
    for part in [
        "shop-recall-2: it needs ",
        " of memory beside what answers, and 0 MiB of 8 MiB are free",
        "raise recall.resources",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let message = condition(&cluster, "Serving", "True", "CandidateHeld").await;
    assert!(
        message.starts_with("shop-1 serves; shop-2 is held"),
        "{message}"
    );
    condition(&cluster, "Ready", "True", "Serving").await;
    let client = reqwest::Client::new();
    for replica in [&one, &two] {
        assert_eq!(replica.ask(&client).await.unwrap().0, "shop-1");
    }

    let two = two.restart(&cluster, &["--disk-limit", "1Ki"]).await;
    cluster.documents("The workshop opens at eleven.").await;
    let message = held(&cluster, "shop-3").await;
    assert!(
        message.contains(" of disk, and 0 MiB of 0 MiB are free in "),
        "{message}"
    );

    // With room, it is loaded without anybody asking.
    let two = two.restart(&cluster, &[]).await;
    cluster.serving(3).await;
    for replica in [&one, &two] {
        assert_eq!(replica.ask(&client).await.unwrap().0, "shop-3");
    }
    condition(&cluster, "Serving", "True", "Serving").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_a_replica_does_not_load_in_time_is_held_and_promoted_when_it_does() {
    let cluster = Cluster::new("deadline").await;
    let _operator = cluster.operator_with(&["--load-deadline", "5s"]);
    let (_worker, _fetcher) = (cluster.worker(), cluster.fetcher());
    let replicas = served(&cluster).await;
    replicas[1].process.signal(Signal::STOP);
    cluster.documents("The workshop opens at ten.").await;
    let message = held(&cluster, "shop-2").await;
    let expected = "not all replicas have loaded it within 5 s: shop-recall-2";
    assert!(message.contains(expected), "{message}");
    condition(&cluster, "Ready", "True", "Serving").await;
    let client = reqwest::Client::new();
    assert_eq!(replicas[0].ask(&client).await.unwrap().0, "shop-1");
    replicas[1].process.signal(Signal::CONT);
    cluster.serving(2).await;
    for replica in &replicas {
        assert_eq!(replica.ask(&client).await.unwrap().0, "shop-2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_as_many_as_the_pipeline_says_or_as_whoever_scales() {
    let cluster = Cluster::new("scale").await;
    let _operator = cluster.operator_with_replicas();
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let replicas = async |wanted: i32| {
        cluster
            .until(&format!("there are {wanted}"), async || {
                let found = cluster.api::<Deployment>().get_opt("shop-recall").await;
                let found = found.unwrap().and_then(|d| d.spec?.replicas);
                found == Some(wanted)
            })
            .await;
    };
    let params = PatchParams::default();
    let say = async |serving: Value| {
        let patch = Patch::Merge(json!({"spec": {"serving": serving}}));
        let pipelines = cluster.api::<MemoryPipeline>();
        pipelines.patch("shop", &params, &patch).await.unwrap();
        // Long enough for whatever would follow.
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let scale = async |to: i32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": to}}));
        let deployments = cluster.api::<Deployment>();
        let scaled = deployments.patch_scale("shop-recall", &params, &patch);
        scaled.await.unwrap();
    };
    replicas(2).await;
    // An autoscaler's number stays when the pipeline changes otherwise.
    scale(5).await;
    say(json!({"latencyBudget": "70ms"})).await;
    replicas(5).await;
    say(json!({"replicas": 3})).await;
    replicas(3).await;
    // No longer said: it stays until somebody scales.
    say(json!({"replicas": null})).await;
    replicas(3).await;
    scale(4).await;
    say(json!({"latencyBudget": "80ms"})).await;
    replicas(4).await;
    say(json!({"replicas": 6})).await;
    replicas(6).await;
    say(json!({"replicas": null})).await;
    replicas(6).await;
}
