//! Several operators for the same namespace.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use loci_operator::{Election, Timing};
use serde_json::json;

use crate::site::{Running, Site};

const HOURS: (&str, &str) = ("hours.md", "# Hours\n\nThe workshop opens at nine.\n");
const TERM: &str = "loci.dev/term";

async fn stand(site: &Site, name: &str) -> Running {
    let election = Election {
        namespace: site.namespace.clone(),
        lease: "loci-operator".to_owned(),
        identity: name.to_owned(),
        account: Some("operators".to_owned()),
        timing: Timing::default(),
    };
    site.start_as(name, Some(election)).await
}

/// Waits until `name` leads; gives its term.
async fn leads(site: &Site, name: &str) -> i32 {
    let what = format!("{name} leads");
    site.until("loci-operator", &what, |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        let held = spec.holder_identity.as_deref() == Some(name);
        held.then_some(spec.lease_transitions?)
    })
    .await
}

async fn made(site: &Site) -> (usize, usize) {
    (site.runs().await.len(), site.releases().await.len())
}

async fn term_of_pointer(site: &Site, value: Option<&str>) {
    let patch = json!({"metadata": {"annotations": {TERM: value}}});
    site.api::<ConfigMap>()
        .patch(
            "shop-serving",
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_builds_and_the_other_takes_over_at_once_when_it_stops() {
    let site = Site::new("leaders").await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operators"}});
    let account: ServiceAccount = site.apply("operators", account).await.unwrap();
    site.documents(&[HOURS, ("returns.md", "# Returns\n\nA parcel.\n")])
        .await;
    let a = stand(&site, "a").await;
    let first = leads(&site, "a").await;
    let b = stand(&site, "b").await;
    site.pipeline().await;
    site.serving(1).await;
    assert_eq!(made(&site).await, (1, 1));

    // The Lease goes with the account, and the pointer says in which term it was written.
    let lease = site.api::<Lease>().get("loci-operator").await.unwrap();
    assert_eq!(
        Some(&lease.owner_references()[0].uid),
        account.uid().as_ref()
    );
    let pointer = site.api::<ConfigMap>().get("shop-serving").await.unwrap();
    assert_eq!(pointer.annotations()[TERM], first.to_string());

    a.stop().await;
    let began = Instant::now();
    let second = leads(&site, "b").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{began:?}");
    assert_eq!(second, first + 1);
    site.documents(&[HOURS, ("returns.md", "# Returns\n\nA parcel, in May.\n")])
        .await;
    site.serving(2).await;
    assert_eq!(made(&site).await, (2, 2));

    // One that only stands by comes and goes unnoticed.
    let c = stand(&site, "c").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    c.stop().await;
    assert_eq!(leads(&site, "b").await, second);
    b.stop().await;
    let lease = site.api::<Lease>().get("loci-operator").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_taken_ends_and_says_why() {
    let site = Site::new("robbed").await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operators"}});
    site.apply::<ServiceAccount>("operators", account)
        .await
        .unwrap();
    let a = stand(&site, "a").await;
    leads(&site, "a").await;
    let taken = json!({"spec": {"holderIdentity": "somebody"}});
    site.api::<Lease>()
        .patch(
            "loci-operator",
            &PatchParams::default(),
            &Patch::Merge(taken),
        )
        .await
        .unwrap();
    let error = a.ended().await.unwrap_err().to_string();
    let expected = format!(
        "the Lease {}/loci-operator: it is held by somebody",
        site.namespace
    );
    assert!(error.contains(&expected), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_served_is_not_written_over_by_a_term_that_is_over() {
    let site = Site::new("terms").await;
    site.documents(&[HOURS, ("returns.md", "# Returns\n\nA parcel.\n")])
        .await;
    let running = site.start().await;
    site.pipeline().await;
    site.serving(1).await;
    term_of_pointer(&site, Some("9")).await;
    site.documents(&[HOURS, ("returns.md", "# Returns\n\nA parcel, in May.\n")])
        .await;
    let note = site.event("Trouble").await;
    assert!(note.contains("was written in term 9"), "{note}");
    let pointer = site.api::<ConfigMap>().get("shop-serving").await.unwrap();
    assert_eq!(pointer.data.unwrap()["desired"], "shop-1");

    // The way out that it names.
    term_of_pointer(&site, None).await;
    site.serving(2).await;
    running.stop().await;
}
