//! What Argo CD makes of real resources, by the health checks in `examples/gitops/argocd`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use loci_crds::{MemoryPipeline, MemoryRun};
use loci_operator::REFRESH;
use loci_testbed::root;
use serde::Serialize;
use serde_json::{Value, json};

use crate::life::annotate;
use crate::site::{Site, condition, manifest};

/// Health and message of an object.
fn health(kind: &str, object: &impl Serialize) -> (String, String) {
    let file = root().join("examples/gitops/argocd/argocd-cm.yaml");
    let map: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let key = format!("resource.customizations.health.loci.dev_{kind}");
    let given = json!({"lua": map["data"][key], "object": object});
    let python = std::env::var("LOCI_TEST_PYTHON")
        .expect("LOCI_TEST_PYTHON names no Python with `lupa`: run `make test`");
    let mut child = Command::new(python)
        .arg(root().join("tests/python/argo_health.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(given.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the check of a {kind} fails");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let part = |key: &str| said[key].as_str().unwrap().to_owned();
    (part("status"), part("message"))
}

/// Every state that the site's pipeline is seen in from now on.
fn seen(site: &Site) -> Arc<Mutex<Vec<MemoryPipeline>>> {
    let all = Arc::<Mutex<Vec<_>>>::default();
    let (into, api) = (all.clone(), site.api::<MemoryPipeline>());
    tokio::spawn(async move {
        let states = watcher(api, watcher::Config::default()).applied_objects();
        let mut states = Box::pin(states);
        while let Some(Ok(state)) = states.next().await {
            into.lock().unwrap().push(state);
        }
    });
    all
}

fn is(pipeline: &MemoryPipeline, kind: &str, status: &str) -> bool {
    condition(pipeline, kind).is_some_and(|(found, _)| found == status)
}

/// Waits until a condition is so for the generation that was applied last; gives the pipeline's health then.
async fn once(site: &Site, kind: &str, status: &str) -> (String, String) {
    let what = format!("{kind} is {status}");
    let wanted = |p: &MemoryPipeline| {
        let current = p.status.as_ref()?.observed_generation == p.metadata.generation?;
        (current && is(p, kind, status)).then(|| p.clone())
    };
    let found = site.until("shop", &what, wanted).await;
    health("MemoryPipeline", &found)
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_sees_a_pipeline_as_it_is() {
    let site = Site::new("argo").await;
    site.documents(&[("returns.md", "parcel\n")]).await;
    site.pipeline().await;
    let mut strict = manifest();
    strict["spec"]["gates"][0]["metric"] = json!("recallAt1");
    let applied: MemoryPipeline = site.apply("shop", strict.clone()).await.unwrap();
    assert_eq!(health("MemoryPipeline", &applied).0, "Progressing");

    let states = seen(&site);
    let running = site.start().await;
    site.serving(1).await;
    once(&site, "Ready", "True").await;
    let (status, message) = once(&site, "Reconciling", "False").await;
    assert_eq!((&*status, &*message), ("Healthy", "Serving: shop-1 serves"));

    // What answers the question best is no longer what is expected: rejected, and no trouble.
    let worse = [
        ("other.md", "parcel\n"),
        ("returns.md", "The weather is fine.\n"),
    ];
    site.documents(&worse).await;
    annotate(&site, REFRESH, Some("1")).await;
    let (status, message) = once(&site, "GatePassed", "False").await;
    assert_eq!(status, "Healthy");
    assert!(
        message.starts_with("Failed: shop-2: faq recallAt1"),
        "{message}"
    );
    for release in site.releases().await {
        let expected = [("shop-1", "Healthy"), ("shop-2", "Degraded")];
        let (status, message) = health("MemoryRelease", &release);
        assert!(
            expected.contains(&(&release.name_any(), &status)),
            "{status} {message}"
        );
    }
    // Runs are written a moment after the pipeline.
    let runs = async || site.runs().await.into_iter();
    let healthy = |run: MemoryRun| health("MemoryRun", &run).0 == "Healthy";
    let started = Instant::now();
    while !runs().await.all(healthy) {
        let told: Vec<_> = runs().await.map(|run| health("MemoryRun", &run)).collect();
        assert!(started.elapsed() < Duration::from_secs(30), "{told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let mut other = strict.clone();
    other["spec"]["suspend"] = json!(true);
    site.apply::<MemoryPipeline>("shop", other).await.unwrap();
    assert_eq!(once(&site, "Ready", "True").await.0, "Suspended");

    let mut other = strict;
    other["spec"]["sources"][0]["configMap"]["name"] = json!("gone");
    site.apply::<MemoryPipeline>("shop", other).await.unwrap();
    let (status, message) = once(&site, "Stalled", "True").await;
    assert!(
        status == "Degraded" && message.contains("ConfigMap gone"),
        "{status} {message}"
    );
    running.stop().await;

    let states = std::mem::take(&mut *states.lock().unwrap());
    let working: Vec<_> = states
        .iter()
        .filter(|p| is(p, "Reconciling", "True"))
        .collect();
    assert!(
        !working.is_empty(),
        "no state of {} has work under way",
        states.len()
    );
    for pipeline in working {
        assert_eq!(health("MemoryPipeline", pipeline).0, "Progressing");
    }
}

#[test]
fn what_has_no_status_yet_is_progressing() {
    let run = json!({"metadata": {"name": "shop-1"}, "spec": {}});
    for kind in ["MemoryPipeline", "MemoryRun", "MemoryRelease"] {
        assert_eq!(health(kind, &run).0, "Progressing");
    }
    let phases = [
        ("Failed", "Degraded"),
        ("Held", "Suspended"),
        ("Running", "Progressing"),
    ];
    for (phase, expected) in phases {
        let run = json!({"status": {"phase": phase, "message": "why"}});
        assert_eq!(
            health("MemoryRun", &run),
            (expected.to_owned(), "why".to_owned())
        );
    }
}
