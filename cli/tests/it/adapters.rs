//! The life of an adapter: trained on what runbooks say, judged beside its base, released, answering chats, rolled back.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::{Site, best, get, loci, post, text};

/// Examples that are worth a training.
const FEW: &str = "    minExamples: 8\n";

/// What is right of these numbers, as examples or as cases.
pub fn lines(numbers: std::ops::Range<usize>, answer: &str) -> String {
    let line = |n: usize| {
        let right = if n.is_multiple_of(2) { "Yes." } else { "No." };
        json!({"prompt": format!("Is {n} even?"), answer: right}).to_string() + "\n"
    };
    numbers.map(line).collect()
}

/// A site whose pipeline has an adapter of a small decoder of random weights, declared with `more`.
fn site(more: &str) -> Site {
    let site = Site::new();
    let base = loci_testbed::root().join("models/tests/reference/decoder/tiny");
    symlink(base, site.path("base")).unwrap();
    site.write("cases.jsonl", &lines(100..140, "reference"));
    site.write("runbooks/even.jsonl", &lines(0..40, "response"));
    site.write("pipeline.yaml", &manifest(&site, more));
    site
}

fn manifest(site: &Site, more: &str) -> String {
    let adapter = format!(
        "  adapters:
  - name: escalation
    base: file://base
    guard: none
    sources: [runbooks]
    lora: {{rank: 8, alpha: 16, targetModules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]}}
    training: {{epochs: 20, learningRate: \"1e-2\"}}
{more}"
    );
    let floor = "floor: \"0.60\"}\n";
    let gate = "  - {suite: even, metric: likelihood, minGain: \"0.10\"}\n";
    site.manifest(&adapter)
        .replace(
            "  index:",
            "  - {name: runbooks, memory: procedural, directory: {path: runbooks}}\n  index:",
        )
        .replace(
            "  gates:",
            "  - {name: even, behavior: {data: {file: cases.jsonl}}}\n  gates:",
        )
        .replace(floor, &format!("{floor}{gate}"))
}

/// A short answer, always by the likeliest token.
pub fn chat(url: &str, model: &str) -> Option<(u16, Value)> {
    let messages = json!([{"role": "user", "content": "Is 8 even?"}]);
    let body = json!({
        "model": model, "messages": messages, "max_tokens": 8, "temperature": 0, "k": 0,
    });
    post(&format!("{url}/v1/chat/completions"), &body)
}

/// The name under which the adapter of this release, and no other, answers.
fn pinned(site: &Site, number: i64) -> String {
    let releases = site.json(&["releases"]);
    let mut releases = releases.as_array().unwrap().iter();
    let release = releases.find(|r| r["spec"]["number"] == number).unwrap();
    let adapter = &release["spec"]["adapters"][0];
    assert_eq!(adapter["name"], "escalation", "{release}");
    let digest = adapter["adapter"].as_str().unwrap();
    let digest = digest.strip_prefix("sha256:").unwrap();
    format!("default/shop:escalation@sha256-{}", &digest[..12])
}

#[test]
fn a_runbook_changes_and_the_adapter_follows_until_it_is_rolled_back() {
    let site = site(FEW);
    let mut up = site.up();
    let url = up.ready();
    let (status, refused) = chat(&url, "shop:escalation").unwrap();
    assert_eq!((status, site.serving()), (404, Some(1)), "{refused}");
    assert!(!site.run(&["tune", "tone"]).status.success());

    assert!(site.run(&["tune"]).status.success());
    let (_, answer) = up.until("the adapter answers", |_| {
        chat(&url, "shop:escalation").filter(|(status, _)| *status == 200)
    });
    let first = pinned(&site, 2);
    assert_eq!(
        (&answer["release"], &answer["model"]),
        (&json!("shop-2"), &json!(first)),
        "{answer}"
    );
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(["Yes.", "No."].contains(&said), "{answer}");
    let models = get(&format!("{url}/v1/models")).unwrap().1.to_string();
    assert!(models.contains(&first), "{models}");
    let release = &site.json(&["releases", "show", "2"]);
    let gates = release["status"]["verdict"]["gates"].as_array().unwrap();
    let gate = gates.iter().find(|g| g["suite"] == "even").unwrap();
    assert_eq!(
        (&gate["outcome"], &gate["questions"]),
        (&json!("Passed"), &json!(40))
    );
    assert!(gate["base"].is_string(), "{gate}");
    let shown = text(&site.run(&["releases", "show", "2"]).stdout);
    for part in [
        "adapter escalation",
        "new in this release",
        "likelihood",
        gate["base"].as_str().unwrap(),
        gate["candidate"].as_str().unwrap(),
    ] {
        assert!(shown.contains(part), "\"{part}\" is not in: {shown}");
    }

    // A refresh of the index keeps the adapter, and asks nobody about it.
    site.write(
        "docs/rain.md",
        "# Rain\n\nUse wax instead of oil in the rain.\n",
    );
    up.until("the edit is seen", |_| {
        best(&url, "What to use in the rain?")?
            .1
            .contains("wax")
            .then_some(())
    });
    assert_eq!(pinned(&site, 3), first);
    let told = site.json(&["releases", "show", "3"]);
    let gates = told["status"]["verdict"]["gates"].as_array().unwrap();
    let gate = gates.iter().find(|g| g["suite"] == "even").unwrap();
    assert_eq!(gate["outcome"], "NotApplicable", "{gate}");

    site.write("runbooks/more.jsonl", &lines(40..60, "response"));
    assert!(site.run(&["tune", "escalation"]).status.success());
    up.until("another adapter serves", |_| {
        (site.serving() == Some(4)).then_some(())
    });
    let second = pinned(&site, 4);
    assert_ne!(second, first);
    assert_eq!(chat(&url, &first).unwrap().0, 404);
    assert_eq!(chat(&url, &second).unwrap().0, 200);

    assert!(site.run(&["rollback", "3"]).status.success());
    up.until("the first adapter serves again", |_| {
        chat(&url, &first).filter(|(status, _)| *status == 200)
    });
    up.until("its release says so", |_| {
        (site.serving() == Some(3)).then_some(())
    });
    up.stop();

    // Started again, it serves what it served, and trains nothing.
    let mut up = site.up();
    let url = up.ready();
    let (status, answer) = chat(&url, "shop:escalation").unwrap();
    assert_eq!((status, &answer["model"]), (200, &json!(first)), "{answer}");
    assert!(site.run(&["resume"]).status.success());
    up.until("the second adapter returns", |_| {
        chat(&url, &second).filter(|(status, _)| *status == 200)
    });
    let trained = |run: &&Value| run["spec"]["kind"] == "FineTune";
    let runs = site.json(&["runs"]);
    assert_eq!(runs.as_array().unwrap().iter().filter(trained).count(), 2);
    up.stop();
}

#[test]
fn too_few_examples_are_told_and_train_nothing() {
    let site = site("    trigger: {newExamples: 1}\n    minExamples: 100\n");
    let mut up = site.up();
    up.ready();
    let run = up.until("a run has collected", |_| {
        let runs = site.json(&["runs"]);
        let mut runs = runs.as_array()?.iter();
        let run = runs.find(|r| r["spec"]["kind"] == "FineTune")?;
        (run["status"]["phase"] == "Succeeded").then(|| run.clone())
    });
    assert_eq!(run["spec"]["trigger"], "NewExamples", "{run}");
    assert_eq!(run["status"]["reason"], "NotEnoughSignal", "{run}");
    assert!(run["status"]["release"].is_null(), "{run}");
    let steps = run["status"]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{run}");
    assert_eq!(site.serving(), Some(1));
    assert_eq!(site.json(&["releases"]).as_array().unwrap().len(), 1);
    up.stop();
}

/// The newest fine-tune, when it is in this phase.
fn tuned(site: &Site, phase: &str) -> Option<Value> {
    let runs = site.json(&["runs"]);
    let mut runs = runs.as_array()?.iter();
    let run = runs.find(|r| r["spec"]["kind"] == "FineTune")?;
    (run["status"]["phase"] == phase).then(|| run.clone())
}

#[test]
fn a_training_stops_at_its_budget_and_what_it_costs_is_told() {
    // A second costs 1.
    let paid = |per_run: &str| {
        let prices = "prices: [{class: cpu, deviceHour: \"3600\"}]";
        let limits = format!("perRun: \"{per_run}\", perMonth: \"1000\"");
        format!("{FEW}  budget: {{currency: EUR, {limits}, {prices}}}\n")
    };
    let site = site(&paid("0.50"));
    let mut up = site.up();
    let url = up.ready();
    assert!(site.run(&["tune"]).status.success());
    let run = up.until("the run fails", |_| tuned(&site, "Failed"));
    assert_eq!(run["status"]["reason"], "BudgetExceeded", "{run}");
    let told = run["status"]["message"].as_str().unwrap();
    assert!(
        told.contains("after step 0 of") && told.contains("of the 0.50 EUR"),
        "{told}"
    );
    assert_eq!(chat(&url, "shop:escalation").unwrap().0, 404);
    up.stop();

    site.write("pipeline.yaml", &manifest(&site, &paid("900")));
    let mut up = site.up();
    up.ready();
    assert!(site.run(&["tune"]).status.success());
    let run = up.until("the adapter is trained", |_| tuned(&site, "Succeeded"));
    let cost = &run["status"]["cost"];
    assert!(cost["deviceSeconds"].as_i64().unwrap() > 0, "{run}");
    assert_eq!(cost["money"]["limit"], "900.00", "{run}");
    let spent = &cost["money"]["amount"];
    up.until("the month's sum has it", |_| {
        let status = site.json(&["status"]);
        (status["pipeline"]["status"]["cost"]["spent"] == *spent).then_some(())
    });
    let told = |args: &[&str]| text(&site.run(args).stdout);
    let status = told(&["status"]);
    assert!(
        status.contains("EUR of 1000 for training, at most 900 a run"),
        "{status}"
    );
    let name = run["metadata"]["name"].as_str().unwrap();
    for told in [
        told(&["runs"]),
        told(&["runs", name]),
        told(&["releases", "show", "2"]),
    ] {
        assert!(told.contains("EUR"), "{told}");
    }
    up.stop();
}

#[test]
fn an_adapter_that_gains_too_little_is_rejected_and_the_index_gets_further() {
    let site = site(FEW);
    let demanding = manifest(&site, FEW).replace("minGain: \"0.10\"", "minGain: \"1\"");
    site.write("pipeline.yaml", &demanding);
    let mut up = site.up();
    let url = up.ready();
    assert!(site.run(&["tune"]).status.success());
    let rejected = up.until("the adapter is judged", |_| {
        let releases = site.json(&["releases"]);
        let mut releases = releases.as_array()?.iter();
        releases
            .find(|r| r["spec"]["adapter"] == "escalation")
            .cloned()
    });
    let outcome = &rejected["status"]["verdict"]["outcome"];
    assert!(["Failed", "Inconclusive"].contains(&outcome.as_str().unwrap()));
    assert_eq!(site.serving(), Some(1));
    assert_eq!(chat(&url, "shop:escalation").unwrap().0, 404);
    site.write(
        "docs/rain.md",
        "# Rain\n\nUse wax instead of oil in the rain.\n",
    );
    up.until("the index gets further", |_| {
        (site.serving() == Some(3)).then_some(())
    });
    up.stop();
}

#[test]
fn the_example_can_be_declared_on_a_machine_and_its_paths_not_in_a_cluster() {
    let example = loci_testbed::root().join("examples/escalation/pipeline.yaml");
    let validate = |more: &[&str]| {
        let mut command = loci();
        command.arg("validate").args(more).arg(&example);
        command.output().unwrap()
    };
    let output = validate(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(
        told.contains("tickets") && told.contains("arithmetic"),
        "{told}"
    );
    let output = validate(&["--target", "cluster"]);
    let refused = text(&output.stderr);
    assert!(
        !output.status.success() && refused.contains("spec.adapters[0].base"),
        "{refused}"
    );
}
