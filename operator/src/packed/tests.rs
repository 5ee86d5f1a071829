use std::fmt;
use std::sync::{Arc, Mutex};

use kube::api::{ObjectList, WatchEvent};
use loci_crds::{MemoryPipeline, MemoryRun};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::facts::{Body, Fact, Facts, Kind};

/// What is said in the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 = format!("{} {value:?}", self.0);
    }
}

/// What comes of `what`, and what is said meanwhile.
fn heard<T>(what: impl FnOnce() -> T) -> (T, Vec<String>) {
    let log = Log::default();
    let answer = tracing::subscriber::with_default(log.clone(), what);
    let lines = log.0.lock().unwrap().clone();
    (answer, lines)
}

fn pipeline(name: &str) -> Value {
    json!({
        "apiVersion": "loci.dev/v1alpha1",
        "kind": "MemoryPipeline",
        "metadata": {"name": name, "namespace": "agents", "uid": format!("uid-{name}"), "resourceVersion": "7"},
        "spec": {
            "embedder": {"model": "hf://org/tiny@main"},
            "sources": [{"name": "docs", "memory": "factual", "configMap": {"name": "docs"}}],
        },
    })
}

fn spoiled(name: &str, at: &str, value: Value) -> Value {
    let mut object = pipeline(name);
    let (parent, key) = at.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    object
}

/// Between two that can be read, some that cannot.
fn pipelines() -> Vec<Value> {
    vec![
        pipeline("first"),
        spoiled("value", "/spec/sources/0/memory", json!("sensory")),
        spoiled("type", "/spec/index", json!("daily")),
        spoiled("field", "/spec/moods", json!(["glad"])),
        spoiled("spec", "/spec", json!("as before")),
        spoiled("status", "/status", json!({"observedGeneration": "one"})),
        pipeline("last"),
    ]
}

/// The names of those that can be read.
fn readable(packed: &[Packed<MemoryPipeline>]) -> Vec<String> {
    let read = packed
        .iter()
        .filter_map(|p| unpack::<MemoryPipeline>(&p.json));
    read.map(|p| p.name_any()).collect()
}

#[test]
fn one_that_cannot_be_read_hides_nothing_that_is_listed_with_it_and_is_told_of() {
    let list = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipelineList",
        "metadata": {"resourceVersion": "9"}, "items": pipelines(),
    });
    let list: ObjectList<Packed<MemoryPipeline>> = serde_json::from_value(list).unwrap();
    let names: Vec<_> = list.items.iter().map(ResourceExt::name_any).collect();
    let wrong = ["value", "type", "field", "spec", "status"];
    assert_eq!(names[1..6], wrong);
    let (read, told) = heard(|| readable(&list.items));
    assert_eq!(read, ["first", "last"]);
    assert_eq!(told.len(), wrong.len(), "{told:?}");
    for (line, name) in told.iter().zip(wrong) {
        let begins = format!("ERROR MemoryPipeline {name} cannot be read: ");
        assert!(line.starts_with(&begins), "{line}");
    }
    assert!(told[0].contains("sensory"), "{}", told[0]);
}

#[test]
fn one_that_is_written_while_it_is_watched_is_seen_and_read_when_it_is_mended() {
    let seen = |kind: &str, object: Value| {
        let text = json!({"type": kind, "object": object}).to_string();
        match serde_json::from_str::<WatchEvent<Packed<MemoryPipeline>>>(&text).unwrap() {
            WatchEvent::Added(packed)
            | WatchEvent::Modified(packed)
            | WatchEvent::Deleted(packed) => packed,
            other => panic!("{other:?}"),
        }
    };
    let wrong = spoiled("shop", "/spec/sources/0/memory", json!("sensory"));
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let packed = seen(kind, wrong.clone());
        assert_eq!(packed.name_any(), "shop");
        assert_eq!(packed.resource_version().as_deref(), Some("7"));
        assert_eq!(packed.uid().as_deref(), Some("uid-shop"));
        assert!(readable(&[packed]).is_empty());
    }
    assert_eq!(readable(&[seen("MODIFIED", pipeline("shop"))]), ["shop"]);
}

fn run(name: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "loci.dev/v1alpha1",
        "kind": "MemoryRun",
        "metadata": {"name": name, "namespace": "agents", "resourceVersion": "7"},
        "spec": {"pipelineRef": {"name": "shop"}, "kind": "Refresh", "trigger": "Initial"},
        "status": {"phase": phase},
    })
}

#[test]
fn a_run_that_cannot_be_read_is_its_pipelines_and_stands_in_no_other_runs_way() {
    let mut facts = Facts::default();
    for (name, phase) in [("a", "Running"), ("b", "Dreaming"), ("c", "Succeeded")] {
        let packed: Packed<MemoryRun> = serde_json::from_value(run(name, phase)).unwrap();
        assert_eq!(packed.pipeline.as_deref(), Some("shop"));
        let body = Body::Object(packed.json.clone());
        assert!(facts.put(1, Fact::of(Kind::Run, &packed, body)));
    }
    let names = |facts: &Facts| -> Vec<String> {
        let runs = facts.runs();
        runs.iter().map(ResourceExt::name_any).collect()
    };
    let (read, told) = heard(|| names(&facts));
    assert_eq!(read, ["a", "c"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("MemoryRun b cannot be read"), "{told:?}");

    let mut mended = run("b", "Failed");
    mended["metadata"]["resourceVersion"] = json!("8");
    let packed: Packed<MemoryRun> = serde_json::from_value(mended).unwrap();
    let body = Body::Object(packed.json.clone());
    assert!(facts.put(1, Fact::of(Kind::Run, &packed, body)), "news");
    assert_eq!(names(&facts), ["a", "b", "c"]);
}

#[test]
fn what_peoples_tools_leave_behind_is_not_kept() {
    let mut object = pipeline("shop");
    object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    object["metadata"]["annotations"] = json!({APPLIED: "{}", "loci.dev/refresh": "1"});
    let packed: Packed<MemoryPipeline> = serde_json::from_value(object).unwrap();
    let kept: Value = serde_json::from_slice(&packed.json).unwrap();
    assert_eq!(kept["metadata"].get("managedFields"), None);
    let annotations = json!({"loci.dev/refresh": "1"});
    assert_eq!(kept["metadata"]["annotations"], annotations);
    assert_eq!(packed.annotations().len(), 1);
}
