//! What searches return.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use loci_digest::Digest;
use loci_index::{
    Delta, DocumentKey, Filter, Fusion, IndexedDocument, Mode, Normalization, Query, Revision,
    assemble,
};

use crate::{DIMENSIONS, document, embed, fresh, identity, make, upsert, with_metadata};

fn query<'a>(text: &'a str, vector: &'a [f32], mode: Mode) -> Query<'a> {
    Query {
        text,
        vector: Some(vector),
        k: 10,
        mode,
        ..Query::default()
    }
}

#[test]
fn an_empty_revision_answers_and_can_grow_and_shrink_back() {
    let dir = tempfile::tempdir().unwrap();
    let empty = fresh(&dir.path().join("0"), vec![]);
    let vector = embed("anything");
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Bm25] {
        assert_eq!(
            empty
                .search(&query("anything", &vector, mode))
                .unwrap()
                .hits,
            []
        );
    }
    make(
        Some(&dir.path().join("0")),
        upsert(vec![document("d", &["one"])]),
        &dir.path().join("1"),
    )
    .unwrap();
    assert_eq!(
        Revision::open(&dir.path().join("1"))
            .unwrap()
            .search(&query("one", &vector, Mode::Bm25))
            .unwrap()
            .hits
            .len(),
        1
    );
    let gone = Delta {
        remove: vec![DocumentKey::new("s", "d")],
        upsert: vec![],
    };
    let info = make(Some(&dir.path().join("1")), gone, &dir.path().join("2")).unwrap();
    assert_eq!(info.content_id, empty.info().content_id);
    assert_eq!(
        Revision::open(&dir.path().join("2"))
            .unwrap()
            .search(&query("one", &vector, Mode::Hybrid))
            .unwrap()
            .hits,
        []
    );
}

#[test]
fn hits_carry_the_whole_citation() {
    let dir = tempfile::tempdir().unwrap();
    let mut indexed = with_metadata(
        document("guide", &["Pressing the red button", "stops the engine"]),
        &[("year", &[2026.into()])],
    );
    indexed.document.title = Some("Manual".into());
    let expected = indexed.document.clone();
    let revision = fresh(dir.path(), vec![indexed, document("other", &["unrelated"])]);
    let hit = revision
        .search(&query("STOPS, engine?", &[], Mode::Bm25))
        .unwrap()
        .hits
        .remove(0);
    assert_eq!(hit.passage, expected.passages[1]);
    assert_eq!(
        (hit.key, hit.uri, hit.version, hit.memory),
        (
            expected.key,
            expected.uri,
            expected.version,
            expected.memory
        )
    );
    assert_eq!(
        (hit.title, hit.metadata),
        (expected.title, expected.metadata)
    );
    assert_eq!(
        (hit.dense, hit.bm25, hit.fused),
        (None, Some(hit.score), hit.score)
    );
}

#[test]
fn any_text_is_words_and_any_k_is_met() {
    let dir = tempfile::tempdir().unwrap();
    let revision = fresh(
        dir.path(),
        vec![document("d", &["café au lait", "title:x AND not"])],
    );
    let found = |text: &str| {
        revision
            .search(&Query {
                text,
                k: 1_000_000,
                mode: Mode::Bm25,
                ..Query::default()
            })
            .unwrap()
            .hits
            .len()
    };
    for text in [
        "",
        "\"",
        "title:(x",
        "AND OR NOT",
        "a^~[TO}*",
        "\\",
        "\0",
        &"( ".repeat(1 << 19),
    ] {
        assert!(found(text) <= 2, "{text}");
    }
    assert_eq!(found("CAFE"), 1);
    assert_eq!(found("+lait -title"), 2);
    let vector = embed("x");
    for mode in [Mode::Hybrid, Mode::Dense] {
        assert_eq!(
            revision
                .search(&Query {
                    k: 1_000_000,
                    ..query("café", &vector, mode)
                })
                .unwrap()
                .hits
                .len(),
            2
        );
    }
}

#[test]
fn hybrid_scores_are_those_of_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..300)
        .map(|i| format!("item {i} of colour{} and shape{}", i % 7, i % 11))
        .collect();
    let all = texts
        .iter()
        .enumerate()
        .map(|(i, text)| document(&format!("d{i}"), &[text]))
        .collect();
    let revision = fresh(dir.path(), all);
    let vector = embed("a question");
    let text = "colour3 shape5 item";
    let all_of = |mode| {
        revision
            .search(&Query {
                k: 300,
                ..query(text, &vector, mode)
            })
            .unwrap()
            .hits
    };
    let (dense, bm25) = (all_of(Mode::Dense), all_of(Mode::Bm25));
    let hybrid = revision
        .search(&query(text, &vector, Mode::Hybrid))
        .unwrap()
        .hits;
    assert_eq!(hybrid.len(), 10);
    assert!(hybrid.is_sorted_by(|a, b| a.score >= b.score));
    for hit in &hybrid {
        let side =
            |hits: &[loci_index::Hit]| hits.iter().find(|h| h.key == hit.key).map(|h| h.score);
        assert_eq!((hit.dense, hit.bm25), (side(&dense), side(&bm25)));
        assert!(hit.fused <= 1.0 && hit.fused == hit.score);
    }
    let first = |normalization, weight| {
        let fusion = Fusion::new(normalization, weight).unwrap();
        let revision = Revision::open(dir.path()).unwrap().with_fusion(fusion);
        revision
            .search(&query(text, &vector, Mode::Hybrid))
            .unwrap()
            .hits
            .remove(0)
    };
    for normalization in Normalization::ALL {
        assert_eq!(first(normalization, 1.0).key, dense[0].key);
        assert_eq!(first(normalization, 0.0).bm25, Some(bm25[0].score));
    }
}

#[test]
fn a_revision_fuses_as_it_was_made_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let fusion = Fusion::new(Normalization::ReciprocalRank, 0.25).unwrap();
    let make = |previous: Option<&Path>, delta, fusion, name: &str| {
        let out = path(name);
        assemble(previous, delta, &identity(), fusion, &out, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap()
    };
    let plain = make(
        None,
        upsert(vec![document("d", &["one", "two"])]),
        Fusion::default(),
        "plain",
    );
    let ranked = make(Some(&path("plain")), Delta::default(), fusion, "ranked");
    assert_ne!(plain.content_id, ranked.content_id);
    assert_eq!(
        Revision::open(&path("plain")).unwrap().fusion(),
        Fusion::default()
    );
    let opened = Revision::open_verified(&path("ranked")).unwrap();
    assert_eq!(opened.fusion(), fusion);
    let vector = embed("one");
    let best = opened
        .search(&query("one", &vector, Mode::Hybrid))
        .unwrap()
        .hits
        .remove(0);
    assert!(best.score <= 1.0 / 61.0, "{}", best.score);
    let back = make(
        Some(&path("ranked")),
        Delta::default(),
        Fusion::default(),
        "back",
    );
    assert_eq!(back.content_id, plain.content_id);
}

#[test]
fn equal_passages_are_ranked_by_document() {
    let dir = tempfile::tempdir().unwrap();
    let twins = |names: &[&str]| -> Vec<IndexedDocument> {
        names
            .iter()
            .map(|name| document(name, &["twin", "twin"]))
            .collect()
    };
    make(None, upsert(twins(&["m", "z"])), &dir.path().join("0")).unwrap();
    make(
        Some(&dir.path().join("0")),
        upsert(twins(&["b"])),
        &dir.path().join("1"),
    )
    .unwrap();
    let revision = Revision::open(&dir.path().join("1")).unwrap();
    let vector = embed("twin");
    let hits = revision
        .search(&Query {
            k: 3,
            ..query("twin", &vector, Mode::Dense)
        })
        .unwrap()
        .hits;
    let order: Vec<_> = hits
        .iter()
        .map(|hit| (hit.key.document.as_str(), hit.passage.ordinal))
        .collect();
    assert_eq!(order, [("b", 0), ("b", 1), ("m", 0)]);
}

#[test]
fn vectors_are_found_again_by_chunk_hash() {
    let dir = tempfile::tempdir().unwrap();
    let indexed = document("d", &["one", "two"]);
    let hashes: Vec<Digest> = indexed
        .document
        .passages
        .iter()
        .map(|p| p.chunk_hash(None))
        .collect();
    let revision = fresh(dir.path(), vec![indexed.clone()]);
    let found = revision
        .vectors_of(&HashSet::from([hashes[1], Digest::of("no such chunk")]))
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[&hashes[1]], indexed.vectors[DIMENSIONS..]);
    assert_eq!(revision.documents().unwrap()[0].chunks, hashes);
}

/// 9,000 passages of 90 documents; the topic of a document is its number modulo 3.
fn large() -> Vec<IndexedDocument> {
    let one = |d: usize| {
        let texts: Vec<String> = (0..100).map(|i| format!("passage {i} of {d}")).collect();
        let indexed = document(
            &format!("d{d:02}"),
            &texts.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        with_metadata(
            indexed,
            &[
                ("topic", &[((d % 3) as i64).into()]),
                ("number", &[(d as i64).into()]),
            ],
        )
    };
    (0..90).map(one).collect()
}

fn recall(revision: &Revision, filter: &Option<Filter>) -> (f64, &'static str) {
    let (mut found, mut strategy) = (0, "");
    for i in 0..50 {
        let vector = embed(&format!("question {i}"));
        let search = |exact| {
            revision
                .search(&Query {
                    exact,
                    filter: filter.clone(),
                    ..query("", &vector, Mode::Dense)
                })
                .unwrap()
        };
        let (near, exact) = (search(false), search(true));
        assert_eq!((near.hits.len(), exact.strategy), (10, "scan"));
        let exact: HashSet<_> = exact
            .hits
            .into_iter()
            .map(|hit| (hit.key, hit.passage.ordinal))
            .collect();
        found += near
            .hits
            .into_iter()
            .filter(|hit| exact.contains(&(hit.key.clone(), hit.passage.ordinal)))
            .count();
        strategy = near.strategy;
    }
    (found as f64 / 500.0, strategy)
}

#[test]
fn graphs_find_what_scans_find_among_what_is_live_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let revision = fresh(&dir.path().join("0"), large());
    let (graph, strategy) = recall(&revision, &None);
    assert!(
        graph >= 0.97 && strategy == "graph",
        "{graph} by {strategy}"
    );
    let broad = Some(Filter::Not(Box::new(Filter::In(
        "number".into(),
        (0..2).map(Into::into).collect(),
    ))));
    let (filtered, strategy) = recall(&revision, &broad);
    assert!(
        filtered >= 0.97 && strategy == "graph",
        "{filtered} by {strategy}"
    );
    let narrow = Some(Filter::Equals("topic".into(), 1.into()));
    assert_eq!(recall(&revision, &narrow), (1.0, "scan"));

    let gone = Delta {
        remove: (0..2)
            .map(|d| DocumentKey::new("s", format!("d{d:02}")))
            .collect(),
        upsert: vec![document("x", &["new"])],
    };
    make(Some(&dir.path().join("0")), gone, &dir.path().join("1")).unwrap();
    let smaller = Revision::open(&dir.path().join("1")).unwrap();
    let (graph, strategy) = recall(&smaller, &None);
    assert!(
        graph >= 0.97 && strategy == "graph+scan",
        "{graph} by {strategy}"
    );
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                assert_eq!(
                    smaller
                        .search(&query("", &embed("many at a time"), Mode::Dense))
                        .unwrap()
                        .hits
                        .len(),
                    10
                )
            });
        }
    });
}
