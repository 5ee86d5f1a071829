//! Orders by late interaction and by a cross-encoder, and what a limit does to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loci_digest::Digest;
use loci_index::{DocumentKey, Hit, Passage, RerankMethod, Reranking};
use loci_models::{DeviceRequest, Encoder, Role, max_sim};
use loci_rerank::{Outcome, Reranker, Skip};

const QUERY: &str = "The thing";

fn encoder() -> Arc<Encoder> {
    let dir = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("../models/tests/reference/tiny");
    Arc::new(Encoder::load(&dir, DeviceRequest::Cpu).unwrap())
}

fn late(candidates: usize) -> Reranking {
    Reranking {
        method: RerankMethod::LateInteraction,
        model: None,
        candidates,
        budget_ms: 200,
    }
}

/// Hits in the order of their texts, with falling scores.
fn hits(texts: &[&str]) -> Vec<Hit> {
    let hit = |(at, text): (usize, &&str)| {
        let score = 1.0 - at as f32 / 10.0;
        Hit {
            score,
            dense: None,
            bm25: None,
            fused: score,
            key: DocumentKey::new("handbook", format!("{at}.md")),
            uri: String::new(),
            version: String::new(),
            memory: "factual".to_owned(),
            title: (at == 1).then(|| "Title".to_owned()),
            passage: Passage {
                ordinal: 0,
                text: (*text).to_owned(),
                span: 0..1,
                headings: Vec::new(),
            },
            metadata: BTreeMap::new(),
        }
    };
    texts.iter().enumerate().map(hit).collect()
}

fn order(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.key.document.as_str()).collect()
}

const TEXTS: [&str; 4] = ["another matter", "zebra", "the thing", "The thing"];

#[test]
fn the_best_are_put_in_order_and_the_others_stay_behind_them() {
    let encoder = encoder();
    let reranker = Reranker::new(&late(3), &encoder, None).unwrap();
    let ranked = reranker.rank(QUERY, hits(&TEXTS), None).unwrap();
    assert_eq!(ranked.outcome, Outcome::Applied(3));

    let mut going_on = |_| ControlFlow::Continue(());
    let asked = encoder.token_vectors(&[QUERY], Role::Query, &mut going_on);
    let seen = ["another matter", "Title\nzebra", "the thing"];
    let said = encoder.token_vectors(&seen, Role::Passage, &mut going_on);
    let (asked, said) = (asked.unwrap(), said.unwrap());
    let mut expected: Vec<(f32, String)> = (0..3)
        .map(|at| {
            (
                max_sim(asked.of(0), said.of(at), said.dimensions),
                format!("{at}.md"),
            )
        })
        .collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    let documents: Vec<&str> = expected
        .iter()
        .map(|(_, document)| document.as_str())
        .collect();
    assert_eq!(order(&ranked.hits), [documents, vec!["3.md"]].concat());
    let mut scores: Vec<Option<f32>> = expected.iter().map(|(score, _)| Some(*score)).collect();
    scores.push(None);
    assert_eq!(ranked.scores, scores);
    for (hit, score) in ranked.hits.iter().zip(&ranked.scores) {
        assert_eq!(hit.score, score.unwrap_or(hit.fused));
    }
    // Without a limit it is the same each time, whatever it took before.
    let again = reranker.rank(QUERY, hits(&TEXTS), None).unwrap();
    assert_eq!(again.hits, ranked.hits);
}

#[test]
fn equal_passages_stay_as_they_stood() {
    let reranker = Reranker::new(&late(20), &encoder(), None).unwrap();
    let same = ["the thing"; 5];
    let ranked = reranker.rank(QUERY, hits(&same[..1]), None).unwrap();
    assert_eq!(ranked.outcome, Outcome::Skipped(Skip::Few));
    let mut found = hits(&same);
    found[1].title = None;
    let ranked = reranker.rank(QUERY, found.clone(), None).unwrap();
    assert_eq!(order(&ranked.hits), order(&found));
    assert!(
        reranker
            .rank(QUERY, Vec::new(), None)
            .unwrap()
            .hits
            .is_empty()
    );
}

#[test]
fn without_room_the_order_stays_and_the_reason_is_said() {
    let reranker = Reranker::new(&late(4), &encoder(), None).unwrap();
    let found = hits(&TEXTS);
    let whole = reranker.rank(QUERY, found.clone(), Some(Duration::from_secs(60)));
    assert_eq!(whole.unwrap().outcome, Outcome::Applied(4));
    // What a passage costs is known by now, and it is more than nothing.
    let none = reranker
        .rank(QUERY, found.clone(), Some(Duration::ZERO))
        .unwrap();
    let Outcome::Skipped(skip @ Skip::Budget { left, cost }) = none.outcome else {
        panic!("{:?}", none.outcome);
    };
    assert!(left.is_zero() && !cost.is_zero());
    assert!(skip.to_string().contains("no room"), "{skip}");
    assert_eq!((&none.hits, none.scores), (&found, vec![None; 4]));
}

#[test]
fn a_cross_encoder_must_be_given_and_be_the_one_that_was_judged() {
    let says = Reranking {
        method: RerankMethod::CrossEncoder,
        model: Some(Digest::of("judged")),
        ..late(4)
    };
    let error = Reranker::new(&says, &encoder(), None).unwrap_err();
    assert!(error.to_string().contains("none is given"), "{error}");
}

#[test]
fn when_the_time_is_over_before_all_are_compared_the_order_stays() {
    let reranker = Reranker::new(&late(40), &encoder(), None).unwrap();
    // Each is cut at the tokens that the model takes: more than one batch together.
    let long = "the thing ".repeat(60);
    let found = hits(&[long.as_str(); 40]);
    let left = Duration::from_nanos(1);
    let ranked = reranker.rank(QUERY, found.clone(), Some(left)).unwrap();
    assert_eq!(ranked.outcome, Outcome::Skipped(Skip::Deadline { left }));
    assert_eq!((ranked.hits, ranked.scores), (found, vec![None; 40]));
}
