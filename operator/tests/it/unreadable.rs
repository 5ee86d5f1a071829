//! Pipelines that this build cannot read, as a newer one or a laxer definition may have left them.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::site::{Site, manifest};

const PATIENCE: Duration = Duration::from_secs(30);
const FIRST: [(&str, &str); 2] = [
    ("hours.md", "# Hours\n\nThe workshop opens at nine.\n"),
    ("returns.md", "# Returns\n\nA parcel can be sent back.\n"),
];
const SECOND: [(&str, &str); 2] = [
    ("hours.md", "# Hours\n\nThe workshop opens at seven.\n"),
    FIRST[1],
];

/// The definition of pipelines, with a schema that takes anything.
fn lax() -> Value {
    let mut all = loci_crds::definitions().into_iter();
    let found = all.find(|(file, _)| *file == "memorypipelines.yaml");
    let mut definition = serde_json::to_value(found.unwrap().1).unwrap();
    definition["spec"]["versions"][0]["schema"] = json!({
        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    });
    definition
}

fn pipelines(site: &Site) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("loci.dev", "v1alpha1", "MemoryPipeline");
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(site.client.clone(), &site.namespace, &resource)
}

/// Creates a pipeline with a field that is not as it should be. The API server takes a moment to be lax.
async fn create(site: &Site, name: &str, at: &str, value: Value) {
    let mut object = manifest();
    object["metadata"]["name"] = json!(name);
    let (parent, key) = at.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let (api, started) = (pipelines(site), Instant::now());
    while let Err(error) = api.create(&PostParams::default(), &object).await {
        assert!(started.elapsed() < PATIENCE, "{name}: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let there = api.get(name).await.unwrap();
    let there = serde_json::to_value(there).unwrap();
    assert_eq!(there.pointer(at), object.data.pointer(at), "it is kept so");
}

async fn mend(site: &Site, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    let by = PatchParams::default();
    pipelines(site).patch(name, &by, &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_cannot_be_read_stalls_no_other_and_is_built_when_it_is_mended() {
    let site = Site::alone("unreadable").await;
    let plane = site.plane.as_ref().unwrap();
    plane.install(&[lax()]).await.unwrap();
    site.documents(&FIRST).await;
    create(&site, "a-value", "/spec/sources/0/memory", json!("sensory")).await;
    create(&site, "z-type", "/spec/index", json!("daily")).await;

    // They are in the listing that it begins with, on both sides of one that it can read.
    let running = site.start().await;
    site.pipeline().await;
    site.serving(1).await;
    // And this comes while it watches.
    create(&site, "m-field", "/spec/moods", json!(["glad"])).await;
    site.documents(&SECOND).await;
    site.serving(2).await;
    assert!(site.unready("shop").is_empty());
    let of_others = |name: String| name != "shop";
    let runs = site.runs().await.into_iter();
    assert!(!runs.map(|r| r.spec.pipeline_ref.name).any(of_others));

    let sources = manifest()["spec"]["sources"].clone();
    mend(&site, "a-value", json!({"sources": sources})).await;
    mend(
        &site,
        "z-type",
        json!({"index": {"refresh": {"interval": "1h"}}}),
    )
    .await;
    mend(&site, "m-field", json!({"moods": null})).await;
    for name in ["a-value", "z-type", "m-field"] {
        site.serves(name, 1).await;
    }
    running.stop().await;

    // An operator that begins anew reads them all.
    mend(&site, "a-value", json!({"index": {"refresh": "hourly"}})).await;
    let running = site.start().await;
    site.documents(&FIRST).await;
    site.serving(3).await;
    site.serves("z-type", 2).await;
    running.stop().await;
}
