//! `loci bench`, small: that it measures what it says. Its figures are in `docs/performance.md`.

use serde_json::Value;

use crate::harness::{Site, loci, model, text};

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
