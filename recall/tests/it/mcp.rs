//! `/mcp` as it is on the wire; what hosts make of it is tested with the official client, beside `loci up`.

use loci_recall::{Auth, Tokens};
use reqwest::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Server, options};

fn call(arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "retrieve", "arguments": arguments}})
}

fn post(server: &Server, message: &Value) -> RequestBuilder {
    let request = server.client.post(server.url("/mcp")).json(message);
    request.header(ACCEPT, "application/json, text/event-stream")
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

async fn result(request: RequestBuilder) -> Value {
    let response = send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert!(response.headers().get("mcp-session-id").is_none());
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["id"], 7, "{answer}");
    answer["result"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_answers_as_retrieve_does_and_is_counted_with_it() {
    let server = Server::start(options()).await;
    let asked = server
        .metric("loci_retrieve_duration_seconds_count{stage=\"total\"}")
        .await;
    let mut plain = server
        .ask(json!({"query": "When are refunds paid?", "k": 2, "filters": {"topic": {"exists": true}}}))
        .await;
    let arguments = json!({"query": "When are refunds paid?", "topK": 2, "filter": {"topic": {"exists": true}}});
    let answer = result(post(&server, &call(&arguments))).await;
    let mut structured = answer["structuredContent"].clone();
    for response in [&mut plain, &mut structured] {
        assert!(response["timings"].take().is_object());
    }
    assert_eq!(structured, plain);
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("https://handbook.example/refunds") && text.contains("release one"),
        "{text}"
    );

    let count = server
        .metric("loci_retrieve_duration_seconds_count{stage=\"total\"}")
        .await;
    assert_eq!(count - asked, 2.0);
    let requests = "loci_http_requests_total{route=\"/mcp\",code=\"200\"}";
    assert_eq!(server.metric(requests).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_results_of_the_tool() {
    let server = Server::empty(options(), Auth::Off).await;
    let arguments = [
        (json!({"query": "refunds"}), "no release serves"),
        (
            json!({"query": "refunds", "topK": 1001}),
            "topK: 1001 is not",
        ),
        (
            json!({"query": "refunds", "filter": []}),
            "filter: a list is not",
        ),
        (
            json!({"query": "refunds", "filter": {"topic": {"gt": null}}}),
            "filter.topic.gt: null is not",
        ),
        (
            json!({"query": "refunds", "mode": "dense"}),
            "mode: no such field",
        ),
        (json!({"query": "a".repeat(40_000)}), "query: 40000 bytes"),
    ];
    for (arguments, reason) in arguments {
        let answer = result(post(&server, &call(&arguments))).await;
        let text = answer["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(reason), "{text}");
        assert_eq!(answer["isError"], true, "{answer}");
        assert!(answer.get("structuredContent").is_none(), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_of_other_machines_are_refused() {
    let server = Server::start(options()).await;
    let message = call(&json!({"query": "refunds"}));
    for (origin, status) in [
        ("http://localhost:6274", 200),
        ("http://127.0.0.1", 200),
        ("http://[::1]:7700", 200),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("http://127.0.0.1.evil.example:80", 403),
        ("null", 403),
    ] {
        let response = send(post(&server, &message).header(ORIGIN, origin)).await;
        assert_eq!(response.status(), status, "{origin}");
        if status == 403 {
            let answer: Value = response.json().await.unwrap();
            assert_eq!(answer["error"]["code"], "foreign_origin", "{answer}");
        }
    }
    let rebound = send(post(&server, &message).header(HOST, "rebound.example")).await;
    assert_eq!(rebound.status(), 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_has_the_limits_of_the_others() {
    let tokens = Tokens::new(["first-token-0123456789"]).unwrap();
    let server = Server::empty(options(), Auth::Bearer(tokens)).await;
    server.release("one").await;
    let message = call(&json!({"query": "refunds"}));
    let token = "Bearer first-token-0123456789";
    for (authorization, status) in [(token, 200), ("Bearer second-token-0123456789", 401)] {
        let request = post(&server, &message).header(AUTHORIZATION, authorization);
        assert_eq!(send(request).await.status(), status);
    }
    assert_eq!(send(post(&server, &message)).await.status(), 401);

    let long = call(&json!({"query": "a".repeat(2 << 20)}));
    let response = send(post(&server, &long).header(AUTHORIZATION, token)).await;
    assert_eq!(response.status(), 413);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "body_too_large");

    let endpoint = || {
        server
            .client
            .post(server.url("/mcp"))
            .header(AUTHORIZATION, token)
    };
    let text = endpoint()
        .header(CONTENT_TYPE, "text/plain")
        .body(message.to_string());
    assert_eq!(send(text).await.status(), 415);
    let unaccepted = endpoint().header(ACCEPT, "application/json").json(&message);
    assert_eq!(send(unaccepted).await.status(), 406);
    let get = server
        .client
        .get(server.url("/mcp"))
        .header(AUTHORIZATION, token);
    let response = send(get).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()[ALLOW], "POST");
}
