//! Every CEL rule can refuse.

use std::collections::BTreeSet;

use kube::core::cel::ValidationErrors;
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use serde_json::{Value, json};

use crate::{adapters, each_schema, remotes};

pub fn pipeline() -> Value {
    json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "support", "namespace": "agents"},
        "spec": {
            "embedder": {"model": "file://./model"},
            "sources": [{"name": "handbook", "memory": "factual", "directory": {"path": "handbook"}}],
            "suites": [{"name": "faq", "retrieval": {"data": {"file": "faq.jsonl"}}}],
            "gates": [{"suite": "faq", "metric": "recallAt5", "floor": "0.80"}]
        }
    })
}

pub fn run() -> Value {
    json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRun", "metadata": {"name": "support-1"},
        "spec": {"pipelineRef": {"name": "support"}, "kind": "Refresh", "trigger": "Initial"}
    })
}

fn release() -> Value {
    json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRelease", "metadata": {"name": "support-1"},
        "spec": {
            "pipelineRef": {"name": "support"}, "number": 1, "run": "support-1",
            "index": {"revision": "r", "contentId": "c", "documents": 1, "passages": 1},
            "embedder": {"model": "file:///m", "identity": "i"}
        }
    })
}

/// `base` with each pointer set to its value, or removed when the value is null.
pub fn with(mut base: Value, changes: &[Change]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = base
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{pointer} has no parent"))
            .as_object_mut()
            .unwrap();
        match value {
            Value::Null => _ = parent.remove(key),
            value => _ = parent.insert(key.to_owned(), value.clone()),
        }
    }
    base
}

pub fn errors_of(result: Result<(), ValidationErrors>) -> Vec<(String, String)> {
    let errors = result.err().into_iter().flatten();
    errors.map(|e| (e.field_path, e.message)).collect()
}

/// A pointer and what to put there.
pub type Change = (&'static str, Value);

/// What is changed, the field and the start of the message.
pub type Case = (Vec<Change>, &'static str, &'static str);

/// Pipelines that one rule refuses.
fn refused_pipelines() -> Vec<Case> {
    let one = |pointer, value| vec![(pointer, value)];
    let any = || json!({"any": "thing"});
    let (source, data) = ("spec.sources[0]", "spec.suites[0].retrieval.data");
    vec![
        (
            one("/metadata/name", json!("a".repeat(41))),
            "",
            "a pipeline's name has at most 40 characters",
        ),
        (
            one("/spec/budget", adapters::budget("cpu")),
            "spec.budget",
            "a budget is for training adapters, and the pipeline has none",
        ),
        (
            one(
                "/spec/serving",
                json!({"runtime": {"vllm": {"service": "support-vllm"}}}),
            ),
            "spec.serving",
            "chats are answered by releases with adapters, and the pipeline has none",
        ),
        (
            one("/spec/workers", json!({"class": "fetch-agents"})),
            "spec.workers.class",
            "classes named fetch are those of fetchers",
        ),
        (
            one("/spec/suites", Value::Null),
            "spec.gates",
            "a gate names a suite that is not in suites",
        ),
        (
            one(
                "/spec/index",
                json!({"refresh": {"interval": "10m", "cron": "0 3 * * 0"}}),
            ),
            "spec.index.refresh",
            "give interval or cron, not both",
        ),
        (
            one(
                "/spec/index",
                json!({"refresh": {"timeZone": "Europe/Berlin"}}),
            ),
            "spec.index.refresh",
            "timeZone and startingDeadline belong to cron",
        ),
        (
            one("/spec/index", json!({"chunking": {"overlapTokens": 129}})),
            "spec.index.chunking",
            "overlapTokens is at most half of maxTokens",
        ),
        (
            one(
                "/spec/retrieval",
                json!({"rerank": {"method": "crossEncoder"}}),
            ),
            "spec.retrieval.rerank",
            "a crossEncoder is a model of its own",
        ),
        (
            one(
                "/spec/retrieval",
                json!({"rerank": {"method": "lateInteraction", "model": "hf://org/cross@main"}}),
            ),
            "spec.retrieval.rerank",
            "lateInteraction compares by the embedder",
        ),
        (
            one("/spec/rollout", json!({"adapters": any()})),
            "spec.rollout",
            "canaries are not built yet: remove rollout.adapters",
        ),
        (
            one("/spec/rollout", json!({"index": {"canary": any()}})),
            "spec.rollout.index",
            "canaries are not built yet: remove rollout.index.canary",
        ),
        (
            one("/spec/sources/0/memory", json!("working")),
            "spec.sources[0].memory",
            "memory class working is not built yet",
        ),
        (
            one(
                "/spec/sources/0/metadata",
                json!([{"name": "tenant", "values": ["acme"], "number": 1}]),
            ),
            "spec.sources[0].metadata[0]",
            "give exactly one of values, number",
        ),
        (
            one("/spec/sources/0/metadata", json!([{"name": "tenant"}])),
            "spec.sources[0].metadata[0]",
            "give exactly one of values, number",
        ),
        (
            one(
                "/spec/sources/0/metadata",
                json!([{"name": "not", "values": ["acme"]}]),
            ),
            "spec.sources[0].metadata[0].name",
            "every document has fields source, document, uri, memory and version",
        ),
        (
            one("/spec/sources/0/directory", Value::Null),
            source,
            "give exactly one of git, http, bucket, configMap, directory, push",
        ),
        (
            one(
                "/spec/sources/0/http",
                json!({"urls": ["https://a.example/"]}),
            ),
            source,
            "give exactly one of git, http, bucket, configMap, directory, push",
        ),
        (
            vec![
                ("/spec/sources/0/directory", Value::Null),
                (
                    "/spec/sources/0/git",
                    json!({"url": "https://a.example/", "ref": {"branch": "main", "tag": "v1"}}),
                ),
            ],
            "spec.sources[0].git.ref",
            "give exactly one of branch, tag, commit",
        ),
        (
            one("/spec/suites/0/retrieval", Value::Null),
            "spec.suites[0]",
            "give exactly one of retrieval, behavior",
        ),
        (
            one("/spec/suites/0/retrieval/data/git", any()),
            data,
            "suite data from git and bucket is not built yet",
        ),
        (
            one("/spec/suites/0/retrieval/data/file", Value::Null),
            data,
            "give exactly one of configMap, file",
        ),
        (
            one(
                "/spec/suites/0/retrieval/data/configMap",
                json!({"name": "faq", "key": "faq.jsonl"}),
            ),
            data,
            "give exactly one of configMap, file",
        ),
        (
            one("/spec/gates/0/minGain", json!("0.10")),
            "spec.gates",
            "minGain compares an adapter with its base model: give it",
        ),
        (
            one("/spec/gates/0/metric", json!("accuracy")),
            "spec.gates",
            "exactMatch, regexMatch, schemaValid, accuracy, likelihood and perplexity judge behavior suites",
        ),
        (
            one("/spec/gates/0/floor", Value::Null),
            "spec.gates[0]",
            "give floor, maxRegression or minGain",
        ),
    ]
}

/// The same of behaviour suites.
fn refused_behavior() -> Vec<Case> {
    let unasked = |behavior: Value| {
        let suites = json!([{"name": "faq", "behavior": behavior}]);
        let metric = ("/spec/gates/0/metric", json!("accuracy"));
        vec![("/spec/suites", suites), metric]
    };
    let asked = |behavior: Value, more: Vec<Change>| {
        let adapted = adapters::adapted();
        let taken = |pointer: &'static str| (pointer, adapted.pointer(pointer).unwrap().clone());
        let adapters = vec![taken("/spec/sources"), taken("/spec/adapters")];
        [unasked(behavior), adapters, more].concat()
    };
    let builtin = || json!({"builtin": "arithmetic"});
    vec![
        (
            unasked(builtin()),
            "spec.suites",
            "behavior suites judge adapters, and the pipeline has none",
        ),
        (
            asked(
                json!({"builtin": "arithmetic", "adapters": ["tone"]}),
                Vec::new(),
            ),
            "spec.suites",
            "a suite names an adapter that is not in adapters",
        ),
        (
            asked(json!({}), Vec::new()),
            "spec.suites[0].behavior",
            "give exactly one of data, builtin",
        ),
        (
            asked(
                json!({"builtin": "ability", "data": {"file": "a"}}),
                Vec::new(),
            ),
            "spec.suites[0].behavior",
            "give exactly one of data, builtin",
        ),
        (
            asked(json!({"data": {}}), Vec::new()),
            "spec.suites[0].behavior.data",
            "give exactly one of configMap, file",
        ),
        (
            asked(builtin(), vec![("/spec/gates/0/metric", json!("mrr"))]),
            "spec.gates",
            "exactMatch, regexMatch, schemaValid, accuracy, likelihood and perplexity judge behavior suites",
        ),
    ]
}

fn refused() -> Vec<Case> {
    [refused_pipelines(), refused_behavior(), remotes::refused()].concat()
}

const IMMUTABLE: [&str; 2] = [
    "a release is immutable",
    "a run's spec is immutable: create another run",
];

#[test]
fn every_rule_refuses_what_it_is_there_for() {
    let of = |v: Value| serde_json::from_value::<MemoryPipeline>(v).unwrap();
    assert_eq!(
        errors_of(of(pipeline()).validate_cel()),
        [],
        "the base is valid"
    );
    for (changes, field, message) in refused() {
        let errors = errors_of(of(with(pipeline(), &changes)).validate_cel());
        assert!(
            matches!(&errors[..], [(f, m)] if f == field && m.starts_with(message)),
            "{changes:?}: {errors:?}"
        );
    }
}

#[test]
fn runs_and_releases_are_immutable() {
    let of = |v: Value| serde_json::from_value::<MemoryRelease>(v).unwrap();
    let changed = of(with(release(), &[("/spec/index/documents", json!(2))]));
    assert_eq!(
        errors_of(of(release()).validate_cel_update(&of(release()))),
        []
    );
    assert_eq!(
        errors_of(changed.validate_cel_update(&of(release()))),
        [("spec".into(), IMMUTABLE[0].into())]
    );

    let of = |v: Value| serde_json::from_value::<MemoryRun>(v).unwrap();
    let changed = of(with(run(), &[("/spec/trigger", json!("Requested"))]));
    assert_eq!(errors_of(of(run()).validate_cel_update(&of(run()))), []);
    assert_eq!(
        errors_of(changed.validate_cel_update(&of(run()))),
        [("spec".into(), IMMUTABLE[1].into())]
    );
}

#[test]
fn no_rule_is_without_its_case() {
    let mut untested = BTreeSet::new();
    let mut table = refused();
    table.extend(adapters::refused_adapters());
    table.extend(adapters::refused_runs());
    each_schema(|path, schema| {
        let rules = schema["x-kubernetes-validations"].as_array();
        for rule in rules.into_iter().flatten() {
            let message = rule["message"]
                .as_str()
                .unwrap_or_else(|| panic!("{path}: a rule without a message: {rule}"));
            let tested = table.iter().any(|(_, _, m)| message.starts_with(m));
            if !tested && !IMMUTABLE.contains(&message) {
                untested.insert(format!("{path}: {message}"));
            }
        }
    });
    assert!(
        untested.is_empty(),
        "add a case to the refused ones for {untested:#?}"
    );
}
