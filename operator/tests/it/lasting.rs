//! What outlives the resources: deletions, with the operator up and down.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use loci_bus::{Cancelled, Dispatcher, Lease, Priority, WorkItem, WorkQueue};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryReleaseStatus};
use loci_nats::{NatsBus, NatsOptions};
use loci_store::Store;
use loci_testbed::{ControlPlane, Nats};
use serde_json::{Value, json};

use crate::site::{Site, condition, manifest};

pub const PATIENCE: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(1);
pub const FIRST: [(&str, &str); 2] = [
    (
        "hours.md",
        "# Opening hours\n\nThe workshop opens at nine.\n",
    ),
    ("returns.md", "# Returns\n\nA parcel can be sent back.\n"),
];
pub const SECOND: [(&str, &str); 2] = [
    (
        "hours.md",
        "# Opening hours\n\nThe workshop opens at seven.\n",
    ),
    FIRST[1],
];

/// A namespace whose garbage is collected.
pub async fn site(prefix: &str) -> Site {
    let site = Site::new(prefix).await;
    ControlPlane::shared()
        .await
        .unwrap()
        .controllers()
        .await
        .unwrap();
    site
}

pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !done().await {
        assert!(started.elapsed() < PATIENCE, "waiting until {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Two releases, of which the second serves.
async fn two_releases(site: &Site) {
    site.documents(&FIRST).await;
    let running = site.start().await;
    site.pipeline().await;
    site.serving(1).await;
    site.documents(&SECOND).await;
    site.serving(2).await;
    running.stop().await;
}

async fn delete_pipeline(site: &Site) {
    let api = site.api::<MemoryPipeline>();
    api.delete("shop", &DeleteParams::background())
        .await
        .unwrap();
}

/// Deletes the pipeline, and waits until all that it owned is gone.
pub async fn delete_all(site: &Site) {
    delete_pipeline(site).await;
    until("all resources are gone", async || {
        let pointer = site.api::<ConfigMap>().get_opt("shop-serving").await;
        site.runs().await.is_empty()
            && site.releases().await.is_empty()
            && pointer.unwrap().is_none()
    })
    .await;
}

fn files(directory: PathBuf) -> BTreeSet<PathBuf> {
    let (mut found, mut open) = (BTreeSet::new(), vec![directory]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path)
            } else {
                _ = found.insert(path)
            }
        }
    }
    found
}

/// What steps have made: another entry is another step that was done.
pub fn steps(site: &Site) -> BTreeSet<PathBuf> {
    files(site.store().join("records"))
}

fn artefacts(site: &Site) -> usize {
    let areas = ["blobs", "manifests", "records"];
    areas
        .map(|area| files(site.store().join(area)).len())
        .iter()
        .sum()
}

/// Nothing was used for two hours.
fn make_old(site: &Site) {
    for path in files(site.store()) {
        let file = std::fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }
}

fn record(site: &Site) -> Option<Value> {
    let path = site
        .store()
        .join("documents")
        .join(&site.namespace)
        .join("shop.json");
    let json = std::fs::read(path).ok()?;
    Some(serde_json::from_slice::<Value>(&json).unwrap()["body"].clone())
}

fn contents(releases: &[MemoryRelease]) -> Vec<(String, Value)> {
    let of = |r: &MemoryRelease| (r.name_any(), serde_json::to_value(&r.spec).unwrap());
    let mut all: Vec<_> = releases.iter().map(of).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// A release's status, once the operator has written it.
fn written(release: &MemoryRelease) -> Option<MemoryReleaseStatus> {
    let status = release.status.clone()?;
    (status.observed_generation > Some(0)).then_some(status)
}

/// The second release serves under the pipeline's new uid, and nothing ran for it.
async fn adopted(site: &Site, before: &[(String, Value)], made: &BTreeSet<PathBuf>) {
    site.serving(2).await;
    let ready = |p: &MemoryPipeline| (condition(p, "Ready")?.0 == "True").then(|| p.clone());
    let pipeline = site.until("shop", "it is ready", ready).await;
    let fresh = |p: &MemoryPipeline| condition(p, "IndexFresh").filter(|c| c.0 == "True");
    site.until("shop", "its sources were looked at", fresh)
        .await;
    let uid = pipeline.uid().unwrap();
    until("the releases are the new pipeline's", async || {
        let all = site.releases().await;
        let ours = |r: &MemoryRelease| r.owner_references()[0].uid == uid && written(r).is_some();
        all.len() == 2 && all.iter().all(ours) && site.runs().await.is_empty()
    })
    .await;
    assert_eq!(contents(&site.releases().await), before);
    assert_eq!(steps(site), *made);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_applied_again_the_same_release_serves_and_nothing_is_built() {
    let site = site("adopt").await;
    two_releases(&site).await;
    let (before, made) = (contents(&site.releases().await), steps(&site));

    // With the operator down, and all that it has but the store lost.
    delete_all(&site).await;
    site.lose_caches();
    site.pipeline().await;
    let running = site.start().await;
    adopted(&site, &before, &made).await;
    until("the release answers", async || {
        running
            .best("seven")
            .await
            .is_some_and(|text| text.contains("seven"))
    })
    .await;

    // With the operator up, and applied before its objects are gone.
    delete_pipeline(&site).await;
    site.pipeline().await;
    adopted(&site, &before, &made).await;
    // Controllers have had their time with what the old one owned.
    tokio::time::sleep(Duration::from_secs(5)).await;
    adopted(&site, &before, &made).await;

    // It goes on: what changes is built.
    site.documents(&FIRST).await;
    site.serving(3).await;
    assert_eq!(site.runs().await.len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_when_applied_again_is_built_while_the_same_release_serves() {
    let site = site("differ").await;
    two_releases(&site).await;
    delete_all(&site).await;
    let mut other = manifest();
    let spec = other["spec"].as_object_mut().unwrap();
    spec["sources"][0]["configMap"]["include"] = json!(["hours.md"]);
    spec["index"]["maxDeletion"] = json!("100%");
    // They expect the other document.
    spec.remove("suites");
    spec.remove("gates");
    site.apply::<MemoryPipeline>("shop", other).await.unwrap();
    let running = site.start().await;
    site.serving(2).await;
    site.serving(3).await;
    assert_eq!(site.runs().await.len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_deleted_by_hand_is_made_again() {
    let site = site("byhand").await;
    two_releases(&site).await;
    let running = site.start().await;
    site.serving(2).await;
    let api = site.api::<MemoryRelease>();
    for name in ["shop-1", "shop-2"] {
        let before = api.get(name).await.unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let again = |r: &MemoryRelease| written(r).filter(|_| r.uid() != before.uid());
        let status = site.until(name, "it is made again", again).await;
        assert_eq!(Some(status), before.status);
    }
    site.serving(2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retained_outlives_the_grace_and_collections() {
    let site = site("retain").await;
    two_releases(&site).await;
    let (before, made) = (contents(&site.releases().await), steps(&site));
    delete_all(&site).await;
    let short = |options: &mut loci_operator::Options| options.deletion_grace = SHORT;
    let running = site.start_with("", short).await;
    until("its grace is over", async || {
        record(&site).unwrap()["purged"] == true
    })
    .await;
    running.stop().await;
    make_old(&site);
    let store = Store::open_local(&site.store()).await.unwrap();
    let report = store.gc(&[], HOUR).await.unwrap();
    assert!(report.kept > 0 && report.missing.is_empty(), "{report:?}");

    site.pipeline().await;
    let running = site.start_with("", short).await;
    // Its steps' lesser outputs are garbage by now, and not needed.
    let left: BTreeSet<_> = steps(&site);
    assert!(left.is_subset(&made));
    adopted(&site, &before, &left).await;
    until("nobody takes it for gone", async || {
        record(&site).unwrap().get("missingSince").is_none()
    })
    .await;
    running.stop().await;
}

pub fn leftover(pipeline: &str, id: &str) -> WorkItem {
    WorkItem {
        id: id.to_owned(),
        pipeline: pipeline.to_owned(),
        run: "shop-run".to_owned(),
        step: "Embed".to_owned(),
        attempt: 1,
        fence: 0,
        term: 0,
        priority: Priority::P1,
        class: "cpu".to_owned(),
        payload: Value::Null,
        traceparent: None,
    }
}

/// Work of the shop, `held` and `queued`, and after it the item `other` of another pipeline.
pub async fn at_work(site: &Site, options: &NatsOptions, another: &str) -> (NatsBus, Lease) {
    let bus = NatsBus::connect(options.clone()).await.unwrap();
    let ours = format!("{}/shop", site.namespace);
    bus.publish(leftover(&ours, "held")).await.unwrap();
    let held = bus.pull("cpu", PATIENCE).await.unwrap().unwrap();
    bus.publish(leftover(&ours, "queued")).await.unwrap();
    bus.publish(leftover(another, "other")).await.unwrap();
    (bus, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_namespace_deleted_with_the_operator_down_nothing_is_left_after_the_grace() {
    let site = site("delete").await;
    site.documents(&FIRST).await;
    let running = site.start().await;
    let mut wanted = manifest();
    wanted["spec"]["deletionPolicy"] = json!("Delete");
    site.pipeline().await;
    site.apply::<MemoryPipeline>("shop", wanted).await.unwrap();
    site.serving(1).await;
    until("the policy is kept", async || {
        record(&site).is_some_and(|r| r["deletionPolicy"] == "Delete")
    })
    .await;
    running.stop().await;
    assert!(artefacts(&site) > 0);

    // What was under way when the operator went down.
    let server = Nats::start();
    let options = NatsOptions::new(server.url(), "loci-test");
    let (bus, held) = at_work(&site, &options, "elsewhere/shop").await;

    let all: Api<Namespace> = Api::all(site.client.clone());
    all.delete(&site.namespace, &DeleteParams::default())
        .await
        .unwrap();
    until("the namespace is gone", async || {
        all.get_opt(&site.namespace).await.unwrap().is_none()
    })
    .await;
    make_old(&site);
    let nats = options.clone();
    let long = site.start_with("", |o| o.nats = Some(nats)).await;
    let told = held.cancelled().cancelled_owned();
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    until("it is seen to be gone", async || {
        record(&site).unwrap().get("missingSince").is_some()
    })
    .await;
    let since = record(&site).unwrap()["missingSince"].clone();
    assert_eq!(bus.cancel("queued").await.unwrap(), Cancelled::NotLive);
    long.stop().await;
    assert!(artefacts(&site) > 0, "within the grace all is kept");

    let running = site
        .start_with("", |o| {
            o.nats = Some(options);
            o.deletion_grace = SHORT;
        })
        .await;
    assert!(record(&site).is_none_or(|r| r["missingSince"] == since));
    until("nothing is left", async || {
        record(&site).is_none() && artefacts(&site) == 0
    })
    .await;
    for id in ["held", "queued"] {
        assert_eq!(bus.cancel(id).await.unwrap(), Cancelled::NotLive);
    }
    let other = bus.pull("cpu", PATIENCE).await.unwrap().unwrap();
    assert_eq!(other.item().id, "other");
    drop(held);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_releases_are_small_with_all_that_the_api_server_adds() {
    let site = site("small").await;
    two_releases(&site).await;
    let size = |object: Value| {
        let managed = object["metadata"]["managedFields"].to_string().len();
        (object.to_string().len(), managed)
    };
    for run in site.runs().await {
        let (whole, managed) = size(serde_json::to_value(run).unwrap());
        assert!(whole <= 16 << 10 && managed <= 2560, "{whole} {managed}");
    }
    for release in site.releases().await {
        let (whole, managed) = size(serde_json::to_value(release).unwrap());
        assert!(whole <= 8 << 10 && managed <= 2 << 10, "{whole} {managed}");
    }
}
