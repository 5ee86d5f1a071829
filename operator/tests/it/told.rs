//! Events: one when something changes, none while nothing does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use loci_crds::MemoryPipeline;
use loci_testbed::hub;
use serde_json::json;

use crate::site::Site;

const PATIENCE: Duration = Duration::from_secs(60);

/// A page that fails when it is told to.
#[derive(Clone, Default)]
struct Page {
    fails: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Page {
    /// Serves it until the process ends; gives its URL.
    async fn serve(&self) -> String {
        let page = self.clone();
        let answer = move || {
            let page = page.clone();
            async move {
                page.asked.fetch_add(1, Ordering::SeqCst);
                let code = match page.fails.load(Ordering::SeqCst) {
                    true => StatusCode::INTERNAL_SERVER_ERROR,
                    false => StatusCode::OK,
                };
                let kind = [(header::CONTENT_TYPE, "text/markdown")];
                (code, kind, "# Hours\n\nThe workshop opens at nine.\n")
            }
        };
        let router = Router::new().route("/hours.md", get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/hours.md")
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Waits until it was asked for so many times more.
    async fn asked(&self, times: usize) {
        let (until, started) = (self.asked.load(Ordering::SeqCst) + times, Instant::now());
        while self.asked.load(Ordering::SeqCst) < until {
            assert!(started.elapsed() < PATIENCE, "it is not looked at");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The warnings by their reasons: names, and how often each was told.
type Told = BTreeMap<String, Vec<(String, i32)>>;

async fn told(site: &Site) -> Told {
    let mut told = Told::new();
    for event in site.warnings("shop").await {
        let count = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
        let reason = event.reason.clone().unwrap_or_default();
        let of_reason = told.entry(reason).or_default();
        of_reason.push((event.name_any(), count(&event)));
    }
    told
}

/// Waits until the status says that the source fails, or that it does not.
async fn fails(site: &Site, fails: bool) {
    let what = format!("its source fails: {fails}");
    site.until("shop", &what, |p: &MemoryPipeline| {
        let sources = &p.status.as_ref()?.sources;
        let failed = sources.first()?.error.is_some();
        (failed == fails).then_some(())
    })
    .await;
}

/// Waits until something is told that was not; gives all.
async fn more_than(site: &Site, before: &Told) -> Told {
    let started = Instant::now();
    loop {
        let now = told(site).await;
        if now != *before {
            return now;
        }
        assert!(started.elapsed() < PATIENCE, "nothing more: {now:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_at_look_after_look_is_told_of_when_it_begins_to() {
    let site = Site::new("told").await;
    let page = Page::default();
    let http = json!({"urls": [page.serve().await], "allowPrivate": true});
    let pipeline = json!({
        "apiVersion": "loci.dev/v1alpha1",
        "kind": "MemoryPipeline",
        "metadata": {"name": "shop"},
        "spec": {
            "embedder": {"model": hub::MODEL},
            "sources": [{"name": "page", "memory": "factual", "http": http}],
            "index": {"refresh": {"interval": "1s"}, "freshness": "1h"},
        },
    });
    site.apply::<MemoryPipeline>("shop", pipeline)
        .await
        .unwrap();
    let running = site.start().await;
    site.serving(1).await;
    page.asked(2).await;
    assert_eq!(told(&site).await, Told::new(), "nothing is wrong");

    page.fail(true);
    fails(&site, true).await;
    more_than(&site, &Told::new()).await;
    page.asked(2).await;
    let first = told(&site).await;
    let all = site.warnings("shop").await;
    let note = all[0].note.clone().unwrap_or_default();
    assert!(note.contains("500"), "{note}");
    // Nothing changes any more, however often it is looked at.
    page.asked(5).await;
    let later = told(&site).await;
    assert_eq!(later, first, "told again while nothing changed");
    assert!(later.values().all(|events| events.len() == 1), "{later:?}");

    // It recovers, and fails once more: that is news.
    page.fail(false);
    fails(&site, false).await;
    page.fail(true);
    fails(&site, true).await;
    more_than(&site, &later).await;
    assert!(site.unready("shop").is_empty());
    running.stop().await;
}
