//! What rules say of adapters, and of runs that are about one.

use loci_crds::{MemoryPipeline, MemoryRun};
use serde_json::{Value, json};

use crate::rules::{Case, Change, errors_of, pipeline, run, with};

/// A pipeline with an adapter.
pub fn adapted() -> Value {
    let adapter =
        json!({"name": "escalation", "base": "hf://org/base@main", "sources": ["runbooks"]});
    let mut pipeline = with(pipeline(), &[("/spec/adapters", json!([adapter]))]);
    let sources = pipeline["spec"]["sources"].as_array_mut().unwrap();
    sources.extend([
        json!({"name": "notices", "memory": "episodic", "configMap": {"name": "notices"}}),
        json!({"name": "runbooks", "memory": "procedural", "directory": {"path": "runbooks"}}),
    ]);
    pipeline
}

/// A budget that has the price of one class of workers.
pub fn budget(class: &str) -> Value {
    json!({"currency": "USD", "perRun": "5", "perMonth": "20.50", "prices": [{"class": class, "deviceHour": "0.35"}]})
}

/// Pipelines with an adapter that one rule refuses.
pub fn refused_adapters() -> Vec<Case> {
    let one = |pointer, value| vec![(pointer, value)];
    let of = |name: &str, base: &str| json!({"name": name, "base": base, "sources": ["runbooks"]});
    let two = [of("a", "hf://org/base@main"), of("b", "hf://org/base@v2")];
    vec![
        (
            one("/spec/adapters", json!(two)),
            "spec.adapters",
            "all adapters of a pipeline have the same base",
        ),
        (
            one("/spec/adapters/0/sources", json!(["handbook", "runbooks"])),
            "spec.adapters",
            "an adapter is trained on procedural sources only",
        ),
        (
            one("/spec/adapters/0/sources", json!(["runbooks", "runboks"])),
            "spec.adapters",
            "an adapter names a source that is not in sources, or one twice",
        ),
        (
            one("/spec/adapters/0/sources", json!(["runbooks", "runbooks"])),
            "spec.adapters",
            "an adapter names a source that is not in sources, or one twice",
        ),
        (
            one(
                "/spec/sources/2/metadata",
                json!([{"name": "tenant", "values": ["acme"]}]),
            ),
            "spec.sources[2]",
            "metadata is what passages are filtered by",
        ),
        (
            one("/spec/sources/0/memory", json!("procedural")),
            "spec.sources",
            "a procedural source is what adapters are trained on, and none names it",
        ),
        (
            vec![
                ("/spec/sources/0/memory", json!("procedural")),
                ("/spec/sources/1/memory", json!("procedural")),
                (
                    "/spec/adapters/0/sources",
                    json!(["handbook", "notices", "runbooks"]),
                ),
            ],
            "spec.sources",
            "a release has an index",
        ),
        (
            one("/spec/adapters/0/name", json!("base")),
            "spec.adapters[0].name",
            "`base` is the base model without an adapter",
        ),
        (
            one("/spec/adapters/0/heldOut", json!("51%")),
            "spec.adapters[0].heldOut",
            "at most half of the examples is held out",
        ),
        (
            one("/spec/adapters/0/training", json!({"warmup": "100%"})),
            "spec.adapters[0].training.warmup",
            "100% would have the learning rate rise",
        ),
        (
            one("/spec/budget", budget("gpu")),
            "spec.budget",
            "a budget needs the price of the workers that train",
        ),
        (
            vec![
                ("/spec/budget", budget("cpu")),
                ("/spec/workers", json!({"class": "gpu"})),
            ],
            "spec.budget",
            "a budget needs the price of the workers that train",
        ),
        (
            vec![
                ("/spec/adapters/0/lora", json!({"rank": 17})),
                (
                    "/spec/serving",
                    json!({"runtime": {"vllm": {"service": "support-vllm"}}}),
                ),
            ],
            "spec.adapters",
            "an adapter's rank is larger than the vLLM of serving.runtime loads",
        ),
    ]
}

/// Runs that one rule refuses.
pub fn refused_runs() -> Vec<Case> {
    let adapter = "a fine-tune, and no other run, names an adapter";
    let release = "a rebase, and no other run, names a release";
    vec![
        (vec![("/spec/kind", json!("FineTune"))], "spec", adapter),
        (
            vec![("/spec/adapter", json!("escalation"))],
            "spec",
            adapter,
        ),
        (vec![("/spec/kind", json!("Rebase"))], "spec", release),
        (vec![("/spec/release", json!("support-1"))], "spec", release),
    ]
}

/// What refuses a pipeline with an adapter that is changed so.
fn errors(changes: &[Change]) -> Vec<(String, String)> {
    let pipeline: MemoryPipeline = serde_json::from_value(with(adapted(), changes)).unwrap();
    errors_of(pipeline.validate_cel())
}

#[test]
fn every_rule_for_adapters_refuses_what_it_is_there_for() {
    assert_eq!(errors(&[]), [], "the base is valid");
    let paid = [
        ("/spec/budget", budget("gpu")),
        ("/spec/workers", json!({"class": "gpu"})),
    ];
    assert_eq!(errors(&paid), [], "and so is one that is paid for");
    for (changes, field, message) in refused_adapters() {
        let errors = errors(&changes);
        assert!(
            matches!(&errors[..], [(f, m)] if f == field && m.starts_with(message)),
            "{changes:?}: {errors:?}"
        );
    }
}

#[test]
fn an_adapter_may_be_trained_and_asked_with_what_the_index_finds() {
    let behavior = json!({"builtin": "ability", "context": "retrieved"});
    let changes = [
        (
            "/spec/suites",
            json!([{"name": "faq", "behavior": behavior}]),
        ),
        ("/spec/gates/0/metric", json!("accuracy")),
        ("/spec/adapters/0/context", json!("retrieved")),
    ];
    assert_eq!(errors(&changes), []);
}

#[test]
fn a_run_names_what_its_kind_is_about() {
    let of = |v: Value| serde_json::from_value::<MemoryRun>(v).unwrap();
    for (changes, field, message) in refused_runs() {
        let errors = errors_of(of(with(run(), &changes)).validate_cel());
        assert_eq!(
            errors,
            [(field.to_owned(), message.to_owned())],
            "{changes:?}"
        );
    }
    for more in [
        [
            ("/spec/kind", json!("FineTune")),
            ("/spec/adapter", json!("escalation")),
        ],
        [
            ("/spec/kind", json!("Rebase")),
            ("/spec/release", json!("support-1")),
        ],
    ] {
        assert_eq!(errors_of(of(with(run(), &more)).validate_cel()), []);
    }
}
