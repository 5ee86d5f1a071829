//! Documents by API, as clients send them: found in seconds, kept through crashes, refused with a reason.

mod refused;

use std::process::Command;
use std::time::{Duration, Instant};

use loci_testbed::documents::pdf;
use serde_json::{Value, json};

use crate::harness::{Site, best, curl, get, loci, post, retrieve, text};

/// A site with a push source beside its directory.
fn site(push: &str) -> Site {
    let site = Site::new();
    let manifest = site.manifest("").replace(
        "  index: {refresh: {interval: 2s}}",
        &format!(
            "  - {{name: notes, memory: episodic, push: {push}}}\n  index: {{refresh: {{interval: 1h}}}}"
        ),
    );
    site.write("pipeline.yaml", &manifest);
    site
}

fn send(method: &str, url: &str, headers: &[&str], body: &str) -> (u16, Value) {
    let mut args = vec!["-X", method, "--path-as-is"];
    for header in headers {
        args.extend(["-H", header]);
    }
    if method != "DELETE" {
        args.extend(["--data-binary", body]);
    }
    args.push(url);
    curl(&args).expect("no answer")
}

fn put(url: &str, id: &str, body: &str) -> (u16, Value) {
    let url = format!("{url}/v1/documents/notes/{id}");
    send("PUT", &url, &["content-type: text/markdown"], body)
}

fn delete(url: &str, id: &str) -> (u16, Value) {
    send("DELETE", &format!("{url}/v1/documents/notes/{id}"), &[], "")
}

fn state(url: &str, id: &str) -> (u16, Value) {
    get(&format!("{url}/v1/documents/notes/{id}")).expect("no answer")
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    let code = answer.1["error"]["code"].as_str();
    (answer.0, code.unwrap_or_default())
}

/// The documents among the best five for a question.
fn found(url: &str, question: &str) -> Vec<String> {
    let (status, answer) = retrieve(url, &json!({"query": question, "k": 5})).expect("no answer");
    assert_eq!(status, 200, "{answer}");
    let passages = answer["passages"].as_array().unwrap().iter();
    let document = |p: &Value| p["citation"]["document"].as_str().unwrap().to_owned();
    passages.map(document).collect()
}

#[test]
fn what_is_put_is_found_in_seconds_and_what_is_deleted_is_gone() {
    let site = site("{}");
    let mut up = site.up();
    let url = up.ready();
    let started = Instant::now();
    let answer = put(
        &url,
        "tickets/17.md",
        "# Ticket 17\n\nThe unicycle of Mrs Okafor squeaks at dawn.\n",
    );
    assert_eq!((answer.0, &answer.1["changed"]), (201, &json!(true)));
    let version = answer.1["version"].as_str().unwrap().to_owned();
    assert!(version.starts_with("sha256:"), "{version}");
    up.until("it is found", |_| {
        (best(&url, "What is wrong with the unicycle?")?.0 == "tickets/17.md").then_some(())
    });
    // The schedule would look in an hour.
    assert!(started.elapsed() < Duration::from_secs(30));
    let served = up.until("it is told so", |_| {
        let (_, answer) = state(&url, "tickets/17.md");
        (answer["state"] == "served").then_some(answer)
    });
    assert_eq!(
        (&served["version"], &served["served"]),
        (&json!(version), &json!(version))
    );
    assert_eq!(served["release"], "shop-2", "{served}");
    let query = json!({"query": "unicycle", "k": 1, "filters": {"source": "notes"}});
    let passage = retrieve(&url, &query).unwrap().1["passages"][0].clone();
    assert_eq!(passage["citation"]["version"], json!(version), "{passage}");

    // Once more is no change, and no run.
    let again = put(
        &url,
        "tickets%2F17.md",
        "# Ticket 17\n\nThe unicycle of Mrs Okafor squeaks at dawn.\n",
    );
    assert_eq!((again.0, &again.1["changed"]), (200, &json!(false)));
    assert_eq!(again.1["version"], json!(version));

    let gone = delete(&url, "tickets/17.md");
    assert_eq!((gone.0, &gone.1["changed"]), (200, &json!(true)));
    up.until("it is gone", |_| {
        let left = found(&url, "What is wrong with the unicycle?");
        (!left.contains(&"tickets/17.md".to_owned())).then_some(())
    });
    up.until("nothing is known of it", |_| {
        (state(&url, "tickets/17.md").0 == 404).then_some(())
    });
    let twice = delete(&url, "tickets/17.md");
    assert_eq!((twice.0, &twice.1["changed"]), (200, &json!(false)));
    up.stop();
}

#[test]
fn a_document_that_is_no_text_is_read_as_elsewhere() {
    let site = site("{}");
    let mut up = site.up();
    let url = up.ready();
    let pages = [
        "Pedals are left-handed on the left.",
        "The kickstand folds inwards.",
    ];
    let file = site.path("manual.pdf");
    std::fs::write(&file, pdf(&pages)).unwrap();
    let body = format!("@{}", file.display());
    let at = format!("{url}/v1/documents/notes/manual.pdf");
    let answer = send("PUT", &at, &["content-type: application/pdf"], &body);
    assert_eq!(answer.0, 201, "{answer:?}");
    let question = "How does the kickstand fold?";
    up.until("its page is found", |_| {
        (best(&url, question)?.0 == "manual.pdf#page=2").then_some(())
    });
    up.stop();
}

#[test]
fn what_was_answered_outlives_a_crash() {
    let site = site("{}");
    let mut up = site.up();
    let url = up.ready();
    for i in 0..20 {
        let body = format!("# Note {i}\n\nLocker {i} belongs to the tandem of team {i}.\n");
        assert_eq!(put(&url, &format!("lockers/{i}"), &body).0, 201);
    }
    assert_eq!(delete(&url, "lockers/3").0, 200);
    up.kill();
    let mut up = site.up();
    let url = up.ready();
    let (status, summary) = get(&format!("{url}/v1/documents/notes")).unwrap();
    assert_eq!((status, &summary["documents"]), (200, &json!(19)));
    up.until("all are served", |_| {
        let summary = get(&format!("{url}/v1/documents/notes"))?.1;
        (summary["pending"] == 0).then_some(())
    });
    let same = put(
        &url,
        "lockers/4",
        "# Note 4\n\nLocker 4 belongs to the tandem of team 4.\n",
    );
    assert_eq!(same.1["changed"], false, "{same:?}");
    // Until the release without it serves, an answer may have it.
    up.until("nothing is known of what was deleted", |_| {
        (state(&url, "lockers/3").0 == 404).then_some(())
    });
    up.until("the last is found", |_| {
        found(&url, "Whose is locker 19?")
            .contains(&"lockers/19".to_owned())
            .then_some(())
    });
    up.stop();
}

#[test]
fn many_write_at_once_and_nothing_is_lost() {
    let site = site("{}");
    let mut up = site.up();
    let url = up.ready();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let url = url.clone();
            std::thread::spawn(move || {
                for i in 0..10 {
                    let id = format!("w{writer}/{i}");
                    let answer = put(&url, &id, &format!("Bench {writer} has vice {i}."));
                    assert_eq!(answer.0, 201, "{answer:?}");
                }
                // All want to be the one who makes it.
                let only = format!("{url}/v1/documents/notes/first");
                let headers = ["content-type: text/plain", "if-none-match: *"];
                send("PUT", &only, &headers, &format!("writer {writer}")).0
            })
        })
        .collect();
    let mut made: Vec<u16> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    made.sort_unstable();
    assert_eq!(made, [201, 412, 412, 412, 412, 412, 412, 412]);
    up.until("all are served", |_| {
        let summary = get(&format!("{url}/v1/documents/notes"))?.1;
        (summary["pending"] == 0 && summary["documents"] == 81).then_some(())
    });
    up.stop();
}

#[test]
fn a_pipeline_of_nothing_but_pushes_begins_with_the_first() {
    let site = site("{}");
    let manifest = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    let lines = manifest.lines().filter(|line| {
        let about = ["directory:", "suites:", "suite:", "gates:", "name: faq"];
        !about.iter().any(|part| line.contains(part))
    });
    let lines: Vec<&str> = lines.collect();
    site.write("pipeline.yaml", &lines.join("\n"));
    let mut up = site.up();
    let url = up.until("it listens", |up| up.url());
    up.until("there is nothing to index", |_| {
        site.log()
            .contains("no source holds a document")
            .then_some(())
    });
    assert_eq!(put(&url, "a.md", "The bell is on the left.").0, 201);
    assert_eq!(up.ready(), url);
    assert_eq!(best(&url, "Where is the bell?").unwrap().0, "a.md");
    up.stop();
}

#[test]
fn a_batch_has_an_outcome_for_each() {
    let site = site("{maxPending: 3, maxDocumentBytes: 200}");
    let mut up = site.up();
    let url = up.ready();
    let at = format!("{url}/v1/documents/notes");
    let (status, answer) = post(
        &at,
        &json!([
            {"id": "a.md", "content": "# A\n\nThe pump hangs by the door.", "metadata": {"team": "blue"}, "uri": "https://wiki.example.com/a"},
            {"id": "b", "mediaType": "image/png", "content": "x"},
            {"id": "absent", "delete": true},
            {"id": "../c", "content": "x"},
            {"id": "d.txt", "content": "x".repeat(201)},
        ]),
    )
    .unwrap();
    assert_eq!(status, 200, "{answer}");
    let statuses = |answer: &Value| -> Vec<u64> {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|i| i["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(statuses(&answer), [201, 415, 200, 400, 413], "{answer}");
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(2), &json!(3))
    );
    up.until("it is found by its metadata", |_| {
        let query = json!({"query": "pump", "k": 1, "filters": {"team": "blue"}});
        let passage = retrieve(&url, &query)?.1["passages"][0].clone();
        (passage["citation"]["uri"] == "https://wiki.example.com/a").then_some(())
    });
    // As lines, and more at once than may wait.
    let lines: Vec<String> = (0..5)
        .map(|i| {
            json!({"id": format!("n{i}.txt"), "content": format!("Nut {i} is metric.")}).to_string()
        })
        .collect();
    let headers = ["content-type: application/x-ndjson"];
    let (status, answer) = send("POST", &at, &headers, &lines.join("\n"));
    assert_eq!(
        (status, statuses(&answer)),
        (200, vec![201, 201, 201, 429, 429]),
        "{answer}"
    );
    assert_eq!(code(&put(&url, "one-more", "x")), (429, "backlog_full"));
    up.until("there is room again", |_| {
        (put(&url, "one-more", "There is room.").0 == 201).then_some(())
    });
    up.stop();
}
