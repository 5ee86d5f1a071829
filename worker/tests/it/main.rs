//! Sources against real directories, real git repositories and real servers on loopback; datasets and trainings over a
//! real store, and the dataset of an example; behaviour suites asked of a real model; questions asked of
//! an index that is re-ranked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bed;
mod behavior;
mod bucket;
mod collect;
mod directory;
mod drain;
mod escalation;
mod git;
mod http;
mod proxy;
mod push;
mod rerank;
mod sitemap;
mod support;
mod train;

use loci_worker::source::{ConfigMapSpec, Probe, SourceKind, probe};
use support::{Sink, documents, spec};

#[tokio::test]
async fn the_keys_of_a_config_map_are_documents() {
    let mut config_map = ConfigMapSpec {
        name: "faq".into(),
        ..ConfigMapSpec::default()
    };
    config_map
        .data
        .insert("faq.jsonl".into(), "{\"text\": \"x\"}".into());
    config_map.data.insert("notes".into(), "plain".into());
    config_map
        .binary_data
        .insert("page.html".into(), b"<p>x".to_vec());
    let source = spec(SourceKind::ConfigMap(config_map.clone()));
    let sink = Sink::default();
    let listing = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(documents(&listing), ["faq.jsonl", "notes", "page.html"]);
    assert_eq!(listing.documents[0].uri, "configmap:faq/faq.jsonl");
    assert_eq!(sink.text(&listing, "notes"), "plain");
    assert_eq!(
        probe(&source, Some(&listing.state)).await.unwrap(),
        Probe::Unchanged
    );
    config_map.data.insert("notes".into(), "other".into());
    let changed = spec(SourceKind::ConfigMap(config_map));
    assert!(matches!(
        probe(&changed, Some(&listing.state)).await.unwrap(),
        Probe::Changed(_)
    ));
}
