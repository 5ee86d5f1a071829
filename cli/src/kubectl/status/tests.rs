//! What the table of pipelines says.

use serde_json::{Value, json};

use super::*;

fn state(spec: Value, status: Value, run: Option<Value>) -> State {
    let mut all = json!({
        "embedder": {"model": "hf://org/tiny@main"},
        "sources": [{"name": "docs", "memory": "factual", "configMap": {"name": "docs"}}],
    });
    all.as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let run = run.map(|status| {
        let spec =
            json!({"pipelineRef": {"name": "shop"}, "kind": "Refresh", "trigger": "Schedule"});
        let run = json!({
            "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRun", "metadata": {"name": "shop-1"},
            "spec": spec, "status": status,
        });
        serde_json::from_value(run).unwrap()
    });
    let pipeline = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "shop"},
        "spec": all, "status": status,
    });
    State {
        pipeline: serde_json::from_value(pipeline).unwrap(),
        runs: run.into_iter().collect(),
        release: None,
        known: Vec::new(),
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-27T08:00:00Z"})
}

fn row(state: &State) -> Vec<String> {
    cells(state, "2026-11-27T09:00:00Z".parse().unwrap())
}

#[test]
fn a_row_says_what_serves_how_fresh_it_is_and_what_comes_next() {
    let status = json!({
        "conditions": [condition("Ready", "True", "Serving"), condition("IndexFresh", "True", "Fresh")],
        "servingRelease": "shop-3", "lastRefreshTime": "2026-11-27T08:56:00Z", "nextRefreshTime": "2026-11-27T09:06:00Z",
    });
    assert_eq!(
        row(&state(json!({}), status.clone(), None)),
        ["True", "shop-3", "True (4m)", "in 6m", ""]
    );

    let mut held = status;
    held["heldOn"] = json!("shop-3");
    held["conditions"][1]["status"] = json!("False");
    let progress = json!({"step": "Embed", "done": 1065, "total": 2660, "unit": "chunks", "time": "2026-11-27T09:00:00Z"});
    let run = json!({"phase": "Running", "attempt": 2, "progress": progress, "steps": [
        {"name": "Snapshot", "startTime": "2026-11-27T08:59:00Z", "completionTime": "2026-11-27T08:59:10Z"},
        {"name": "Embed", "startTime": "2026-11-27T08:59:10Z"},
    ]});
    let cells = row(&state(json!({"suspend": true}), held, Some(run)));
    let embed = "Embed 1,065/2,660 chunks, attempt 2";
    assert_eq!(
        cells,
        ["True", "shop-3 (held)", "False (4m)", "suspended", embed]
    );
}

#[test]
fn adapters_are_told_beside_the_index() {
    let mut state = state(json!({}), json!({}), Some(json!({"phase": "Pending"})));
    let mut tuning = state.runs[0].clone();
    tuning.spec.kind = RunKind::FineTune;
    tuning.spec.adapter = Some("tone".to_owned());
    let progress = json!({"step": "Train", "done": 120, "total": 900, "unit": "steps", "time": "2026-11-27T09:00:00Z"});
    let status = json!({"phase": "Running", "attempt": 1, "progress": progress, "steps": [
        {"name": "Train", "startTime": "2026-11-27T08:59:00Z"},
    ]});
    tuning.status = serde_json::from_value(status).unwrap();
    state.runs.push(tuning);
    assert_eq!(row(&state)[4], "waits; tone: Train 120/900 steps");

    let told = json!({
        "name": "tone", "adapter": format!("sha256:{}", "ab".repeat(32)), "newExamples": 1200,
        "nextTime": "2026-11-27T10:00:00Z", "message": "suspended",
    });
    let told = serde_json::from_value(told).unwrap();
    let cells = adapter_cells(&told, "2026-11-27T09:00:00Z".parse().unwrap());
    assert_eq!(
        cells,
        ["tone", "abababababab", "in 60m", "1,200", "suspended"]
    );
}

#[test]
fn a_row_says_why_not() {
    let status = json!({"conditions": [
        condition("Ready", "False", "NoRelease"), condition("Stalled", "True", "InvalidSpec"),
    ]});
    let run = json!({"phase": "Held", "reason": "MaxDeletionExceeded"});
    let cells = row(&state(json!({}), status, Some(run)));
    assert_eq!(
        cells,
        [
            "False: InvalidSpec",
            "",
            "Unknown",
            "",
            "held: MaxDeletionExceeded"
        ]
    );
    assert_eq!(row(&state(json!({}), json!({}), None))[0], "Unknown");
}
