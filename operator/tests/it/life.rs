use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use loci_crds::run::{RunPhase, RunTrigger};
use loci_crds::{MemoryPipeline, MemoryRun};
use loci_operator::{REFRESH, ROLLBACK};
use serde_json::json;

use crate::site::{Site, condition, manifest};

const HOURS: (&str, &str) = (
    "hours.md",
    "# Opening hours\n\nThe workshop opens at nine and closes at six.\n",
);
const RETURNS: (&str, &str) = (
    "returns.md",
    "# Returns\n\nA parcel can be sent back within thirty days.\n",
);

pub async fn annotate(site: &Site, key: &str, value: Option<&str>) {
    let patch = json!({"metadata": {"annotations": {key: value}}});
    site.api::<MemoryPipeline>()
        .patch("shop", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_pipeline_is_built_judged_served_and_follows_its_sources() {
    let site = Site::new("life").await;
    site.documents(&[HOURS, RETURNS]).await;
    let running = site.start().await;
    let applied = site.pipeline().await;
    assert_eq!(applied.status.unwrap().observed_generation, -1);
    site.serving(1).await;

    let pipeline = site.api::<MemoryPipeline>().get("shop").await.unwrap();
    for kind in [
        "Ready",
        "SourcesSynced",
        "IndexFresh",
        "GatePassed",
        "Serving",
    ] {
        assert_eq!(condition(&pipeline, kind).unwrap().0, "True", "{kind}");
    }
    assert_eq!(condition(&pipeline, "Stalled").unwrap().0, "False");
    assert_eq!(pipeline.status.unwrap().observed_generation, 1);
    assert!(running.best("opening hours").await.is_some());
    let run = &site.runs().await[0];
    assert_eq!(run.status.as_ref().unwrap().phase, RunPhase::Succeeded);
    assert_eq!(run.owner_references()[0].name, "shop");

    // A change of a ConfigMap is seen at once, not after the hour.
    let late = (
        "hours.md",
        "# Opening hours\n\nThe workshop opens at seven.\n",
    );
    site.documents(&[late, RETURNS]).await;
    site.serving(2).await;
    site.statuses_agree().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_holds_until_it_is_taken_back() {
    let site = Site::new("rollback").await;
    site.documents(&[HOURS, RETURNS]).await;
    let running = site.start().await;
    site.pipeline().await;
    site.serving(1).await;
    site.documents(&[("hours.md", "# Hours\n\nClosed.\n"), RETURNS])
        .await;
    annotate(&site, REFRESH, Some("1")).await;
    site.serving(2).await;

    annotate(&site, ROLLBACK, Some("1")).await;
    site.serving(1).await;
    annotate(&site, ROLLBACK, None).await;
    // The newest content is judged against what serves now, and so makes another release.
    site.serving(3).await;
    let releases = site.releases().await;
    let content = |n: usize| releases[n].spec.index.content_id.clone();
    assert_eq!(content(1), content(2));
    assert_ne!(content(0), content(2));
    site.statuses_agree().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_comes_back_serves_what_was_served_and_makes_nothing_twice() {
    let site = Site::new("again").await;
    site.documents(&[HOURS, RETURNS]).await;
    let first = site.start().await;
    site.pipeline().await;
    site.serving(1).await;
    drop(first);

    let again = site.start().await;
    for _ in 0..200 {
        if again.best("opening hours").await.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(again.best("opening hours").await.is_some());
    assert_eq!(
        (site.runs().await.len(), site.releases().await.len()),
        (1, 1)
    );
    site.statuses_agree().await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_names_what_is_not_there_stalls_and_recovers_by_itself() {
    let site = Site::new("refused").await;
    let running = site.start().await;
    site.pipeline().await;
    let (reason, message) = site
        .until("shop", "it is stalled", |p: &MemoryPipeline| {
            let all = &p.status.as_ref()?.conditions;
            let found = all
                .iter()
                .find(|c| c.type_ == "Stalled" && c.status == "True")?;
            Some((found.reason.clone(), found.message.clone()))
        })
        .await;
    assert!(message.contains("ConfigMap docs"), "{message}");
    assert_eq!(site.event(&reason).await, message);
    site.documents(&[HOURS, RETURNS]).await;
    site.serving(1).await;

    // A model that does not exist is told of; its run is tried again, and what serves goes on.
    let mut other = manifest();
    other["spec"]["embedder"]["model"] = json!("hf://org/tiny@gone");
    site.apply::<MemoryPipeline>("shop", other).await.unwrap();
    let note = site.event("ModelError").await;
    assert!(note.contains("gone") && note.contains("Embed"), "{note}");
    let pipeline = site.api::<MemoryPipeline>().get("shop").await.unwrap();
    assert_eq!(
        pipeline.status.unwrap().serving_release.as_deref(),
        Some("shop-1")
    );
    site.statuses_agree().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_person_creates_is_done() {
    let site = Site::new("byhand").await;
    site.documents(&[HOURS, RETURNS]).await;
    let running = site.start().await;
    site.pipeline().await;
    site.serving(1).await;
    let run = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRun", "metadata": {"name": "by-hand"},
        "spec": {"pipelineRef": {"name": "shop"}, "kind": "Refresh", "trigger": "Requested"},
    });
    site.apply::<MemoryRun>("by-hand", run).await.unwrap();
    let ended = |r: &MemoryRun| r.status.clone().filter(|s| s.phase.is_terminal());
    let status = site.until("by-hand", "it has ended", ended).await;
    assert_eq!(status.phase, RunPhase::Succeeded, "{status:?}");
    let triggers: Vec<_> = site.runs().await.iter().map(|r| r.spec.trigger).collect();
    assert!(triggers.contains(&RunTrigger::Requested));
    site.statuses_agree().await;
    running.stop().await;
}
