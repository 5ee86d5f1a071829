//! What graphs find behind filters, in vectors that lie in clusters as those of texts do.

use std::collections::HashSet;

use loci_index::{Bounds, Filter, IndexedDocument, Mode, Query, Revision};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::{DIMENSIONS, document, fresh, with_metadata};

const TOPICS: i64 = 40;
const DOCUMENTS: i64 = 240;
const PASSAGES: usize = 100;

/// Numbers from -1 to 1 that follow from the seed (SplitMix64; Steele, Lea and Flood, 2014).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A unit vector near the centre of a topic; the more so the less it is `spread`.
fn near(topic: i64, spread: f32, noise: &mut Noise) -> Vec<f32> {
    let mut centre = Noise(topic as u64 * 7919);
    let raw: Vec<f32> = (0..DIMENSIONS)
        .map(|_| centre.next() + spread * noise.next())
        .collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| x / norm).collect()
}

/// 24,000 passages. The topic of a document decides where its passages lie, its number does not.
fn clustered() -> Vec<IndexedDocument> {
    let mut noise = Noise(1);
    let mut one = |d: i64| {
        let texts: Vec<String> = (0..PASSAGES).map(|i| format!("passage {i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut indexed = document(&format!("d{d:03}"), &texts);
        let vectors = (0..PASSAGES).flat_map(|_| near(d % TOPICS, 0.8, &mut noise));
        indexed.vectors = vectors.collect();
        let number = d / TOPICS;
        with_metadata(
            indexed,
            &[
                ("topic", &[(d % TOPICS).into()]),
                ("number", &[number.into()]),
            ],
        )
    };
    (0..DOCUMENTS).map(&mut one).collect()
}

fn below(field: &str, bound: i64) -> Filter {
    let bounds = Bounds {
        lt: Some(bound.into()),
        ..Bounds::default()
    };
    Filter::Range(field.to_owned(), bounds)
}

/// Filters that pass from next to nothing to nearly all: random and correlated with where vectors lie, negated, conjunctions.
fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        (1..=TOPICS).prop_map(|n| below("topic", n)),
        (1..=DOCUMENTS / TOPICS).prop_map(|n| below("number", n)),
        prop::collection::vec(0..TOPICS, 1..4).prop_map(|topics| Filter::In(
            "topic".into(),
            topics.into_iter().map(Into::into).collect()
        )),
    ];
    let leaf = prop_oneof![leaf.clone(), leaf.prop_map(|f| Filter::Not(Box::new(f)))];
    prop_oneof![
        3 => leaf.clone(),
        1 => (leaf.clone(), leaf).prop_map(|(a, b)| Filter::And(vec![a, b])),
    ]
}

/// The share of the ten nearest that is found, over questions about each topic; and whether a graph was walked.
fn recall(revision: &Revision, filter: &Filter) -> (f64, bool) {
    let mut noise = Noise(2);
    let (mut found, mut wanted, mut walked) = (0, 0, false);
    for topic in 0..TOPICS {
        let vector = near(topic, 0.8, &mut noise);
        let search = |exact| {
            let query = Query {
                vector: Some(&vector),
                k: 10,
                filter: Some(filter.clone()),
                mode: Mode::Dense,
                exact,
                ..Query::default()
            };
            revision.search(&query).unwrap()
        };
        let (near, exact) = (search(false), search(true));
        assert_eq!(near.hits.len(), exact.hits.len());
        let name = |hit: &loci_index::Hit| (hit.key.clone(), hit.passage.ordinal);
        let best: HashSet<_> = exact.hits.iter().map(name).collect();
        let hit = near.hits.iter().filter(|hit| best.contains(&name(hit)));
        let (hit, all) = (hit.count(), best.len());
        match near.strategy {
            "scan" | "none" => assert_eq!(hit, all, "a scan is exact: {filter:?}"),
            _ => walked = true,
        }
        (found, wanted) = (found + hit, wanted + all);
    }
    (found as f64 / (wanted as f64).max(1.0), walked)
}

#[test]
fn filters_cost_no_recall_at_any_share_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    let revision = fresh(dir.path(), clustered());
    // Nearly all pass, by chance and by place: graphs are walked.
    let most = [
        Filter::Not(Box::new(Filter::Equals("number".into(), 0.into()))),
        Filter::Not(Box::new(Filter::Equals("topic".into(), 7.into()))),
        below("topic", TOPICS - 4),
        Filter::And(vec![below("topic", TOPICS - 2), below("topic", TOPICS - 4)]),
    ];
    for filter in &most {
        let (recall, walked) = recall(&revision, filter);
        assert!(
            walked && recall >= 0.97,
            "{recall} for {filter:?}, walked: {walked}"
        );
    }
    let config = ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let tried = runner.run(&filter(), |filter| {
        let (recall, _) = recall(&revision, &filter);
        let empty = revision.count(&filter).unwrap() == 0;
        prop_assert!(empty || recall >= 0.97, "{} for {:?}", recall, filter);
        Ok(())
    });
    tried.unwrap();
}
