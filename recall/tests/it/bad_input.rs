//! What bad requests get.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Server, options};

const RETRIEVE: &str = "/v1/retrieve";
const EMBEDDINGS: &str = "/v1/embeddings";

async fn error(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let kind = if status >= 500 {
        "server_error"
    } else {
        "invalid_request_error"
    };
    assert_eq!(body["error"]["type"], kind, "{body}");
    (status, body["error"].clone())
}

/// Bodies that are refused with a status and a code, and how the messages begin.
type Refused = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const REFUSED: &[Refused] = &[
    (
        RETRIEVE,
        "400 missing_field",
        &[
            (r#"{}"#, "query: missing"),
            (r#"{"query": null}"#, "query: missing"),
        ],
    ),
    (
        RETRIEVE,
        "400 invalid_value",
        &[
            (r#"{"query": " \n"}"#, "query: empty"),
            (r#"{"query": 7}"#, "query: a number is not a string"),
            (
                r#"{"query": "a", "k": 0}"#,
                "k: 0 is not a whole number from 1 to 1000",
            ),
            (r#"{"query": "a", "k": 1000000}"#, "k: 1000000 is not"),
            (r#"{"query": "a", "k": -1}"#, "k: -1 is not"),
            (r#"{"query": "a", "k": 2.5}"#, "k: 2.5 is not"),
            (r#"{"query": "a", "k": "5"}"#, "k: a string is not"),
            (
                r#"{"query": "a", "filters": []}"#,
                "filters: a list is not an object",
            ),
            (
                r#"{"query": "a", "filters": {"b": {"like": 1}}}"#,
                "filters.b.like: no such operator",
            ),
            (
                r#"{"query": "a", "filters": {"or": [{"b": 1.5}]}}"#,
                "filters.or[0].b: 1.5 is not",
            ),
            (
                r#"{"query": "a", "explain": "yes"}"#,
                "explain: a string is not true or false",
            ),
        ],
    ),
    (
        RETRIEVE,
        "400 unknown_field",
        &[
            (
                r#"{"query": "a", "filter": {}}"#,
                "filter: no such field; did you mean filters?",
            ),
            (
                r#"{"query": "a", "heat": 1}"#,
                "heat: no such field; there are query, k",
            ),
        ],
    ),
    (
        RETRIEVE,
        "404 unknown_pipeline",
        &[(
            r#"{"query": "a", "pipeline": "sales"}"#,
            "pipeline: there is no pipeline \"sales\"; served: agents/support",
        )],
    ),
    (
        EMBEDDINGS,
        "400 missing_field",
        &[(r#"{"model": "support"}"#, "input: missing")],
    ),
    (
        EMBEDDINGS,
        "400 invalid_value",
        &[
            (r#"{"input": []}"#, "input: 0 texts: send 1 to 2048"),
            (r#"{"input": [1, 2, 3]}"#, "input: token arrays"),
            (r#"{"input": [[1, 2], [3]]}"#, "input: token arrays"),
            (r#"{"input": {"text": "a"}}"#, "input: an object"),
            (r#"{"input": ["a", ""]}"#, "input[1]: empty"),
            (r#"{"input": ["a", true]}"#, "input[1]: a boolean"),
            (
                r#"{"input": "a", "dimensions": 128}"#,
                "dimensions: 128 is not available: this embedder's vectors have 384",
            ),
            (
                r#"{"input": "a", "encoding_format": "int8"}"#,
                "encoding_format: \"int8\" is none of float, base64",
            ),
            (
                r#"{"input": "a", "input_type": "doc"}"#,
                "input_type: \"doc\" is none of passage, query",
            ),
        ],
    ),
    (
        EMBEDDINGS,
        "400 unknown_field",
        &[(r#"{"input": "a", "user": "me"}"#, "user: no such field")],
    ),
    (
        EMBEDDINGS,
        "404 unknown_pipeline",
        &[(
            r#"{"input": "a", "model": "gpt"}"#,
            "model: there is no pipeline \"gpt\"",
        )],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn refused_fields_are_named_with_the_reason() {
    let server = Server::start(options()).await;
    let refused = async |path: &str, body: &Value, wanted: &str, start: &str| {
        let (status, error) = error(server.post(path, body).await).await;
        let message = error["message"].as_str().unwrap();
        let got = format!("{status} {}", error["code"].as_str().unwrap());
        assert_eq!(got, wanted, "{message}");
        assert!(message.starts_with(start), "{message}");
        assert!(message.starts_with(&format!("{}: ", error["param"].as_str().unwrap())));
    };
    for (path, wanted, cases) in REFUSED {
        for (body, start) in *cases {
            refused(path, &serde_json::from_str(body).unwrap(), wanted, start).await;
        }
    }
    let megabyte = json!({"query": "word ".repeat(200_000)});
    refused(
        RETRIEVE,
        &megabyte,
        "413 query_too_long",
        "query: 1000000 bytes",
    )
    .await;
    let deep = (0..40).fold(json!({"a": 1}), |inner, _| json!({"not": inner}));
    refused(
        RETRIEVE,
        &json!({"query": "a", "filters": deep}),
        "400 invalid_value",
        "filters.not",
    )
    .await;
    let many = json!({"input": vec!["a"; 2049]});
    refused(EMBEDDINGS, &many, "400 invalid_value", "input: 2049 texts").await;
    assert_eq!(
        server.ask(json!({"query": "refunds"})).await["release"],
        "one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_understood_get_json_errors() {
    let server = Server::start(options()).await;
    let send = async |method: Method, path: &str, kind: Option<&str>, body: Vec<u8>| {
        let mut request = server.client.request(method, server.url(path)).body(body);
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        error(request.send().await.unwrap()).await
    };
    let json = Some("application/json; charset=utf-8");
    let large = |length: usize| format!("{{\"query\": \"{}\"}}", "a".repeat(length)).into_bytes();
    let deep = "[".repeat(100_000).into_bytes();
    for (path, kind, body, status, code, reason) in [
        (
            RETRIEVE,
            json,
            b"{\"query\":\n nonsense}".to_vec(),
            400,
            "invalid_json",
            "line 2 column",
        ),
        (RETRIEVE, json, b"".to_vec(), 400, "invalid_json", "line 1"),
        (
            RETRIEVE,
            json,
            b"\"refunds\"".to_vec(),
            400,
            "invalid_json",
            "the body is a string",
        ),
        (
            RETRIEVE,
            json,
            b"{\"query\": \"\xff\xfe\"}".to_vec(),
            400,
            "invalid_json",
            "line 1",
        ),
        (RETRIEVE, json, deep, 400, "invalid_json", "recursion"),
        (
            RETRIEVE,
            json,
            large(2 << 20),
            413,
            "body_too_large",
            "1048576 bytes",
        ),
        (
            EMBEDDINGS,
            json,
            large(9 << 20),
            413,
            "body_too_large",
            "8388608 bytes",
        ),
        (
            RETRIEVE,
            None,
            b"{}".to_vec(),
            415,
            "unsupported_media_type",
            "no Content-Type",
        ),
        (
            RETRIEVE,
            Some("text/plain"),
            b"{}".to_vec(),
            415,
            "unsupported_media_type",
            "text/plain",
        ),
        (
            "/v1/retreive",
            json,
            b"{}".to_vec(),
            404,
            "unknown_route",
            "/v1/retrieve",
        ),
        (
            "/",
            json,
            b"{}".to_vec(),
            404,
            "unknown_route",
            "/v1/retrieve",
        ),
    ] {
        let (got, error) = send(Method::POST, path, kind, body).await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(
            (got, error["code"].as_str().unwrap()),
            (status, code),
            "{message}"
        );
        assert!(message.contains(reason), "{message}");
    }
    let response = server.get(RETRIEVE).await;
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(error(response).await.0, 405);
    assert_eq!(send(Method::DELETE, "/metrics", None, vec![]).await.0, 405);
    let packed = server
        .client
        .post(server.url(RETRIEVE))
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_ENCODING, "gzip");
    assert_eq!(error(packed.body("{}").send().await.unwrap()).await.0, 415);
    assert_eq!(
        server.ask(json!({"query": "refunds"})).await["release"],
        "one"
    );
}
