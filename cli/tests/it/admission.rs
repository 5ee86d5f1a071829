//! What an API server with Loci's policies says to a manifest, beside what `loci` says to the same file.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use loci_testbed::{ControlPlane, root};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::harness::{loci, text};

const GOOD: &str = r#"apiVersion: loci.dev/v1alpha1
kind: MemoryPipeline
metadata: {name: support}
spec:
  embedder: {model: "hf://org/tiny@main"}
  sources:
  - {name: handbook, memory: factual, git: {url: "https://git.example.com/handbook.git"}}
  - {name: tickets, memory: episodic, configMap: {name: tickets}}
  index: {refresh: {interval: 10m}, freshness: 30m}
  suites:
  - {name: faq, retrieval: {data: {configMap: {name: faq, key: faq.jsonl}}}}
  gates:
  - {suite: faq, metric: recallAt5, floor: "0.80"}
  serving: {latencyBudget: 60ms}
"#;

/// `GOOD` with each text replaced by another.
fn with(changes: &[(&str, &str)]) -> String {
    let change = |all: String, (from, to): &(&str, &str)| {
        assert_eq!(all.matches(from).count(), 1, "{from:?} stands once");
        all.replace(from, to)
    };
    changes.iter().fold(GOOD.to_owned(), change)
}

/// A namespace of an API server with definitions and policies, and a file.
struct Desk {
    plane: &'static ControlPlane,
    namespace: String,
    dir: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        let definitions: Vec<Value> = loci_crds::definitions()
            .iter()
            .map(|(_, d)| serde_json::to_value(d).unwrap())
            .collect();
        plane.install(&definitions).await.unwrap();
        let desk = Self {
            plane,
            namespace: plane.namespace("admission").await.unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        static POLICIES: OnceCell<()> = OnceCell::const_new();
        POLICIES.get_or_init(async || desk.install()).await;
        desk
    }

    fn install(&self) {
        let policies = root().join("crds/policies");
        let applied = self.kubectl(&["apply", "-f", policies.to_str().unwrap()]);
        assert!(applied.status.success(), "{}", text(&applied.stderr));
        // An API server reads its policies anew once a second.
        let started = Instant::now();
        while self.denied(&with(&[MODEL])).is_empty() || self.warnings(&with(UNJUDGED)).is_empty() {
            assert!(started.elapsed().as_secs() < 60, "the policies never count");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn kubectl(&self, args: &[&str]) -> Output {
        let kubectl = std::env::var("LOCI_TEST_KUBECTL")
            .expect("LOCI_TEST_KUBECTL names no kubectl: run `make test`");
        Command::new(kubectl)
            .args(["--namespace", &self.namespace])
            .args(args)
            .env("KUBECONFIG", self.plane.kubeconfig())
            .env("KUBECACHEDIR", self.dir.path().join("cache"))
            .output()
            .unwrap()
    }

    fn file(&self, manifest: &str) -> String {
        let path = self.dir.path().join("pipeline.yaml");
        std::fs::write(&path, manifest).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// What the API server says; nothing is stored.
    fn apply(&self, manifest: &str) -> Output {
        let file = self.file(manifest);
        self.kubectl(&["apply", "--dry-run=server", "-f", &file])
    }

    /// What is denied: (field, way out) of each fault.
    fn denied(&self, manifest: &str) -> BTreeSet<(String, String)> {
        let output = self.apply(manifest);
        let said = text(&output.stderr);
        let Some((_, faults)) = said.split_once(" denied request: ") else {
            assert!(output.status.success(), "{said}");
            return BTreeSet::new();
        };
        assert!(!output.status.success());
        faults.trim().split(". ").flat_map(faults_of).collect()
    }

    /// The same of `loci validate`.
    fn refused(&self, manifest: &str) -> BTreeSet<(String, String)> {
        let mut command = loci();
        command.args(["validate", "--target", "cluster", &self.file(manifest)]);
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        let lines = said
            .lines()
            .filter_map(|l| l.find(": spec.").map(|at| &l[at + 2..]));
        let faults: BTreeSet<_> = lines.flat_map(faults_of).collect();
        assert_eq!(output.status.success(), faults.is_empty(), "{said}");
        faults
    }

    /// What is warned of: (field, advice).
    fn warnings(&self, manifest: &str) -> BTreeSet<(String, String)> {
        let output = self.apply(manifest);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        let all = said.lines().map(|line| {
            line.strip_prefix("Warning: Validation failed for ValidatingAdmissionPolicy 'loci-advice' with binding 'loci-advice': ")
                .unwrap_or_else(|| panic!("what is this? {line}"))
        });
        all.flat_map(|advice| fields_of(advice, ": ")).collect()
    }

    /// The same of `loci advise`.
    fn advised(&self, manifest: &str) -> BTreeSet<(String, String)> {
        let mut command = loci();
        command.args(["advise", "-o", "json", &self.file(manifest)]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let advice = said[0]["advice"].as_array().unwrap().iter();
        let warnings = advice.filter(|a| a["level"] == "Warning");
        let part = |a: &Value, key: &str| a[key].as_str().unwrap().to_owned();
        warnings
            .map(|a| (part(a, "field"), part(a, "text")))
            .collect()
    }
}

fn faults_of(text: &str) -> Vec<(String, String)> {
    fields_of(
        text,
        ": a path of one machine, which a cluster cannot read; ",
    )
}

/// `spec.a, spec.b: text` as two.
fn fields_of(text: &str, between: &str) -> Vec<(String, String)> {
    let (fields, text) = text.split_once(between).unwrap_or_else(|| panic!("{text}"));
    let each = fields.split(", ");
    each.map(|field| (field.to_owned(), text.to_owned()))
        .collect()
}

const UNJUDGED: &[(&str, &str)] = &[(
    "  gates:\n  - {suite: faq, metric: recallAt5, floor: \"0.80\"}\n",
    "",
)];

/// An adapter, and what it is trained on.
const TRAINED: (&str, &str) = (
    "  index: {",
    "  - {name: runs, memory: procedural, configMap: {name: runs}}
  adapters:
  - {name: tone, base: \"hf://org/base@main\", sources: [runs]}
  index: {",
);
/// Nothing stands in for a gate on what it must not forget.
const BARE: (&str, &str) = ("sources: [runs]}", "sources: [runs], guard: none}");
/// What it must not forget.
const GUARDED: (&str, &str) = (
    "  gates:",
    "  - {name: sums, behavior: {builtin: arithmetic}}
  gates:
  - {suite: sums, metric: accuracy, maxRegression: \"0.03\"}",
);
/// A gate on its answers' form in place of those on retrieval.
const FORMED: (&str, &str) = (
    "  gates:\n  - {suite: faq, metric: recallAt5, floor: \"0.80\"}\n",
    "  - {name: form, behavior: {data: {configMap: {name: form, key: form.jsonl}}}}
  gates:
  - {suite: form, metric: schemaValid, maxRegression: \"0.05\"}
",
);

/// A cross-encoder of this machine.
const CROSS: (&str, &str) = (
    "  index: {",
    "  retrieval: {rerank: {method: crossEncoder, model: \"file://cross\"}}
  index: {",
);

const BASE: (&str, &str) = ("hf://org/base@main", "file://base");
const CASES: (&str, &str) = (
    "configMap: {name: form, key: form.jsonl}",
    "file: form.jsonl",
);
const MODEL: (&str, &str) = ("hf://org/tiny@main", "file://model");
const CLONE: (&str, &str) = ("https://git.example.com", "file:///srv");
const FOLDER: (&str, &str) = ("configMap: {name: tickets}", "directory: {path: tickets}");
const SUITE: (&str, &str) = ("configMap: {name: faq, key: faq.jsonl}", "file: faq.jsonl");

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_one_machine_are_denied_just_as_validate_names_them() {
    let desk = Desk::new().await;
    let all = &[MODEL, CLONE, FOLDER, SUITE][..];
    for (changes, faults) in [
        (&[][..], 0),
        (&[MODEL], 1),
        (&[CLONE], 1),
        (&[FOLDER], 1),
        (&[SUITE], 1),
        (&[CROSS], 1),
        (all, 4),
        (&[TRAINED, FORMED], 0),
        (&[TRAINED, BASE], 1),
        (&[TRAINED, FORMED, CASES], 1),
        (&[TRAINED, FORMED, CASES, BASE], 2),
    ] {
        let manifest = with(changes);
        let denied = desk.denied(&manifest);
        assert_eq!(denied.len(), faults, "{denied:?}");
        assert_eq!(denied, desk.refused(&manifest), "{manifest}");
    }
    let tuned = desk.denied(&with(&[TRAINED, FORMED, CASES, BASE]));
    let denied = &desk.denied(&with(all)) | &tuned;
    let denied = &denied | &desk.denied(&with(&[CROSS]));
    for (field, way_out) in [
        ("spec.embedder.model", "use hf://org/name@revision"),
        ("spec.sources[0].git.url", "use an https:// URL"),
        (
            "spec.sources[1].directory",
            "use git, http, bucket or configMap",
        ),
        ("spec.suites[0].retrieval.data.file", "use configMap"),
        ("spec.adapters[0].base", "use hf://org/name@revision"),
        ("spec.retrieval.rerank.model", "use hf://org/name@revision"),
        ("spec.suites[1].behavior.data.file", "use configMap"),
    ] {
        let fault = (field.to_owned(), way_out.to_owned());
        assert!(denied.contains(&fault), "{denied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsound_placement_is_warned_of_in_the_words_of_advise() {
    let desk = Desk::new().await;
    let second =
        "  - {name: spare, retrieval: {data: {configMap: {name: faq, key: faq.jsonl}}}}\n  gates:";
    for (changes, warnings) in [
        (&[][..], 0),
        // No gate at all, and so none for the suite.
        (UNJUDGED, 2),
        (&[("  gates:", second)], 1),
        (&[("interval: 10m", "interval: 45m")], 1),
        (&[("interval: 10m", "interval: 90m")], 1),
        (&[("interval: 10m", "interval: 2h")], 1),
        (&[("interval: 10m", "interval: 3600.5s")], 1),
        (&[("{interval: 10m}", "{cron: \"0 3 * * *\"}")], 0),
        (&[("freshness: 30m", "freshness: 9m59s")], 1),
        (&[("latencyBudget: 60ms", "latencyBudget: 9ms")], 1),
        (&[("  serving: {latencyBudget: 60ms}\n", "")], 0),
        (
            &[("  index: {refresh: {interval: 10m}, freshness: 30m}\n", "")],
            0,
        ),
        (&[("name: handbook,", "name: it-runbooks,")], 1),
        (&[TRAINED], 0),
        (&[TRAINED, BARE], 1),
        (&[TRAINED, BARE, GUARDED], 0),
        // What judges an adapter judges no index, and leaves the suite of one without a gate.
        (&[TRAINED, FORMED], 2),
        (&[("interval: 10m}, freshness: 30m", "interval: 25h}")], 1),
        (
            &[
                (
                    "interval: 10m}, freshness: 30m",
                    "interval: 48h}, freshness: 5m",
                ),
                (
                    "name: handbook, memory: factual",
                    "name: sops, memory: episodic",
                ),
                ("60ms", "1ms"),
                UNJUDGED[0],
            ],
            7,
        ),
    ] {
        let manifest = with(changes);
        let warned = desk.warnings(&manifest);
        assert_eq!(warned, desk.advised(&manifest), "{manifest}");
        assert_eq!(warned.len(), warnings, "{warned:?}");
    }
}
