//! Re-ranking within a budget, and answers that say so.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loci_digest::Digest;
use loci_index::{Delta, Fusion, Identity, RerankMethod, Reranking, assemble};
use loci_recall::{Auth, LoadRequest};
use serde_json::{Value, json};

use crate::support::{PIPELINE, Server, identity, load_request, options, write_revision};

const QUERY: &str = "When do I get my money back?";

fn late() -> Reranking {
    Reranking {
        method: RerankMethod::LateInteraction,
        model: None,
        candidates: 4,
        budget_ms: 60_000,
    }
}

/// A revision of the usual texts that is re-ranked as `says`.
fn reranked(dir: &Path, says: Reranking) -> PathBuf {
    let (plain, out) = (dir.join("plain"), dir.join("reranked"));
    write_revision(&plain, "one", |vectors| vectors);
    let identity = Identity {
        rerank: Some(says),
        ..identity()
    };
    let (nothing, fusion) = (Delta::default(), Fusion::default());
    assemble(Some(&plain), nothing, &identity, fusion, &out, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    out
}

async fn serving(latency_budget: Option<Duration>) -> Server {
    let server = Server::empty(options(), Auth::Off).await;
    let directory = reranked(server.dir.path(), late());
    let request = LoadRequest {
        latency_budget,
        ..load_request("one", directory)
    };
    let prepared = server.recall.prepare(request).await.unwrap();
    server.recall.switch(prepared);
    server
}

async fn counted(server: &Server, applied: bool) -> f64 {
    let name = format!("loci_reranks_total{{pipeline=\"{PIPELINE}\",applied=\"{applied}\"}}");
    server.metric(&name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_are_compared_anew_and_the_answer_says_so() {
    let server = serving(None).await;
    let query = json!({"query": QUERY, "k": 6, "explain": true});
    let answer = server.ask(query).await;
    assert_eq!(answer["rerank"], json!({"applied": true, "candidates": 4}));
    assert!(answer["timings"]["rerankMs"].as_f64().unwrap() > 0.0);
    let passages = answer["passages"].as_array().unwrap();
    assert_eq!(passages.len(), 6);
    let (compared, others) = passages.split_at(4);
    let score = |passage: &Value, name: &str| passage["scores"][name].as_f64();
    for passage in compared {
        let score = score(passage, "rerank").unwrap();
        assert_eq!(passage["score"].as_f64(), Some(score));
        assert!(passage["scores"]["fused"].is_number());
    }
    let falls = |passages: &[Value]| {
        passages.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64())
    };
    assert!(falls(compared) && falls(others), "{answer}");
    for passage in others {
        assert_eq!(score(passage, "rerank"), None);
        assert_eq!(passage["score"].as_f64(), score(passage, "fused"));
    }
    let explain = &answer["explain"]["rerank"];
    let said = json!({"method": "lateInteraction", "candidates": 4, "budgetMs": 60_000});
    assert_eq!(explain, &said);
    // Fewer passages than are compared, in the same order.
    let two = server.ask(json!({"query": QUERY, "k": 2})).await;
    let texts = |passages: &[Value]| -> Vec<Value> {
        passages
            .iter()
            .map(|passage| passage["text"].clone())
            .collect()
    };
    assert_eq!(
        texts(two["passages"].as_array().unwrap()),
        texts(&passages[..2])
    );
    assert_eq!(
        (counted(&server, true).await, counted(&server, false).await),
        (2.0, 0.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_time_the_order_stays_and_the_answer_says_why() {
    let server = serving(Some(Duration::from_nanos(1))).await;
    let answer = server.ask(json!({"query": QUERY, "k": 6})).await;
    let rerank = &answer["rerank"];
    assert_eq!(
        (&rerank["applied"], &rerank["candidates"]),
        (&json!(false), &json!(0))
    );
    let reason = rerank["reason"].as_str().unwrap();
    assert!(reason.contains("no room for two passages"), "{reason}");
    for passage in answer["passages"].as_array().unwrap() {
        assert_eq!(passage["score"], passage["scores"]["fused"]);
        assert_eq!(passage["scores"].get("rerank"), None);
    }
    assert_eq!(
        (counted(&server, true).await, counted(&server, false).await),
        (0.0, 1.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_pipeline_without_re_ranking_are_as_they_were() {
    let server = Server::start(options()).await;
    let answer = server.ask(json!({"query": QUERY, "explain": true})).await;
    assert_eq!(answer.get("rerank"), None);
    assert_eq!(answer["timings"].get("rerankMs"), None);
    assert_eq!(answer["explain"].get("rerank"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_encoder_that_is_not_there_is_missed_before_it_serves() {
    let server = Server::empty(options(), Auth::Off).await;
    let says = Reranking {
        method: RerankMethod::CrossEncoder,
        model: Some(Digest::of("judged")),
        ..late()
    };
    let directory = reranked(server.dir.path(), says);
    let prepared = server.recall.prepare(load_request("one", directory)).await;
    let error = prepared.unwrap_err().to_string();
    assert!(
        error.contains("cross-encoder, and none is given"),
        "{error}"
    );
}
