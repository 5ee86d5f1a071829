//! What an adapter forgets: one that is trained harder than is good for it does well on its target, and is rejected.

use std::ops::ControlFlow;
use std::os::unix::fs::symlink;

use loci_models::{Decoder, DeviceRequest};
use loci_worker::behavior;
use serde_json::{Value, json};

use crate::adapters::{chat, lines};
use crate::harness::{Site, text};

/// The learning rates: of these the second is ten times the first, and nothing else is changed.
const GENTLE: &str = "5e-4";
const AGGRESSIVE: &str = "5e-3";

const WORDS: [&str; 16] = [
    "red", "blue", "green", "grey", "black", "white", "pink", "brown", "cyan", "gold", "lime",
    "navy", "rose", "ruby", "sand", "teal",
];

/// What the base has always answered: a model of random weights has no other abilities to lose.
fn kept(base: &Decoder) -> String {
    let word = |n: usize| WORDS[n % WORDS.len()];
    let case = |n: usize| {
        let prompt = format!("{} and {} {n}: what next?", word(n), word(n / 16 + 3 * n));
        let apart = [1, 3, 5, 7][n / 7 % 4];
        let choices = [0, 1, 2, 3].map(|k| word(5 * n + k * apart));
        json!({"prompt": prompt, "choices": choices, "answer": choices[0]})
    };
    let mut cases: Vec<Value> = (0..300).map(case).collect();
    let written = |cases: &[Value]| -> String { cases.iter().map(|c| format!("{c}\n")).collect() };
    let read = behavior::cases("kept", &written(&cases)).unwrap();
    let mut go_on = |_: usize| ControlFlow::<()>::Continue(());
    let records = behavior::ask(base, None, &read, &mut go_on).unwrap();
    for (case, record) in cases.iter_mut().zip(records) {
        let liked = record.chosen.unwrap_or_default();
        case["answer"] = case["choices"][liked].clone();
    }
    written(&cases)
}

/// Both are judged by what they learn and by what they forget.
fn manifest(site: &Site, learning_rate: &str) -> String {
    let adapter = format!(
        "  adapters:
  - name: escalation
    base: file://base
    sources: [runbooks]
    minExamples: 8
    lora: {{rank: 8, alpha: 16, targetModules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]}}
    training: {{epochs: 30, learningRate: \"{learning_rate}\"}}
"
    );
    let floor = "floor: \"0.60\"}\n";
    let gates = "  - {suite: even, metric: likelihood, minGain: \"0.02\"}
  - {suite: kept, metric: accuracy, maxRegression: \"0.23\"}\n";
    site.manifest(&adapter)
        .replace(
            "  index:",
            "  - {name: runbooks, memory: procedural, directory: {path: runbooks}}\n  index:",
        )
        .replace(
            "  gates:",
            "  - {name: even, behavior: {data: {file: even.jsonl}}}
  - {name: kept, behavior: {data: {file: kept.jsonl}}}
  gates:",
        )
        .replace(floor, &format!("{floor}{gates}"))
}

/// The release of this number, once it is judged.
fn judged(site: &Site, number: i64) -> Option<Value> {
    let releases = site.json(&["releases"]);
    let mut releases = releases.as_array()?.iter();
    let release = releases.find(|r| r["spec"]["number"] == number)?;
    let verdict = release["status"]["verdict"].is_object();
    verdict.then(|| release.clone())
}

/// What a release's gate on this suite says.
fn gate<'a>(release: &'a Value, suite: &str) -> &'a Value {
    let gates = release["status"]["verdict"]["gates"].as_array().unwrap();
    gates.iter().find(|g| g["suite"] == suite).unwrap()
}

fn mean(gate: &Value, whose: &str) -> f64 {
    let mean = gate[whose].as_str();
    mean.unwrap_or_else(|| panic!("no {whose}: {gate}"))
        .parse()
        .unwrap()
}

#[test]
fn an_aggressive_training_is_rejected_for_what_it_forgot_and_a_gentle_one_serves() {
    let site = Site::new();
    let base = loci_testbed::root().join("models/tests/reference/decoder/tiny");
    let decoder = Decoder::load(&base, DeviceRequest::Cpu).unwrap();
    site.write("kept.jsonl", &kept(&decoder));
    site.write("even.jsonl", &lines(100..300, "reference"));
    site.write("runbooks/even.jsonl", &lines(0..40, "response"));
    symlink(base, site.path("base")).unwrap();
    site.write("pipeline.yaml", &manifest(&site, AGGRESSIVE));
    let mut up = site.up();
    let url = up.ready();
    assert!(site.run(&["tune"]).status.success());
    let rejected = up.until("the aggressive one is judged", |_| judged(&site, 2));
    let (target, guard) = (gate(&rejected, "even"), gate(&rejected, "kept"));
    assert_eq!(target["outcome"], "Passed", "{target}");
    let learned = mean(target, "candidate");
    assert!(learned > mean(target, "base") + 0.3, "{target}");
    assert_eq!(guard["outcome"], "Failed", "{guard}");
    assert!(mean(guard, "serving") > 0.99, "{guard}");
    assert!(mean(guard, "candidate") < 0.77, "{guard}");
    assert_eq!(rejected["status"]["verdict"]["outcome"], "Failed");
    up.until("it is rejected", |_| {
        (judged(&site, 2)?["status"]["phase"] == "Rejected").then_some(())
    });
    // What serves is what served.
    assert_eq!(site.serving(), Some(1));
    assert_eq!(chat(&url, "shop:escalation").unwrap().0, 404);
    let shown = text(&site.run(&["releases", "show", "2"]).stdout);
    for part in [
        "kept",
        "accuracy",
        "Failed",
        guard["serving"].as_str().unwrap(),
        guard["candidate"].as_str().unwrap(),
        "beyond",
    ] {
        assert!(shown.contains(part), "\"{part}\" is not in: {shown}");
    }
    up.stop();

    site.write("pipeline.yaml", &manifest(&site, GENTLE));
    let mut up = site.up();
    let url = up.ready();
    assert!(site.run(&["tune"]).status.success());
    let gentle = up.until("the gentle one is judged", |_| judged(&site, 3));
    let (target, guard) = (gate(&gentle, "even"), gate(&gentle, "kept"));
    assert_eq!(
        (&target["outcome"], &guard["outcome"]),
        (&json!("Passed"), &json!("Passed")),
        "{target}\n{guard}"
    );
    assert!(mean(target, "candidate") < learned, "{target}");
    up.until("it serves", |_| (site.serving() == Some(3)).then_some(()));
    assert_eq!(chat(&url, "shop:escalation").unwrap().0, 200);
    up.stop();
}
