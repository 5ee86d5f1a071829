//! What good requests get, and that the OpenAPI document says so.

use std::ops::ControlFlow;

use loci_models::Role;
use loci_recall::wire::{EmbeddingsResponse, RetrieveResponse, Vector};
use serde_json::{Value, json};

use crate::support::{PIPELINE, Server, TEXTS, encoder, load_request, options};

#[tokio::test(flavor = "multi_thread")]
async fn passages_are_ranked_and_cited() {
    let server = Server::start(options()).await;
    for (question, topic) in [
        ("When do I get my money back?", "refunds"),
        ("Which birds swim but do not fly?", "penguins"),
        ("baking", "bread"),
    ] {
        let answer: RetrieveResponse =
            serde_json::from_value(server.ask(json!({"query": question})).await).unwrap();
        assert_eq!(answer.passages.len(), 5, "k is 5 when absent");
        assert!(answer.passages.is_sorted_by(|a, b| a.score >= b.score));
        let (best, (_, text)) = (
            &answer.passages[0],
            TEXTS.iter().find(|(name, _)| *name == topic).unwrap(),
        );
        assert_eq!(best.text, format!("{text} (one)"), "{question}");
        let citation = &best.citation;
        assert_eq!(
            (citation.source.as_str(), citation.document.as_str()),
            ("handbook", format!("{topic}.md").as_str())
        );
        assert_eq!(
            (citation.uri.as_str(), citation.version.as_str()),
            (format!("https://handbook.example/{topic}").as_str(), "one")
        );
        assert_eq!(
            (citation.span, citation.headings.as_slice()),
            ([3, 3 + text.len() as u64], [topic.to_owned()].as_slice())
        );
        assert_eq!(citation.title.as_deref(), Some("Handbook"));
        assert_eq!(best.metadata["topic"], [json!(topic)]);
        let scores = &best.scores;
        assert!(
            scores.fused == best.score && scores.dense.unwrap() > 0.1 && scores.bm25.is_some(),
            "{scores:?}"
        );
        let times = answer.timings;
        assert!(
            times.embed_ms > 0.0
                && times.search_ms > 0.0
                && times.total_ms >= times.embed_ms + times.search_ms,
            "{times:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_narrow_and_explain_tells_how() {
    let server = Server::start(options()).await;
    let query = json!({"query": "refunds", "k": 10, "filters": {"topic": ["bread", "penguins"]}, "explain": true, "pipeline": "support"});
    let answer = server.ask(query).await;
    let found: Vec<&str> = answer["passages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["citation"]["document"].as_str().unwrap())
        .collect();
    assert!(
        found.len() == 2 && found.contains(&"bread.md") && found.contains(&"penguins.md"),
        "{found:?}"
    );
    let explain = &answer["explain"];
    assert_eq!(
        (
            &explain["passing"],
            &explain["passages"],
            &explain["pipeline"]
        ),
        (&json!(2), &json!(6), &json!(PIPELINE))
    );
    assert_eq!(
        (&explain["strategy"], &explain["truncated"]),
        (&json!("scan"), &json!(false))
    );
    assert_eq!(
        explain["contentId"],
        server.recall.serving()[0].content_id.to_string()
    );
    let weights = &explain["fusion"];
    assert_eq!(weights["normalization"], "minMax");
    assert_eq!(
        weights["dense"].as_f64().unwrap() + weights["bm25"].as_f64().unwrap(),
        1.0
    );

    let long = server
        .ask(json!({"query": "refunds ".repeat(2000), "explain": true}))
        .await;
    assert_eq!(
        (&long["explain"]["truncated"], &long["explain"]["passing"]),
        (&json!(true), &Value::Null)
    );
    let none = server
        .ask(json!({"query": "refunds", "filters": {"topic": "absent"}}))
        .await;
    assert_eq!((&none["passages"], none.get("explain")), (&json!([]), None));
}

fn floats(base64: &str) -> Vec<f32> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = base64
        .trim_end_matches('=')
        .chars()
        .flat_map(|c| {
            (0..6)
                .rev()
                .map(move |i| (DIGITS.find(c).unwrap() >> i & 1) as u8)
        })
        .collect();
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit))
        .collect();
    bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_the_encoders_in_both_formats() {
    let server = Server::start(options()).await;
    let embed = async |body: Value| {
        let response = server
            .post("/v1/embeddings", &body)
            .await
            .error_for_status()
            .unwrap();
        assert_eq!(response.headers()["loci-release"], "one");
        response.json::<EmbeddingsResponse>().await.unwrap()
    };
    let texts: Vec<String> = (0..12).map(|i| format!("{} {i}", TEXTS[i % 6].1)).collect();
    let plain: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = encoder()
        .embed(&plain, Role::Passage, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    // Few texts go as a query, many as bulk work.
    for count in [1, 3, 12] {
        let answer =
            embed(json!({"model": PIPELINE, "input": &texts[..count], "dimensions": 384})).await;
        assert_eq!(
            (answer.data.len(), answer.model.as_str(), answer.truncated),
            (count, PIPELINE, 0)
        );
        for (i, (item, expected)) in answer
            .data
            .iter()
            .zip(expected.vectors.chunks(384))
            .enumerate()
        {
            assert_eq!(
                (item.index, &item.embedding),
                (i as u64, &Vector::Float(expected.to_vec()))
            );
        }
    }
    let answer =
        embed(json!({"model": "support", "input": texts, "encoding_format": "base64"})).await;
    assert_eq!(
        (answer.usage.prompt_tokens, answer.usage.total_tokens),
        (expected.tokens as u64, expected.tokens as u64)
    );
    for (item, expected) in answer.data.iter().zip(expected.vectors.chunks(384)) {
        let Vector::Base64(text) = &item.embedding else {
            panic!("not base64: {item:?}")
        };
        assert_eq!(floats(text), expected);
    }
    let one = embed(json!({"input": texts[0], "input_type": "query"})).await;
    let query = encoder()
        .embed(&plain[..1], Role::Query, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(one.data[0].embedding, Vector::Float(query.vectors));
    assert_eq!(
        embed(json!({"input": ["long ".repeat(1000), "short".to_owned()]}))
            .await
            .truncated,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_move() {
    let server = Server::start(options()).await;
    let directory = server.dir.path().join("one");
    let mut strict = load_request("strict", directory);
    strict.latency_budget = Some(std::time::Duration::from_nanos(1));
    let prepared = server.recall.prepare(strict).await.unwrap();
    server.recall.switch(prepared);
    for _ in 0..3 {
        server.ask(json!({"query": "refunds"})).await;
    }
    server
        .post("/v1/retrieve", &json!({"query": "refunds", "k": 0}))
        .await;
    server
        .post("/v1/embeddings", &json!({"input": "refunds"}))
        .await;
    server.get("/made/up").await;

    let response = server.get("/metrics").await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            name.starts_with("loci_") && value.parse::<f64>().is_ok(),
            "{line}"
        );
    }
    for (name, value) in [
        (
            r#"loci_http_requests_total{route="/v1/retrieve",code="200"}"#,
            3.0,
        ),
        (
            r#"loci_http_requests_total{route="/v1/retrieve",code="400"}"#,
            1.0,
        ),
        (r#"loci_http_requests_total{route="none",code="404"}"#, 1.0),
        (
            r#"loci_retrieve_duration_seconds_count{stage="embed"}"#,
            3.0,
        ),
        (
            r#"loci_retrieve_duration_seconds_count{stage="total"}"#,
            3.0,
        ),
        (
            r#"loci_queries_over_latency_budget_total{pipeline="agents/support"}"#,
            3.0,
        ),
        (
            r#"loci_release_switches_total{pipeline="agents/support"}"#,
            2.0,
        ),
        (
            r#"loci_release_info{pipeline="agents/support",release="strict"}"#,
            1.0,
        ),
        (
            r#"loci_release_info{pipeline="agents/support",release="one"}"#,
            0.0,
        ),
        ("loci_http_requests_in_flight", 1.0),
    ] {
        assert_eq!(server.metric(name).await, value, "{name} in\n{text}");
    }
    assert!(
        server
            .metric(r#"loci_retrieve_duration_seconds_sum{stage="total"}"#)
            .await
            > 0.0
    );
    assert!(server.metric("loci_embedded_tokens_total").await > 2.0);
}
