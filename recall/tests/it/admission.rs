//! Who is let in.

use loci_recall::{Auth, Recall, RecallError, RecallOptions, Tokens, serve};
use reqwest::header::{AUTHORIZATION, HOST};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Server, options};

#[tokio::test(flavor = "multi_thread")]
async fn only_tokens_of_the_list_open_the_api() {
    let tokens = Tokens::new(["first-token-0123456789", "second-token-0123456789"]).unwrap();
    let server = Server::empty(options(), Auth::Bearer(tokens)).await;
    server.release("one").await;
    let ask = async |authorization: Option<&str>| {
        let mut request = server
            .client
            .post(server.url("/v1/retrieve"))
            .json(&json!({"query": "refunds"}));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.unwrap();
        let challenge = response.headers().get("www-authenticate").is_some();
        let status = response.status().as_u16();
        (
            status,
            challenge,
            response.json::<Value>().await.unwrap()["error"]["type"].clone(),
        )
    };
    for right in [
        "Bearer first-token-0123456789",
        "bearer second-token-0123456789",
    ] {
        assert_eq!(ask(Some(right)).await.0, 200, "{right}");
    }
    let wrong = [
        "Bearer",
        "Bearer ",
        "Bearer first-token",
        "Bearer first-token-01234567890",
        "Basic first-token-0123456789",
        "first-token-0123456789",
    ];
    for wrong in wrong.into_iter().map(Some).chain([None]) {
        assert_eq!(
            ask(wrong).await,
            (401, true, json!("authentication_error")),
            "{wrong:?}"
        );
    }
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/openapi.json", 200),
        ("/metrics", 401),
        ("/v1/models", 401),
        ("/elsewhere", 401),
    ] {
        assert_eq!(server.get(path).await.status(), status, "{path}");
    }
}

/// What a request about documents gets, by who it is from. Nobody here takes documents: who is let in hears of that.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_written_with_tokens_of_their_own() {
    let tokens = |token: &str| Tokens::new([token]).unwrap();
    let reading = || Auth::Bearer(tokens("reader-0123456789abcdef"));
    let writers = || Some(tokens("writer-0123456789abcdef"));
    let (reader, writer, other) = (
        Some("reader-0123456789abcdef"),
        Some("writer-0123456789abcdef"),
        Some("nobody-0123456789abcdef"),
    );
    for (auth, writers, expected) in [
        (
            reading(),
            writers(),
            [(reader, 403), (writer, 404), (other, 401), (None, 401)],
        ),
        (
            Auth::Off,
            writers(),
            [(reader, 401), (writer, 404), (other, 401), (None, 401)],
        ),
        (
            reading(),
            None,
            [(reader, 403), (writer, 403), (other, 403), (None, 403)],
        ),
        (
            Auth::Anyone,
            None,
            [(reader, 403), (writer, 403), (other, 403), (None, 403)],
        ),
        (
            Auth::Off,
            None,
            [(reader, 404), (writer, 404), (other, 404), (None, 404)],
        ),
    ] {
        let told = format!("{auth:?} {writers:?}");
        let options = RecallOptions {
            writers,
            ..options()
        };
        let server = Server::empty(options, auth).await;
        for (token, status) in expected {
            for path in ["/v1/documents/notes/a", "/v1/documents/notes"] {
                let mut request = server.client.get(server.url(path));
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), status, "{told} {token:?} {path}");
                let error = response.json::<Value>().await.unwrap();
                assert!(error["error"]["message"].is_string(), "{error}");
            }
        }
        // A token that may write may not ask.
        if matches!(told.as_str(), "Bearer(Tokens(1)) Some(Tokens(1))") {
            let asked = server.client.get(server.url("/v1/models"));
            let asked = asked.bearer_auth("writer-0123456789abcdef").send().await;
            assert_eq!(asked.unwrap().status(), 401);
        }
        // By another name of this machine nobody is let in.
        let rebound = server.client.get(server.url("/v1/documents/notes"));
        let rebound = rebound.header(HOST, "rebound.example");
        let rebound = rebound.send().await.unwrap().status().as_u16();
        assert!([401, 403, 421].contains(&rebound), "{told} {rebound}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_loopback_is_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let recall = Recall::new(options()).unwrap();
    let error = serve(listener, recall, Auth::Off, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RecallError::Exposed(_)) && error.to_string().contains("token file"),
        "{error}"
    );

    let server = Server::empty(options(), Auth::Off).await;
    for (host, status) in [
        ("localhost", 200),
        ("localhost:7700", 200),
        ("[::1]:80", 200),
        ("rebound.example", 421),
        ("127.0.0.1.example:80", 421),
    ] {
        let response = server
            .client
            .get(server.url("/healthz"))
            .header(HOST, host)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{host}");
    }
}
