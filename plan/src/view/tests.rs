use std::collections::BTreeSet;

use loci_crds::MemoryPipeline;
use serde_json::{Value, json};

use super::*;
use crate::world::Serving;

/// A pipeline that declares these adapters.
fn pipeline(adapters: &[&str]) -> Pipeline {
    let adapter = |name: &&str| json!({"name": name, "base": "hf://org/base@main", "sources": ["runbooks"], "guard": "none"});
    let mut spec = json!({
        "embedder": {"model": "hf://org/model@main"},
        "sources": [{"name": "notices", "memory": "episodic", "configMap": {"name": "notices"}}],
        "suites": [
            {"name": "faq", "retrieval": {"data": {"configMap": {"name": "faq", "key": "faq.jsonl"}}}},
            {"name": "more", "retrieval": {"data": {"file": "more.jsonl"}}},
        ],
        "gates": [
            {"suite": "faq", "metric": "recallAt5", "floor": "0.80", "maxRegression": "0.02"},
            {"suite": "more", "metric": "mrr", "maxRegression": "0.1"},
        ],
    });
    if !adapters.is_empty() {
        let runbooks =
            json!({"name": "runbooks", "memory": "procedural", "configMap": {"name": "r"}});
        spec["sources"].as_array_mut().unwrap().push(runbooks);
        spec["adapters"] = adapters.iter().map(adapter).collect();
    }
    let resource = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "support"}, "spec": spec,
    });
    let resource: MemoryPipeline = serde_json::from_value(resource).unwrap();
    Pipeline::from_resource(&resource).unwrap()
}

/// A release of this number with this index; its anchor, and the adapters that are served with it.
fn release(number: i64, content: &str, adapters: &[&str]) -> MemoryRelease {
    let adapter = |name: &&str| {
        json!({
            "name": name, "manifest": format!("m-{name}-{number}"), "adapter": format!("a-{name}-{number}"),
            "base": "hf://org/base@main", "baseDigest": "b", "rank": 8, "dataset": "d",
        })
    };
    let release = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRelease", "metadata": {"name": format!("support-{number}")},
        "spec": {
            "pipelineRef": {"name": "support"}, "number": number, "run": "r",
            "index": {"revision": "r", "contentId": content, "documents": 1, "passages": 1},
            "embedder": {"model": "file://m", "identity": "i"},
            "adapters": adapters.iter().map(adapter).collect::<Vec<Value>>(),
        },
        "status": {"anchor": "support-1"},
    });
    serde_json::from_value(release).unwrap()
}

fn world(releases: Vec<MemoryRelease>, desired: Option<&str>) -> World {
    World {
        pipeline: pipeline(&[]),
        generation: 1,
        intents: Default::default(),
        suite_data: BTreeMap::from([
            ("faq".to_owned(), Digest::of("questions")),
            ("more".to_owned(), Digest::of("more questions")),
        ]),
        looks: BTreeMap::new(),
        probing: BTreeSet::new(),
        hints: BTreeMap::new(),
        runs: Vec::new(),
        outcomes: Vec::new(),
        in_flight: BTreeSet::new(),
        reported: BTreeMap::new(),
        releases,
        serving: Serving {
            desired: desired.map(str::to_owned),
            ..Serving::default()
        },
        status: Default::default(),
        collected: None,
        built: None,
        workers: None,
    }
}

/// Releases that are stored hold these: another key for the same verdict has them all judged again after an upgrade.
#[test]
fn the_keys_of_verdicts_stay_what_they_were() {
    let key = |world: &World| {
        let view = View::new(Timestamp::UNIX_EPOCH, world);
        view.verdict_key(Lane::Index, "sha256:new")
    };
    let releases = vec![
        release(1, "sha256:first", &[]),
        release(2, "sha256:old", &[]),
    ];
    assert_eq!(
        key(&world(releases, Some("support-2"))),
        "sha256:3eb07513e36fa1889911ed0d1d9346ba89a0b94e5ed7ea8df9f7a1270a3934da"
    );
    assert_eq!(
        key(&world(Vec::new(), None)),
        "sha256:2ed8a186c54642dcfce9e4da8ef09d5fc6db1dfa75eaba5cd87acfe1e9bfdaab"
    );
}

#[test]
fn a_release_without_adapters_is_its_index_and_each_adapter_makes_another() {
    let of = |adapters: &[&str]| release(2, "sha256:old", adapters).composition();
    assert_eq!(of(&[]), "sha256:old");
    let all = [of(&[]), of(&["a"]), of(&["b"]), of(&["a", "b"])];
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
    // An adapter of the same weights is the same, wherever its manifest is.
    let mut moved = release(2, "sha256:old", &["a"]);
    moved.spec.adapters[0].manifest = "elsewhere".to_owned();
    assert_eq!(moved.composition(), of(&["a"]));
}

#[test]
fn a_verdict_of_one_lane_does_not_depend_on_the_components_of_another() {
    let keys = |adapters: &[&str]| {
        let releases = vec![
            release(1, "sha256:first", &[]),
            release(2, "sha256:old", adapters),
        ];
        let world = world(releases, Some("support-2"));
        let view = View::new(Timestamp::UNIX_EPOCH, &world);
        let key = |lane| view.verdict_key(lane, "sha256:new");
        (key(Lane::Index), key(Lane::Adapter("a")))
    };
    let (bare, with) = (keys(&[]), keys(&["a"]));
    assert_eq!(bare.0, with.0);
    assert_ne!(bare.1, with.1);
    assert_eq!(with.1, keys(&["a", "b"]).1);
}

#[test]
fn a_release_is_put_upon_what_serves_and_is_declared() {
    let releases = vec![
        release(1, "sha256:first", &[]),
        release(2, "sha256:old", &["a", "b"]),
    ];
    let mut world = world(releases, Some("support-2"));
    world.pipeline = pipeline(&["a", "c"]);
    let view = View::new(Timestamp::UNIX_EPOCH, &world);
    let beside = |lane| view.beside(lane).into_keys().collect::<Vec<_>>();
    assert_eq!(beside(Lane::Index), ["a"]);
    assert_eq!(beside(Lane::Adapter("a")), [""]);
    assert_eq!(beside(Lane::Adapter("c")), ["", "a"]);
    // An index with the adapter that serves is upon what serves, and one with another is not.
    let mut candidate = release(2, "sha256:new", &["a"]);
    assert!(view.is_on_top(&candidate));
    candidate.spec.adapters[0].adapter = "another".to_owned();
    assert!(!view.is_on_top(&candidate));
    // Of that adapter it is.
    candidate.spec.adapter = Some("a".to_owned());
    candidate.spec.index.content_id = "sha256:old".to_owned();
    assert!(view.is_on_top(&candidate));
    // An adapter of another base leaves those of the old one out; an index keeps what serves.
    let mut changed = world.clone();
    for adapter in &mut changed.pipeline.adapters {
        adapter.base = "hf://org/base@v2".to_owned();
    }
    let view = View::new(Timestamp::UNIX_EPOCH, &changed);
    let beside = |lane| view.beside(lane).into_keys().collect::<Vec<_>>();
    assert_eq!(beside(Lane::Adapter("c")), [""]);
    assert_eq!(beside(Lane::Index), ["a"]);
}
