//! `loci bench`, small: that it measures what it says. Its figures are in `docs/performance.md`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Site, decoder, loci, model, text};

fn bench(args: &[&str]) -> Value {
    let output = loci()
        .arg("bench")
        .args(args)
        .args(["-o", "json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn serving_is_measured_across_swaps() {
    let site = Site::new();
    let manifest = site.path("pipeline.yaml");
    let manifest = manifest.to_str().unwrap();
    let report = bench(&[
        "serve",
        manifest,
        "--rate",
        "20",
        "--seconds",
        "1",
        "--swaps",
        "2",
    ]);
    for load in ["atRest", "acrossSwaps"] {
        assert_eq!(report[load]["failed"], 0, "{report}");
        assert!(report[load]["queries"].as_u64().unwrap() >= 10, "{report}");
        assert!(report[load]["p99Ms"].as_f64() >= report[load]["p50Ms"].as_f64());
    }
    assert!(report["editToAnswer"].as_f64().unwrap() > 0.1, "{report}");
}

#[test]
fn a_refresh_is_measured_against_a_build() {
    let site = Site::new();
    for n in 0..12 {
        let paragraph = format!("Paragraph {n} says what number {n} is about. ").repeat(12);
        site.write(&format!("texts/{n}.txt"), &paragraph);
    }
    let (model, texts) = (model(), site.path("texts"));
    let (model, texts) = (model.to_str().unwrap(), texts.to_str().unwrap());
    let of = [
        "refresh",
        "--model",
        model,
        "--documents",
        texts,
        "--change",
        "1",
    ];
    let report = bench(&[&of[..], &["--count", "12", "--rounds", "1"]].concat());
    let steps: Vec<_> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s[0].clone())
        .collect();
    assert_eq!(steps, ["Snapshot", "Embed", "Assemble", "Evaluate"]);
    assert!(
        report["fullBuild"].as_f64().unwrap() > 0.0 && report["refresh"].as_f64().unwrap() > 0.0
    );

    let more = loci()
        .arg("bench")
        .args(of)
        .args(["--count", "13"])
        .output()
        .unwrap();
    let error = text(&more.stderr);
    assert!(
        !more.status.success() && error.contains("only 12 pieces"),
        "{error}"
    );
}

/// What measures a decoder: itself, real texts, and in place of Python a script that is our own side once more, so that it
/// does the same work. What it answers goes through `filter`.
fn beside_itself(site: &Site, filter: &str) -> Vec<String> {
    for file in 0..8 {
        let paragraph =
            |n: u32| format!("Paragraph {n} of {file} says what number {n} is about. ").repeat(14);
        let text = (0..8).map(paragraph).collect::<Vec<_>>().join("\n\n");
        site.write(&format!("texts/{file}.md"), &text);
    }
    let program = loci().get_program().to_str().unwrap().to_owned();
    let script = format!(
        "#!/bin/sh
shift 4 # -W ignore -c SCRIPT
if [ \"$1\" = convert ]; then echo '{{\"peer\": \"converter\"}}'; exit; fi
for task; do :; done
'{program}' bench side \"$task\" | {filter}
"
    );
    site.write("python", &script);
    let python = site.path("python");
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let of = [
        ("--model", decoder()),
        ("--documents", site.path("texts")),
        ("--python", python),
    ];
    let args = of
        .iter()
        .flat_map(|(name, path)| [*name, path.to_str().unwrap()]);
    let args = args.chain(["--rounds", "1"]);
    args.map(str::to_owned).collect()
}

#[test]
fn training_is_measured_on_the_same_steps() {
    let site = Site::new();
    let args = beside_itself(&site, "cat");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let few = ["train", "--chats", "1"];
    let report = bench(&[&few[..], &args[..]].concat());
    let figures = report.as_array().unwrap();
    assert_eq!(figures.len(), 2);
    assert_eq!(figures[1]["workload"], "4 texts of 128 tokens");
    assert_eq!(
        (&figures[1]["tokens"], &figures[1]["targets"]),
        (&512.into(), &508.into())
    );
    for figure in figures {
        let number = |value: &Value| value.as_f64().unwrap();
        assert!(number(&figure["lastLoss"]) < number(&figure["firstLoss"]));
        assert!(number(&figure["tokens"]) > number(&figure["targets"]));
        // The weights are 538 MB.
        assert!(number(&figure["lociResident"]) > 500e6, "{figure}");
        assert!(number(&figure["lociPeak"]) > number(&figure["lociResident"]));
        let peers = figure["peers"].as_array().unwrap();
        assert_eq!(peers.len(), 3);
        for peer in peers {
            assert!(number(&peer["lossDifference"]) < 1e-12, "{figure}");
            assert!((0.8..1.25).contains(&number(&peer["memory"])), "{figure}");
            assert!(number(&peer["ratio"]) > 0.0, "{figure}");
        }
    }
}

#[test]
fn a_model_is_scored_by_what_suites_ask() {
    let site = Site::new();
    let many = ["Yes.", "No.", "Maybe.", "Never."];
    let lines = [
        json!({"prompt": "Is 8 even?", "choices": ["Yes.", "No."], "answer": "Yes."}),
        json!({"prompt": "Is 9 even?", "choices": many, "answer": "No."}),
        json!({"prompt": "Is 9 even?", "reference": "No."}),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    site.write("cases.jsonl", &lines);
    let cases = site.path("cases.jsonl");
    let tiny = loci_testbed::root().join("models/tests/reference/decoder/tiny");
    let (tiny, cases) = (tiny.to_str().unwrap(), cases.to_str().unwrap());
    let report = bench(&["suites", "--model", tiny, "--suite", cases]);
    let figures = report["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 2, "{report}");
    let of = |metric: &str| figures.iter().find(|f| f["metric"] == metric).unwrap();
    let (right, likely) = (of("accuracy"), of("likelihood"));
    assert_eq!(
        (&right["cases"], &right["chance"]),
        (&json!(2), &json!(0.375))
    );
    assert_eq!(likely["cases"], 1);
    let mean = likely["mean"].as_f64().unwrap();
    assert!(mean > 0.0 && mean < 1.0, "{report}");
}

#[test]
fn a_peer_that_trains_otherwise_is_not_measured() {
    let site = Site::new();
    let args = beside_itself(&site, "sed -u 's/\"loss\":[0-9.]*/\"loss\":9.5/'");
    let output = loci()
        .args(["bench", "train", "--chats", "1"])
        .args(args)
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains("does other work: its loss at step 1 is 9.5"),
        "{error}"
    );
}

#[test]
fn generation_is_measured_on_the_same_prompts() {
    let site = Site::new();
    let args = beside_itself(&site, "cat");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let few = ["generate", "--prompts", "9,40", "--tokens", "6"];
    let report = bench(&[&few[..], &args[..]].concat());
    let figures = report.as_array().unwrap();
    assert_eq!(
        (&figures[0]["prompt"], &figures[1]["prompt"]),
        (&9.into(), &40.into())
    );
    for figure in figures {
        assert!(
            figure["loci"]["firstMs"].as_f64().unwrap() > 0.0,
            "{figure}"
        );
        let peers = figure["peers"].as_array().unwrap();
        assert_eq!(peers.len(), 2);
        for peer in peers {
            assert_eq!((&peer["same"], &peer["of"]), (&6.into(), &6.into()));
            assert!(peer["gap"].as_f64().unwrap() < 1e-3, "{figure}");
            assert!(peer["faster"]["median"].as_f64().unwrap() > 0.0, "{figure}");
        }
    }
}

#[test]
fn many_refreshes_are_measured_against_a_build() {
    let site = Site::new();
    for n in 0..12 {
        let paragraph = format!("Paragraph {n} says what number {n} is about. ").repeat(12);
        site.write(&format!("texts/{n}.txt"), &paragraph);
    }
    let texts = site.path("texts");
    let of = [
        &[
            "churn",
            "--documents",
            texts.to_str().unwrap(),
            "--texts",
            "12",
            "--count",
            "40",
        ][..],
        &["--change", "4", "--refreshes", "12", "--dimensions", "64"],
        &["--questions", "3", "--rounds", "1"],
    ]
    .concat();
    let report = bench(&of);
    assert_eq!(
        (
            &report["documents"],
            &report["changed"],
            &report["refreshes"]
        ),
        (&json!(40), &json!(4), &json!(12))
    );
    for figure in report["queries"].as_array().unwrap() {
        assert!(figure["times"].as_f64().unwrap() > 0.0, "{report}");
    }
    assert!(
        report["space"]["times"].as_f64().unwrap() >= 1.0,
        "{report}"
    );

    let output = loci()
        .arg("bench")
        .args(of)
        .args(["--larger", "0.1"])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("times as large, not 0.1"), "{error}");
}

#[test]
fn fusion_is_chosen_on_one_half_and_judged_on_the_other() {
    let site = Site::new();
    let articles = [
        (
            "Refunds",
            "Refunds are paid to the original card within five days.",
            "When is money paid back?",
        ),
        (
            "Shipping",
            "Parcels leave the warehouse every weekday at noon.",
            "When do parcels leave?",
        ),
        (
            "Passwords",
            "A forgotten password is reset on the sign-in page.",
            "How is a password reset?",
        ),
        (
            "Penguins",
            "Penguins are birds of the southern seas that cannot fly.",
            "Which birds cannot fly?",
        ),
    ];
    let data = articles.map(|(title, context, question)| {
        let asked = json!({"id": title, "question": question, "answers": []});
        json!({"title": title, "paragraphs": [{"context": context, "qas": [asked]}]})
    });
    site.write("squad.json", &json!({"data": data}).to_string());
    let (model, data) = (model(), site.path("squad.json"));
    let (model, data) = (model.to_str().unwrap(), data.to_str().unwrap());
    let report = bench(&["fusion", "--model", model, "--data", data]);
    // By their titles' digests two articles are of either half.
    assert_eq!(
        (
            &report["passages"],
            &report["chosenBy"],
            &report["judgedBy"]
        ),
        (&json!(4), &json!(2), &json!(2))
    );
    assert_eq!(report["tried"].as_array().unwrap().len(), 4);
    let names: Vec<_> = report["figures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|figure| figure["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["dense", "BM25", "hybrid, default", "hybrid, chosen"]
    );
    assert_eq!(report["figures"][3]["recallAt5"], 1.0, "{report}");

    let output = loci()
        .args(["bench", "fusion", "--model", model, "--data", data])
        .args(["--gain", "0.5"])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert!(
        !output.status.success() && error.contains("recall@1 is"),
        "{error}"
    );
}
