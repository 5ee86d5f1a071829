//! How far a step is, as people see it from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use loci_crds::MemoryRun;
use loci_crds::run::{RunProgress, StepName};
use serde_json::{Map, json};

use super::Cluster;
use super::plugin::{operator, plugin, said};

/// Long enough to keep a real model busy for some seconds.
fn pages() -> Map<String, serde_json::Value> {
    let sentence = |page: usize, n: usize| {
        let (part, shelf) = (page * 60 + n, n * 7 % 50);
        format!("The workshop keeps part {part} on shelf {shelf} of room {page}.\n")
    };
    let page = |page: usize| -> String { (0..60).map(|n| sentence(page, n)).collect() };
    let named = |n: usize| {
        (
            format!("page-{n}.md"),
            json!(format!("# Page {n}\n\n{}", page(n))),
        )
    };
    (0..40).map(named).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_step_says_how_far_it_is_but_not_all_the_time() {
    let cluster = Cluster::new("progress").await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs"}, "data": pages()});
    cluster.apply("ConfigMap", "docs", map).await;
    let mut pipeline = super::manifest();
    let spec = pipeline["spec"].as_object_mut().unwrap();
    spec["embedder"] = json!({"model": "hf://sentence-transformers/all-MiniLM-L6-v2@main"});
    spec.remove("suites");
    spec.remove("gates");
    cluster.apply("MemoryPipeline", "shop", pipeline).await;
    let (_operator, _) = operator(&cluster);
    let _worker = cluster.worker();

    let mut written = BTreeMap::<_, RunProgress>::new();
    let mut shown = String::new();
    let run = loop {
        let runs = cluster.api::<MemoryRun>().list(&Default::default()).await;
        let run = runs.unwrap().items.pop();
        let status = run
            .as_ref()
            .and_then(|r| r.status.clone())
            .unwrap_or_default();
        let embed = status.progress.filter(|p| p.step == StepName::Embed);
        if let Some(progress) = embed {
            written.insert(progress.time.0, progress);
            if shown.is_empty() {
                shown = said(plugin(&cluster, &["status"]));
            }
        }
        match run {
            Some(run) if status.phase.is_terminal() => break run,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let first = written
        .values()
        .next()
        .unwrap_or_else(|| panic!("nothing was said\n{}", cluster.logs()));
    // Cut first, then embedded.
    assert!(["documents", "chunks"].contains(&first.unit.as_str()));
    assert!(
        first.done > 0 && first.done <= first.total.unwrap(),
        "{first:?}"
    );
    assert!(
        shown.contains("Embed ") && shown.contains(&first.unit),
        "{shown}"
    );
    let times: Vec<_> = written.keys().collect();
    for pair in times.windows(2) {
        let apart = pair[1].duration_since(*pair[0]);
        assert!(apart.as_secs() >= 30, "{times:?}");
    }
    assert_eq!(run.status.as_ref().unwrap().progress, None);
    assert!(serde_json::to_vec(&run).unwrap().len() < 16 << 10);
}
