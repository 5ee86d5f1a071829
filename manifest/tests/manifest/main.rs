//! What is read, and what bad input gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod read;
mod refused;
mod secrets;

use loci_manifest::{Manifests, Problem, load_str};

/// A pipeline and what it refers to, in five documents.
const GOOD: &str = r#"# The memory of a support agent.
apiVersion: loci.dev/v1alpha1
kind: MemoryPipeline
metadata: {name: support, namespace: agents, labels: {team: "7"}}
spec:
  embedder: {model: "hf://sentence-transformers/all-MiniLM-L6-v2@main"}
  sources:
  - name: handbook
    memory: factual
    git: {url: "https://git.example.com/handbook.git", ref: {branch: main}, include: ["**/*.md"], secretRef: {name: git-auth}}
  - name: status
    memory: factual
    http: {urls: ["https://status.example.com/"]}
  - name: notes
    memory: episodic
    configMap: {name: notes}
  index:
    refresh: {interval: 10m}
    freshness: 30m
    maxDeletion: 20%
    chunking: {maxTokens: 256, overlapTokens: 0o40}
  suites:
  - {name: faq, retrieval: {data: {configMap: {name: faq, key: faq.jsonl}}}}
  gates:
  - {suite: faq, metric: recallAt5, floor: "0.80", maxRegression: "0.02"}
  releases: {historyLimit: 05, minAge: 168h}
  runs:
--- # a comment
apiVersion: v1
kind: ConfigMap
metadata: {name: faq, namespace: agents}
data:
  faq.jsonl: |
    {"question": "Who is on call?", "expected": [{"document": "oncall.md"}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes, namespace: agents}
data: {a.md: "A note."}
binaryData: {b.md: "QSBub3RlLg=="}
---
apiVersion: v1
kind: Secret
metadata: {name: git-auth, namespace: agents}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Namespace
metadata: {name: agents}
"#;

/// `GOOD` with one text replaced by another.
fn with(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} stands once");
    GOOD.replace(from, to)
}

fn good(text: &str) -> Manifests {
    load_str("pipeline.yaml", text).unwrap_or_else(|p| panic!("{:#?}", rendered(&p)))
}

fn bad(text: &str) -> Vec<String> {
    match load_str("pipeline.yaml", text) {
        Ok(_) => panic!("not refused: {text}"),
        Err(problems) => rendered(&problems),
    }
}

fn rendered(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
