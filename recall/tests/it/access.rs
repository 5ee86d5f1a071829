//! What a token's filter leaves of everything.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loci_recall::wire::ChatResponse;
use loci_recall::{Auth, Tokens};
use reqwest::Response;
use serde_json::{Value, json};

use crate::chat_support::{TALKATIVE, ask};
use crate::support::{Server, options};

const ALL: &str = "all-0123456789abcdef";
/// Sees bread and penguins.
const ACME: &str = "acme-0123456789abcdef";
/// Sees volcanoes.
const UMBRELLA: &str = "umbrella-0123456789abcdef";
const ACMES: [&str; 2] = ["bread", "penguins"];

fn lines() -> String {
    let line = |name: &str, token: &str, filter: Value| {
        json!({"name": name, "token": token, "filter": filter}).to_string()
    };
    [
        ALL.to_owned(),
        line("acme", ACME, json!({"topic": ACMES})),
        line(
            "umbrella",
            UMBRELLA,
            json!({"or": [{"topic": "volcanoes"}, {"topic": "none yet"}]}),
        ),
    ]
    .join("\n")
}

async fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    fs::write(&path, lines()).unwrap();
    let tokens = Tokens::from_file(&path).unwrap();
    let server = Server::empty(options(), Auth::Bearer(tokens)).await;
    server.chat_release("one", &TALKATIVE).await;
    server
}

async fn post(server: &Server, token: &str, path: &str, body: &Value) -> Response {
    let call = server.client.post(server.url(path)).bearer_auth(token);
    call.json(body).send().await.unwrap()
}

async fn retrieve(server: &Server, token: &str, body: Value) -> (u16, Value) {
    let answer = post(server, token, "/v1/retrieve", &body).await;
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn topics(answer: &Value) -> Vec<&str> {
    let passages = answer["passages"].as_array().unwrap().iter();
    let mut topics: Vec<&str> = passages
        .map(|passage| passage["metadata"]["topic"][0].as_str().unwrap())
        .collect();
    topics.sort_unstable();
    topics
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_see_their_own_and_count_their_own() {
    let server = server().await;
    let question = |filters: Option<Value>| {
        let mut body = json!({"query": "When are refunds paid?", "k": 1000, "explain": true});
        if let Some(filters) = filters {
            body["filters"] = filters;
        }
        body
    };
    for (token, own) in [
        (
            ALL,
            vec![
                "bread",
                "passwords",
                "penguins",
                "refunds",
                "shipping",
                "volcanoes",
            ],
        ),
        (ACME, ACMES.to_vec()),
        (UMBRELLA, vec!["volcanoes"]),
    ] {
        let (status, answer) = retrieve(&server, token, question(None)).await;
        assert_eq!((status, topics(&answer)), (200, own.clone()), "{answer}");
        assert_eq!(answer["explain"]["passages"], own.len());
        for wide in [
            json!({"topic": {"exists": true}}),
            json!({"or": [{"topic": "refunds"}, {}]}),
            json!({"not": {"topic": "nothing"}}),
            json!({"not": {"not": {"or": [{"source": "handbook"}, {"not": {"source": "handbook"}}]}}}),
            json!({"topic": {"prefix": ""}}),
        ] {
            let (status, answer) = retrieve(&server, token, question(Some(wide))).await;
            assert_eq!((status, topics(&answer)), (200, own.clone()), "{answer}");
            let explain = &answer["explain"];
            assert_eq!(
                (&explain["passages"], &explain["passing"]),
                (&json!(own.len()), &json!(own.len()))
            );
        }
    }
    let others = question(Some(json!({"topic": "refunds"})));
    let (status, answer) = retrieve(&server, ACME, others).await;
    assert_eq!((status, topics(&answer).len()), (200, 0));
    assert_eq!(answer["explain"]["passing"], 0);
    let unknown = question(Some(json!({"not": {"tenant": "acme"}})));
    let (status, answer) = retrieve(&server, ACME, unknown).await;
    let error = &answer["error"];
    assert_eq!((status, &error["param"]), (400, &json!("filters.tenant")));
    assert_eq!(
        error["message"],
        "filters.tenant: no document has this field; there are source, document, uri, memory, version, topic"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_widens_what_its_token_may_see() {
    let server = server().await;
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        // Knuth's 64-bit linear congruential generator.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..200 {
        let filters = filters(&mut random, 4);
        let body =
            json!({"query": "refunds bread lava", "k": 50, "filters": filters, "explain": true});
        for (token, own) in [
            (ACME, ACMES.as_slice()),
            (UMBRELLA, ["volcanoes"].as_slice()),
        ] {
            let (status, answer) = retrieve(&server, token, body.clone()).await;
            if status == 400 {
                let message = answer["error"]["message"].as_str().unwrap();
                assert!(message.contains("no document has this field"), "{message}");
                continue;
            }
            let found = topics(&answer);
            assert!(
                found.iter().all(|topic| own.contains(topic)),
                "{filters}: {found:?}"
            );
            assert_eq!(answer["explain"]["passing"], found.len(), "{filters}");
        }
        let (status, everything) = retrieve(&server, ALL, body.clone()).await;
        if status == 200 {
            let (_, mine) = retrieve(&server, ACME, body).await;
            let all = topics(&everything);
            let all: Vec<_> = all.into_iter().filter(|t| ACMES.contains(t)).collect();
            assert_eq!(
                topics(&mine),
                all,
                "what is asked for and allowed is found: {filters}"
            );
        }
    }
}

/// A random filter, an object as in a request.
fn filters(random: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
    let topics = ["refunds", "bread", "penguins", "volcanoes", "absent"];
    let topic = topics[random(topics.len())];
    let kinds = if depth == 0 { 6 } else { 9 };
    match random(kinds) {
        0 => json!({"topic": topic}),
        1 => json!({"topic": [topic, topics[random(topics.len())]]}),
        2 => json!({"topic": {"gte": topic}}),
        3 => json!({"topic": {"prefix": &topic[..1]}}),
        4 => json!({"document": {"exists": true}}),
        5 if random(8) == 0 => json!({"unknown": topic}),
        5 => json!({}),
        6 => json!({"not": filters(random, depth - 1)}),
        7 => json!({"or": [filters(random, depth - 1), filters(random, depth - 1)]}),
        _ => json!({"and": [filters(random, depth - 1), filters(random, depth - 1)]}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_find_what_the_token_may_see() {
    let server = server().await;
    let query = "refunds bread lava";
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "retrieve", "arguments": {"query": query, "topK": 50}},
    });
    for token in [ALL, ACME, UMBRELLA] {
        let request = server.client.post(server.url("/mcp")).bearer_auth(token);
        let request = request.header("accept", "application/json, text/event-stream");
        let answer: Value = request
            .json(&call)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let found = topics(&answer["result"]["structuredContent"]);
        let (_, plain) = retrieve(&server, token, json!({"query": query, "k": 50})).await;
        assert!(!found.is_empty(), "{answer}");
        assert_eq!(found, topics(&plain), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_cite_what_the_token_may_see() {
    let server = server().await;
    for (filters, cited) in [
        (json!({}), ACMES.as_slice()),
        (json!({"not": {"topic": "bread"}}), ["penguins"].as_slice()),
        (json!({"topic": "volcanoes"}), [].as_slice()),
    ] {
        let mut body = ask("How fast does lava flow?", 2);
        body["k"] = 20.into();
        body["filters"] = filters;
        let answer = post(&server, ACME, "/v1/chat/completions", &body).await;
        let answer: ChatResponse = answer.error_for_status().unwrap().json().await.unwrap();
        let found = answer
            .citations
            .iter()
            .map(|c| c.citation.document.as_str());
        let mut found: Vec<&str> = found.collect();
        found.sort_unstable();
        let cited: Vec<String> = cited.iter().map(|topic| format!("{topic}.md")).collect();
        assert_eq!(found, cited);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_a_filter_open_what_obeys_it_and_nothing_else() {
    let server = server().await;
    let embed = json!({"input": "bread"});
    assert_eq!(
        post(&server, ACME, "/v1/embeddings", &embed).await.status(),
        200
    );
    for (token, path, status) in [
        (ACME, "/v1/models", 200),
        (ACME, "/healthz", 200),
        (ACME, "/metrics", 403),
        (ACME, "/v1/documents/handbook/bread.md", 403),
        (ACME, "/elsewhere", 403),
        (ALL, "/metrics", 200),
        (ALL, "/elsewhere", 404),
        ("acme-0123456789abcde", "/v1/models", 401),
    ] {
        let call = server.client.get(server.url(path)).bearer_auth(token);
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path} by {token}");
        let text = answer.text().await.unwrap();
        assert!(status != 403 || text.contains("permission_error"), "{text}");
        for secret in [ALL, ACME, UMBRELLA] {
            assert!(!text.contains(secret), "{path} shows a token");
        }
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On one thread, whose log is this test's alone.
#[tokio::test]
async fn a_changed_token_file_is_taken_up_and_no_log_has_a_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("debug")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    fs::write(&path, lines()).unwrap();
    let auth = Auth::Bearer(Tokens::from_file(&path).unwrap());
    let server = Server::empty(options(), auth).await;
    server.release("one").await;
    let body = json!({"query": "lava", "k": 9});
    let seen = async |token: &str| {
        let (status, answer) = retrieve(&server, token, body.clone()).await;
        (
            status,
            if status == 200 {
                topics(&answer).len()
            } else {
                0
            },
        )
    };
    assert_eq!(seen(ACME).await, (200, 2));
    let text = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let logged = async |words: &str| {
        let until = async {
            while !text().contains(words) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(30), until).await;
        assert!(done.is_ok(), "no {words} in {}", text());
    };

    // What is not understood opens nothing.
    let broken = lines().replace(r#"{"topic":["bread","penguins"]}"#, "{}");
    assert_ne!(broken, lines());
    fs::write(&path, broken).unwrap();
    logged("token 2: filter: it is empty").await;
    assert_eq!(seen(ACME).await, (200, 2));
    assert_eq!(seen(UMBRELLA).await, (200, 1));

    let rotated = lines().replace(UMBRELLA, "other-0123456789abcdef");
    fs::write(&path, rotated).unwrap();
    logged("token file read again").await;
    assert_eq!(seen(UMBRELLA).await, (401, 0));
    assert_eq!(seen("other-0123456789abcdef").await, (200, 1));
    assert_eq!(seen(ACME).await, (200, 2));

    let text = text();
    assert!(
        text.contains("token=\"acme\"") || text.contains("token=acme"),
        "{text}"
    );
    for secret in [ALL, ACME, UMBRELLA, "other-0123456789abcdef"] {
        assert!(!text.contains(secret), "the log has a token: {text}");
    }
}
