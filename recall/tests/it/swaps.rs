//! Releases take each other's place under load.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use loci_recall::{Auth, RecallError, Serving};
use serde_json::{Value, json};

use crate::support::{PIPELINE, Server, encoder, link, load_request, options, write_revision};

/// Every passage of an answer belongs to the release that the answer names.
fn assert_consistent(answer: &Value) -> String {
    let release = answer["release"].as_str().unwrap();
    let passages = answer["passages"].as_array().unwrap();
    assert_eq!(passages.len(), 5);
    for passage in passages {
        assert_eq!(passage["citation"]["version"], release);
        assert!(
            passage["text"]
                .as_str()
                .unwrap()
                .ends_with(&format!("({release})")),
            "{passage}"
        );
    }
    release.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_fails_across_200_swaps() {
    const SWAPS: usize = 200;
    let server = Arc::new(Server::start(options()).await);
    let two = server.dir.path().join("two");
    write_revision(&two, "two", |vectors| vectors);
    let (done, answers) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]),
    );
    let client = |i: usize| {
        let (server, done, answers) = (server.clone(), done.clone(), answers.clone());
        tokio::spawn(async move {
            let questions = [
                "How is a refund paid?",
                "Can penguins fly?",
                "forgotten password",
            ];
            while !done.load(Ordering::SeqCst) {
                let release =
                    assert_consistent(&server.ask(json!({"query": questions[i % 3]})).await);
                answers[usize::from(release == "two")].fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let clients: Vec<_> = (0..4).map(client).collect();

    let mut drained = Vec::new();
    let mut serving = server.dir.path().join("one");
    for swap in 1..=SWAPS {
        let release = ["one", "two"][swap % 2];
        let directory = server.dir.path().join(format!("swap-{swap}"));
        link(&server.dir.path().join(release), &directory);
        let prepared = server
            .recall
            .prepare(load_request(release, directory.clone()))
            .await
            .unwrap();
        let retired = server
            .recall
            .switch(prepared)
            .expect("one serves at all times");
        assert_eq!(retired.release(), ["two", "one"][swap % 2]);
        assert_eq!(server.recall.serving()[0].release, release);
        let old = std::mem::replace(&mut serving, directory);
        drained.push(tokio::spawn(async move {
            retired.drained().await;
            if old
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("swap-")
            {
                fs::remove_dir_all(old).unwrap();
            }
        }));
    }
    done.store(true, Ordering::SeqCst);
    for task in clients.into_iter().chain(drained) {
        task.await.unwrap();
    }
    let answers = answers.each_ref().map(|count| count.load(Ordering::SeqCst));
    assert!(answers.iter().all(|&count| count > 20), "{answers:?}");
    let metric = format!("loci_release_switches_total{{pipeline=\"{PIPELINE}\"}}");
    assert_eq!(server.metric(&metric).await, 1.0 + SWAPS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_in_flight_finish_on_the_release_they_began_with() {
    let mut options = options();
    options.concurrency = 1;
    let server = Server::start(options).await;
    let directory = server.dir.path().join("two");
    write_revision(&directory, "two", |vectors| vectors);
    let prepared = server
        .recall
        .prepare(load_request("two", directory))
        .await
        .unwrap();

    let queries = server.occupy(40).await;
    let mut drained = Box::pin(server.recall.switch(prepared).unwrap().drained());
    let waiting = futures::poll!(&mut drained).is_pending();
    assert!(waiting, "queries still use the old release");
    assert_eq!(
        assert_consistent(&server.ask(json!({"query": "refunds"})).await),
        "two"
    );
    let mut old = 0;
    for query in queries {
        let answer: Value = query
            .await
            .unwrap()
            .unwrap()
            .error_for_status()
            .unwrap()
            .json()
            .await
            .unwrap();
        old += usize::from(assert_consistent(&answer) == "one");
    }
    assert!(old >= 10, "{old} of 40 finished on the old release");
    drained.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_release_is_refused_and_the_serving_one_stays() {
    let server = Server::start(options()).await;
    let path = |name: &str| server.dir.path().join(name);
    write_revision(&path("reversed"), "reversed", |vectors| {
        vectors.into_iter().rev().collect()
    });
    link(&path("one"), &path("foreign"));
    let manifest = path("foreign").join("revision.json");
    let own = encoder().identity().digest();
    let text = fs::read_to_string(&manifest).unwrap();
    assert!(text.contains(&own.to_string()));
    fs::remove_file(&manifest).unwrap();
    fs::write(
        &manifest,
        text.replace(
            &own.to_string(),
            &loci_digest::Digest::of("another").to_string(),
        ),
    )
    .unwrap();
    link(&path("one"), &path("truncated"));
    for entry in fs::read_dir(path("truncated")).unwrap().map(Result::unwrap) {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "vec")
        {
            let bytes = fs::read(entry.path()).unwrap();
            fs::remove_file(entry.path()).unwrap();
            fs::write(entry.path(), &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    fs::create_dir(path("void")).unwrap();

    for (name, reason) in [
        ("reversed", "not found by its own vector"),
        ("foreign", "made by embedder"),
        ("truncated", "damaged"),
        ("void", "no revision.json"),
        ("absent", "no revision.json"),
    ] {
        let error: RecallError = server
            .recall
            .prepare(load_request(name, path(name)))
            .await
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(reason) && message.contains(name) && message.contains(PIPELINE),
            "{message}"
        );
    }
    assert_eq!(
        assert_consistent(&server.ask(json!({"query": "refunds"})).await),
        "one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_when_every_expected_pipeline_serves() {
    let mut options = options();
    options.expect.push("agents/sales".to_owned());
    let server = Server::empty(options, Auth::Off).await;
    let readiness = async || {
        let response = server.get("/readyz").await;
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(
        readiness().await.1["missing"],
        json!(["agents/sales", PIPELINE])
    );
    let early = server
        .post(
            "/v1/retrieve",
            &json!({"query": "a", "pipeline": "support"}),
        )
        .await;
    assert_eq!(
        (
            early.status().as_u16(),
            early.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "1")
    );
    assert_eq!(
        early.json::<Value>().await.unwrap()["error"]["code"],
        "no_release"
    );

    server.release("one").await;
    assert_eq!(readiness().await.0, 503);
    server.recall.expect([PIPELINE.to_owned()]);
    assert_eq!(
        readiness().await,
        (
            200,
            json!({"ready": true, "serving": {PIPELINE: "one"}, "missing": []})
        )
    );
    let serving = server.recall.serving();
    assert!(
        matches!(
            serving.as_slice(),
            [Serving {
                documents: 6,
                passages: 6,
                ..
            }]
        ),
        "{serving:?}"
    );

    server.recall.withdraw(PIPELINE).unwrap().drained().await;
    assert!(server.recall.withdraw(PIPELINE).is_none());
    assert_eq!(readiness().await.0, 503);
}
