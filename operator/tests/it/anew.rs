//! A pipeline that is another one under the name of one that is gone.

use kube::ResourceExt;
use loci_bus::{Cancelled, Dispatcher, WorkQueue};
use loci_crds::MemoryPipeline;
use loci_nats::NatsOptions;
use loci_testbed::Nats;

use crate::lasting::{FIRST, PATIENCE, at_work, delete_all, site, steps};
use crate::site::condition;

#[tokio::test(flavor = "multi_thread")]
async fn of_one_deleted_and_applied_again_with_the_operator_down_no_work_is_left() {
    let site = site("anew").await;
    site.documents(&FIRST).await;
    let running = site.start().await;
    let before = site.pipeline().await;
    site.serving(1).await;
    running.stop().await;
    let made = steps(&site);

    // What was under way when the operator went down: no worker of the class is there to end it.
    let server = Nats::start();
    let options = NatsOptions::new(server.url(), "loci-test");
    let other = format!("{}/other", site.namespace);
    let (bus, held) = at_work(&site, &options, &other).await;

    delete_all(&site).await;
    let again = site.pipeline().await;
    assert_ne!(again.uid(), before.uid());
    let running = site.start_with("", |o| o.nats = Some(options)).await;
    let told = held.cancelled().cancelled_owned();
    let told = tokio::time::timeout(PATIENCE, told).await;
    told.expect("who holds its work is told that it is cancelled");
    for id in ["held", "queued"] {
        assert_eq!(bus.cancel(id).await.unwrap(), Cancelled::NotLive, "{id}");
    }
    drop(held);

    // The new one serves what the old one did, and its own work is done.
    site.serving(1).await;
    let fresh = |p: &MemoryPipeline| condition(p, "IndexFresh").filter(|c| c.0 == "True");
    site.until("shop", "its sources were looked at", fresh)
        .await;
    assert_eq!(steps(&site), made);
    // What is left is another's.
    let next = bus.pull("cpu", PATIENCE).await.unwrap().unwrap();
    assert_eq!(next.item().id, "other");
    drop(next);
    running.stop().await;
}
