use super::*;
use serde_json::{Value, json};

fn resource(change: impl FnOnce(&mut Value)) -> MemoryPipeline {
    let mut spec = json!({
        "embedder": {"model": "file://model"},
        "sources": [{"name": "handbook", "memory": "factual", "directory": {"path": "handbook"}}],
    });
    change(&mut spec);
    serde_json::from_value(json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": "support", "namespace": "agents"}, "spec": spec,
    }))
    .unwrap()
}

fn pipeline(change: impl FnOnce(&mut Value)) -> Pipeline {
    Pipeline::from_resource(&resource(change)).unwrap()
}

fn refused(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let errors = Pipeline::from_resource(&resource(change)).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_filled_in() {
    let p = pipeline(|_| {});
    assert_eq!(p.schedule.interval(), Some(Duration::from_secs(600)));
    assert_eq!(p.freshness, Duration::from_secs(1800));
    assert_eq!(
        (
            p.max_deletion,
            p.chunking.max_tokens,
            p.chunking.overlap_tokens
        ),
        (0.2, 256, 32)
    );
    assert_eq!(
        (p.release_history, p.release_min_age, p.run_history),
        (5, Duration::from_secs(168 * 3600), 10)
    );
    let p = pipeline(|s| {
        s["index"] = json!({"refresh": {"interval": "1m"}, "chunking": {"maxTokens": 40}})
    });
    assert_eq!(
        (p.freshness, p.chunking.overlap_tokens),
        (Duration::from_secs(180), 20)
    );
}

/// Declares an adapter and what it is trained on.
fn with_adapter(s: &mut Value) {
    let runbooks =
        json!({"name": "runbooks", "memory": "procedural", "directory": {"path": "runbooks"}});
    s["sources"].as_array_mut().unwrap().push(runbooks);
    s["adapters"] =
        json!([{"name": "escalation", "base": "hf://org/base@main", "sources": ["runbooks"]}]);
}

/// A wrong spec: what makes it wrong, the field that is named, a part of the reason.
type Wrong = (fn(&mut Value), &'static str, &'static str);

#[test]
fn what_cannot_be_accepted_is_named_with_its_reason() {
    let cases: [Wrong; 23] = [
        (
            |s| s["index"] = json!({"fusion": {"denseWeight": "1.5"}}),
            "spec.index.fusion.denseWeight",
            "from 0 to 1",
        ),
        (
            |s| s["index"] = json!({"refresh": {"cron": "0 0 30 2 *"}}),
            "spec.index.refresh.cron",
            "never comes",
        ),
        (
            |s| s["index"] = json!({"refresh": {"cron": "0 3 * * *", "timeZone": "Mars/Base"}}),
            "spec.index.refresh.timeZone",
            "IANA",
        ),
        (
            |s| s["index"] = json!({"refresh": {"cron": "0 3 * * *", "interval": "5m"}}),
            "spec.index.refresh",
            "not both",
        ),
        (
            |s| s["index"] = json!({"refresh": {"timeZone": "UTC"}}),
            "spec.index.refresh",
            "belong to cron",
        ),
        (
            |s| s["index"] = json!({"refresh": {"interval": "0s"}}),
            "spec.index.refresh.interval",
            "no duration",
        ),
        (
            |s| s["index"] = json!({"freshness": "soon"}),
            "spec.index.freshness",
            "duration",
        ),
        (
            |s| s["index"] = json!({"maxDeletion": "120%"}),
            "spec.index.maxDeletion",
            "percentage",
        ),
        (
            |s| s["index"] = json!({"chunking": {"maxTokens": 64, "overlapTokens": 40}}),
            "spec.index.chunking.overlapTokens",
            "half",
        ),
        (
            |s| s["embedder"]["model"] = json!("hf://org/name"),
            "spec.embedder.model",
            "@revision",
        ),
        (
            |s| s["sources"][0]["directory"]["include"] = json!(["**/*.{md"]),
            "spec.sources[0].directory.include[0]",
            "glob",
        ),
        (
            |s| {
                s["sources"][0]["metadata"] =
                    json!([{"name": "tenant", "values": ["a"], "number": 1}])
            },
            "spec.sources[0].metadata[0]",
            "exactly one of values, number",
        ),
        (
            |s| {
                s["sources"][0]["metadata"] =
                    json!([{"name": "a", "number": 1}, {"name": "memory", "number": 1}])
            },
            "spec.sources[0].metadata[1].name",
            "another name",
        ),
        (
            |s| {
                with_adapter(s);
                s["sources"][1]["metadata"] = json!([{"name": "tenant", "values": ["a"]}])
            },
            "spec.sources[1].metadata",
            "not looked up",
        ),
        (
            |s| s["sources"][0]["git"] = json!({"url": "https://x/y"}),
            "spec.sources[0]",
            "exactly one",
        ),
        (
            |s| s["sources"][0]["memory"] = json!("procedural"),
            "spec.sources[0]",
            "none names it",
        ),
        (
            |s| {
                s["sources"][0] =
                    json!({"name": "a", "memory": "factual", "http": {"urls": ["ftp://x/"]}})
            },
            "spec.sources[0].http.urls[0]",
            "ftp",
        ),
        (
            |s| s["sources"][0] = json!({"name": "a", "memory": "factual", "git": {"url": "https://x/", "ref": {"commit": "abc"}}}),
            "spec.sources[0].git.ref.commit",
            "40",
        ),
        (
            |s| {
                let twin = s["sources"][0].clone();
                s["sources"].as_array_mut().unwrap().push(twin)
            },
            "spec.sources[1]",
            "twice",
        ),
        (
            |s| s["gates"] = json!([{"suite": "none", "metric": "mrr", "floor": "0.5"}]),
            "spec.gates[0].suite",
            "spec.suites",
        ),
        (
            |s| {
                s["suites"] = json!([{"name": "faq", "retrieval": {"data": {"file": "a"}}}]);
                s["gates"] = json!([{"suite": "faq", "metric": "recallAt0", "floor": "0.5"}])
            },
            "spec.gates[0].metric",
            "K from 1",
        ),
        (
            |s| {
                s["suites"] = json!([{"name": "faq", "retrieval": {"data": {"file": "a"}}}]);
                s["gates"] = json!([{"suite": "faq", "metric": "mrr"}])
            },
            "spec.gates[0]",
            "floor",
        ),
        (
            |s| s["rollout"] = json!({"pin": 0}),
            "spec.rollout.pin",
            "from 1",
        ),
    ];
    for (change, field, part) in cases {
        let errors = refused(change);
        assert!(
            errors
                .iter()
                .any(|e| e.starts_with(&format!("{field}: ")) && e.contains(part)),
            "{field}: {errors:?}"
        );
    }
    // All at once, not one at a time.
    assert_eq!(
        refused(|s| {
            s["embedder"]["model"] = json!("x");
            s["index"] = json!({"freshness": "x"})
        })
        .len(),
        2
    );
}

#[test]
fn a_push_source_has_limits() {
    let pushed = |push: Value| {
        move |s: &mut Value| {
            s["sources"] = json!([{"name": "notes", "memory": "factual", "push": push}])
        }
    };
    let limits = |push: Value| match pipeline(pushed(push)).sources.remove(0).location {
        Location::Push {
            max_document_bytes,
            max_documents,
            max_pending,
        } => (max_document_bytes, max_documents, max_pending),
        other => panic!("{other:?}"),
    };
    assert_eq!(limits(json!({})), (4 << 20, 200_000, 10_000));
    let given = json!({"maxDocumentBytes": 1000, "maxDocuments": 10, "maxPending": 5});
    assert_eq!(limits(given.clone()), (1000, 10, 5));
    assert!(pipeline(pushed(given)).is_pushed("notes"));
    assert!(!pipeline(|_| {}).is_pushed("handbook"));
    let wrong = json!({"maxDocumentBytes": 0, "maxDocuments": 200_001});
    assert_eq!(
        refused(pushed(wrong)),
        [
            "spec.sources[0].push.maxDocumentBytes: 0 is not from 1 to 67108864",
            "spec.sources[0].push.maxDocuments: 200001 is not from 1 to 200000",
        ]
    );
    assert_eq!(
        refused(|s| s["sources"][0]["push"] = json!({})),
        ["spec.sources[0]: give exactly one of git, http, bucket, configMap, directory, push"]
    );
}

#[test]
fn the_impact_of_a_change_is_what_the_table_says() {
    let old = pipeline(|_| {});
    let of = |change: fn(&mut Value)| impact(&old, &pipeline(change)).into_iter().next_back();
    assert_eq!(of(|_| {}), None);
    assert_eq!(
        of(|s| s["suspend"] = json!(true)),
        Some((Impact::None, "spec.suspend"))
    );
    assert_eq!(
        of(|s| s["suites"] = json!([{"name": "faq", "retrieval": {"data": {"file": "a"}}}])),
        Some((Impact::Judge, "spec.suites"))
    );
    assert_eq!(
        of(|s| s["sources"][0]["directory"]["path"] = json!("b")),
        Some((Impact::Refresh, "spec.sources"))
    );
    assert_eq!(
        of(|s| s["index"] = json!({"chunking": {"maxTokens": 128}})),
        Some((Impact::Rechunk, "spec.index.chunking"))
    );
    let tenant = |s: &mut Value| {
        s["sources"][0]["metadata"] = json!([{"name": "tenant", "values": ["acme"]}])
    };
    assert_eq!(of(tenant), Some((Impact::Rechunk, "spec.sources")));
    assert_eq!(
        of(|s| s["index"] = json!({"fusion": {"normalization": "zScore"}})),
        Some((Impact::Refresh, "spec.index.fusion"))
    );
    assert_eq!(
        of(|s| s["embedder"]["model"] = json!("file://other")),
        Some((Impact::Rebuild, "spec.embedder"))
    );
}

#[test]
fn the_inputs_of_a_build_and_of_a_verdict_are_apart() {
    let old = pipeline(|_| {});
    let changed = |change: fn(&mut Value)| {
        let new = pipeline(change);
        let worst = impact(&old, &new)
            .into_iter()
            .next_back()
            .map_or(Impact::None, |i| i.0);
        assert_eq!(
            old.build_inputs() != new.build_inputs(),
            worst >= Impact::Refresh
        );
        assert_eq!(
            old.gate_inputs() != new.gate_inputs(),
            worst == Impact::Judge
        );
    };
    changed(|s| s["index"] = json!({"refresh": {"interval": "1h"}}));
    // A default that is written out changes nothing.
    changed(|s| s["index"] = json!({"chunking": {"maxTokens": 256, "overlapTokens": 32}}));
    changed(|s| s["index"] = json!({"chunking": {"overlapTokens": 0}}));
    changed(|s| s["index"] = json!({"fusion": {"normalization": "minMax", "denseWeight": "0.50"}}));
    changed(|s| s["index"] = json!({"fusion": {"denseWeight": "0.7"}}));
    changed(|s| s["embedder"]["model"] = json!("hf://org/name@main"));
    changed(|s| s["sources"][0]["memory"] = json!("episodic"));
    changed(|s| s["sources"][0]["metadata"] = json!([{"name": "year", "number": 2026}]));
    changed(|s| s["suites"] = json!([{"name": "faq", "retrieval": {"data": {"file": "a"}}}]));
}

/// Runs and releases that are stored hold these: another digest for the same spec has every pipeline of a cluster built
/// or judged again after an upgrade.
#[test]
fn the_digests_of_inputs_stay_what_they_were() {
    let p = pipeline(|_| {});
    let build = "sha256:56274e35d4f7250e4e464b4c79b812dd88cd73b7ad040b44f902de0a20c7d2d0";
    assert_eq!(p.build_inputs(), build);
    let p = pipeline(|s| {
        s["embedder"]["model"] = json!("hf://org/model@main");
        s["sources"] = json!([
            {"name": "handbook", "memory": "factual", "git": {
                "url": "https://git.example.com/handbook.git", "ref": {"branch": "main"}, "include": ["**/*.md"],
                "secretRef": {"name": "git-auth"},
            }},
            {"name": "status", "memory": "factual", "http": {"urls": ["https://status.example.com/"]}},
            {"name": "notices", "memory": "episodic", "configMap": {"name": "notices"}},
            {"name": "people", "memory": "profile", "directory": {"path": "people", "exclude": ["*.tmp"]}},
        ]);
        s["suites"] = json!([
            {"name": "faq", "retrieval": {"data": {"configMap": {"name": "faq", "key": "faq.jsonl"}}}},
            {"name": "more", "retrieval": {"data": {"file": "more.jsonl"}}},
        ]);
        s["gates"] = json!([
            {"suite": "faq", "metric": "recallAt5", "floor": "0.80", "maxRegression": "0.02"},
            {"suite": "more", "metric": "mrr", "maxRegression": "0.1"},
        ]);
    });
    let build = "sha256:484daa37b0e98c234fd2b2bb69d2865f0b51120bf13ea1f9c982d72aa4a436d6";
    let gates = "sha256:ec7724c3f2415f01faeb52a4413f9db3290efc72e4a94f24347a911165d576d2";
    assert_eq!(
        (p.build_inputs(), p.gate_inputs()),
        (build.to_owned(), gates.to_owned())
    );
}

#[test]
fn a_suite_is_asked_as_deep_as_its_gates_need() {
    let p = pipeline(|s| {
        s["suites"] = json!([{"name": "a", "retrieval": {"data": {"file": "a"}}}, {"name": "b", "retrieval": {"data": {"file": "b"}}}]);
        s["gates"] = json!([{"suite": "a", "metric": "recallAt20", "floor": "0.5"}, {"suite": "a", "metric": "ndcgAt5", "maxRegression": "0.1"}]);
    });
    assert_eq!(p.metrics_of("a"), [Metric::RecallAt(20), Metric::NdcgAt(5)]);
    assert_eq!(
        (p.depth_of("a"), p.metrics_of("b").len(), p.depth_of("b")),
        (20, 3, 100)
    );
}

#[test]
fn what_verdicts_of_stored_releases_depend_on_is_written_as_ever() {
    let p = pipeline(|s| {
        s["suites"] = json!([
            {"name": "faq", "retrieval": {"data": {"configMap": {"name": "faq", "key": "faq.jsonl"}}}},
            {"name": "more", "retrieval": {"data": {"file": "a"}}},
        ]);
        s["gates"] = json!([
            {"suite": "faq", "metric": "recallAt5", "floor": "0.80", "maxRegression": "0.02"},
            {"suite": "faq", "metric": "mrr", "maxRegression": "0.05"},
        ]);
    });
    assert_eq!(
        p.gate_inputs(),
        "sha256:44001fbaf548c00fa2396687382f6531596bdfc40e7564498b8775f903a32293"
    );
}

mod adapters;
mod behavior;
mod budget;
mod remote;
mod rerank;
