//! The life of a pipeline: built, judged, served, refreshed, rejected, rolled back, held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Site, best, get, model, retrieve, text};

#[test]
fn an_edit_is_seen_in_answers_without_a_failed_query() {
    let site = Site::new();
    let mut up = site.up();
    let url = up.ready();
    assert_eq!(
        best(&url, "When does the workshop open?").unwrap().0,
        "hours.md"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let load = std::thread::spawn({
        let (stop, asked, url) = (stop.clone(), asked.clone(), url.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let (status, answer) =
                    retrieve(&url, &json!({"query": "opening hours", "k": 2})).expect("no answer");
                assert_eq!(status, 200, "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    site.write(
        "docs/hours.md",
        "# Opening hours\n\nThe workshop opens at seven on Saturdays only.\n",
    );
    up.until("the edit is seen", |_| {
        best(&url, "When does the workshop open?")?
            .1
            .contains("seven")
            .then_some(())
    });
    site.write(
        "docs/parking.md",
        "# Parking\n\nCargo trikes are parked behind the greenhouse.\n",
    );
    up.until("a new file is seen", |_| {
        (best(&url, "Where are trikes parked?")?.0 == "parking.md").then_some(())
    });
    std::fs::rename(site.path("docs/parking.md"), site.path("docs/trikes.md")).unwrap();
    up.until("a rename is seen", |_| {
        (best(&url, "Where are trikes parked?")?.0 == "trikes.md").then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    load.join().expect("a query failed");
    assert!(asked.load(Ordering::Relaxed) > 5);
    let citation = retrieve(&url, &json!({"query": "trikes", "k": 1}))
        .unwrap()
        .1["passages"][0]["citation"]
        .clone();
    let file = std::fs::read(site.path("docs/trikes.md")).unwrap();
    let span = (
        citation["span"][0].as_u64().unwrap() as usize,
        citation["span"][1].as_u64().unwrap() as usize,
    );
    assert!(
        text(&file[span.0..span.1]).contains("greenhouse"),
        "{citation}"
    );
    up.stop();
}

#[test]
fn a_worse_candidate_is_rejected_and_the_serving_release_stays() {
    let site = Site::new();
    let mut up = site.up();
    let url = up.ready();
    for name in ["returns", "hours", "warranty"] {
        site.write(
            &format!("docs/{name}.md"),
            "# Nothing\n\nThis page says nothing of use to anyone at all.\n",
        );
    }
    let rejected = up.until("the candidate is rejected", |_| {
        let releases = site.json(&["releases"]);
        releases
            .as_array()?
            .iter()
            .find(|r| r["status"]["phase"] == "Rejected")
            .cloned()
    });
    assert_eq!(
        rejected["status"]["verdict"]["outcome"], "Failed",
        "{rejected}"
    );
    assert_eq!(site.serving(), Some(1));
    assert!(
        best(&url, "How long is the warranty of the battery?")
            .unwrap()
            .1
            .contains("five years")
    );
    let shown = text(&site.run(&["releases", "show", "2"]).stdout);
    assert!(
        shown.contains("recallAt1") && shown.contains("Failed"),
        "{shown}"
    );
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(
        site.json(&["releases"]).as_array().unwrap().len(),
        2,
        "the same content was judged again"
    );
    up.stop();
}

#[test]
fn rollback_holds_the_older_release_until_resume() {
    let site = Site::new();
    let mut up = site.up();
    let url = up.ready();
    assert!(
        !site.run(&["rollback"]).status.success(),
        "there is nothing to go back to yet"
    );
    site.write(
        "docs/hours.md",
        "# Opening hours\n\nThe workshop opens at seven.\n",
    );
    up.until("release 2 serves", |_| {
        (site.serving() == Some(2)).then_some(())
    });
    assert!(site.run(&["rollback"]).status.success());
    up.until("release 1 serves again", |_| {
        best(&url, "When does the workshop open?")?
            .1
            .contains("nine")
            .then_some(())
    });
    site.write(
        "docs/rain.md",
        "# Rain\n\nUse wax instead of oil in the rain.\n",
    );
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(site.serving(), Some(1), "a rollback holds");
    assert!(site.run(&["resume"]).status.success());
    up.until("the newest content serves", |_| {
        let oil = best(&url, "What to use in the rain?")?.1;
        let hours = best(&url, "When does the workshop open?")?.1;
        (oil.contains("wax") && hours.contains("seven")).then_some(())
    });
    up.stop();
}

#[test]
fn a_shrunken_listing_is_held_until_it_is_approved() {
    let site = Site::new();
    let mut up = site.up();
    let url = up.ready();
    std::fs::remove_file(site.path("docs/rain.md")).unwrap();
    std::fs::remove_file(site.path("docs/keys.md")).unwrap();
    let held = up.until("the run is held", |_| {
        let runs = site.json(&["runs"]);
        runs.as_array()?
            .iter()
            .find(|r| r["status"]["phase"] == "Held")
            .cloned()
    });
    assert!(
        held["status"]["message"].as_str().unwrap().contains("docs"),
        "{held}"
    );
    assert_eq!(
        best(&url, "What does a lost key cost?").unwrap().0,
        "keys.md",
        "it still serves what it had"
    );
    assert!(site.run(&["approve"]).status.success());
    up.until("the deletion is served", |_| {
        (best(&url, "What does a lost key cost?")?.0 != "keys.md").then_some(())
    });
    up.stop();
}

#[test]
fn the_quickstart_is_built_judged_and_served() {
    let site = Site::new();
    let example = loci_testbed::root().join("examples/local");
    crate::harness::copy(&example, &site.path(""));
    std::os::unix::fs::symlink(model(), site.path("model")).unwrap();
    let mut up = site.up();
    let url = up.ready();
    let releases = site.json(&["releases"]);
    let verdict = &releases[0]["status"]["verdict"];
    assert!(
        ["Passed", "NotApplicable"].contains(&verdict["outcome"].as_str().unwrap()),
        "{verdict}"
    );
    for gate in verdict["gates"].as_array().unwrap() {
        assert!(
            gate["candidate"].as_str().unwrap().parse::<f64>().unwrap() > 0.6,
            "{gate}"
        );
        assert!(gate["questions"].as_u64().unwrap() >= 80, "{gate}");
    }
    let query = loci_query(&site, &url, "What does a rental deposit cost?");
    assert!(
        query.contains("handbook/") || query.contains(".md"),
        "{query}"
    );
    let advice = text(
        &site
            .run(&["advise", site.path("pipeline.yaml").to_str().unwrap()])
            .stdout,
    );
    assert!(advice.contains("quickstart"), "{advice}");
    let metrics = get(&format!("{url}/metrics")).unwrap().1;
    assert!(metrics.as_str().unwrap().contains("loci_"), "{metrics}");
    up.stop();
}

fn loci_query(site: &Site, url: &str, question: &str) -> String {
    let output = site.run(&["query", question, "--url", url]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}
