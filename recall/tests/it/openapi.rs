//! The OpenAPI document against real answers.

use loci_recall::Auth;
use serde_json::{Value, json};

use crate::chat_support::{Stream, TALKATIVE, ask};
use crate::support::{PIPELINE, Server, TEXTS, options};

/// Checks that `value` is what `schema` says: every field is documented and every required one
/// is there.
fn check(value: &Value, schema: &Value, document: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return check(
            value,
            document
                .pointer(reference.trim_start_matches('#'))
                .expect(reference),
            document,
            at,
        );
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let fits = |option: &&Value| match (value, option["type"].as_str()) {
            (Value::Null, kind) => kind == Some("null"),
            (Value::Array(_), kind) => kind == Some("array"),
            (Value::String(_), kind) => kind == Some("string"),
            (_, kind) => kind != Some("null"),
        };
        return check(
            value,
            options
                .iter()
                .find(fits)
                .unwrap_or_else(|| panic!("{at}: {value} is not in {schema}")),
            document,
            at,
        );
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() && kinds.contains(&"integer") => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if kinds.is_empty()
        || (kinds == ["object"]
            && schema.get("properties").is_none()
            && schema.get("additionalProperties").is_none())
    {
        return;
    }
    assert!(
        kinds.contains(&kind),
        "{at}: {value} is {kind}, documented as {kinds:?}"
    );
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| check(item, &schema["items"], document, &format!("{at}[]"))),
        Value::Object(fields) => {
            for (name, field) in fields {
                let known = schema["properties"]
                    .get(name)
                    .or(schema.get("additionalProperties"));
                check(
                    field,
                    known.unwrap_or_else(|| panic!("{at}.{name} is not documented")),
                    document,
                    &format!("{at}.{name}"),
                );
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    fields.contains_key(name.as_str().unwrap()),
                    "{at} lacks {name}"
                );
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_answers_are_as_documented() {
    let server = Server::start(options()).await;
    let document: Value = server.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(
        document,
        serde_json::from_str::<Value>(&loci_recall::openapi()).unwrap()
    );
    let texts: Vec<&str> = TEXTS.iter().map(|(_, text)| *text).collect();
    for (method, path, body) in [
        (
            "post",
            "/v1/retrieve",
            json!({"query": "refunds", "explain": true, "filters": {"topic": {"exists": true}}}),
        ),
        ("post", "/v1/retrieve", json!({"query": "refunds"})),
        ("post", "/v1/retrieve", json!({"query": ""})),
        (
            "post",
            "/v1/retrieve",
            json!({"query": "a", "pipeline": "absent"}),
        ),
        ("post", "/v1/embeddings", json!({"input": texts})),
        (
            "post",
            "/v1/embeddings",
            json!({"input": "a", "encoding_format": "base64"}),
        ),
        ("get", "/v1/models", Value::Null),
        ("get", "/readyz", Value::Null),
    ] {
        let response = if method == "post" {
            server.post(path, &body).await
        } else {
            server.get(path).await
        };
        let status = response.status().as_u16().to_string();
        let schema = &document["paths"][path][method]["responses"][&status]["content"]["application/json"]
            ["schema"];
        assert!(schema.is_object(), "{path} {status} is documented");
        let answer = response.json().await.unwrap();
        check(&answer, schema, &document, &format!("{path} {status} "));
    }
    let models: Value = server.get("/v1/models").await.json().await.unwrap();
    let model = &models["data"][0];
    assert_eq!(
        (&model["id"], &model["release"], &model["dimensions"]),
        (&json!(PIPELINE), &json!("one"), &json!(384))
    );
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_chats_are_as_documented() {
    let server = Server::empty(options(), Auth::Off).await;
    server.chat_release("one", &TALKATIVE).await;
    let document: Value = server.get("/openapi.json").await.json().await.unwrap();
    let responses = &document["paths"]["/v1/chat/completions"]["post"]["responses"];
    let mut request = ask("When are refunds paid?", 5);
    let unknown = json!({"messages": request["messages"], "model": "support:absent"});
    for (body, status) in [
        (&request, "200"),
        (&json!({"messages": []}), "400"),
        (&unknown, "404"),
    ] {
        let response = server.post_chat(body).await;
        assert_eq!(response.status().as_str(), status);
        let schema = &responses[status]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{status} is documented");
        let answer = response.json().await.unwrap();
        check(&answer, schema, &document, &format!("chat {status} "));
    }
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let mut stream = Stream::new(server.post_chat(&request).await);
    let schema = &responses["200"]["content"]["text/event-stream"]["schema"];
    assert!(schema.is_object(), "pieces are documented");
    while let Some(data) = stream.next().await {
        if data != "[DONE]" {
            let piece = serde_json::from_str(&data).unwrap();
            check(&piece, schema, &document, "piece ");
        }
    }
    let models: Value = server.get("/v1/models").await.json().await.unwrap();
    let schema = &document["components"]["schemas"]["ModelList"];
    check(&models, schema, &document, "models ");
}
