//! Collection: everything reachable stays readable, everything else goes.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use loci_digest::Digest;
use loci_store::{Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::{Bed, all_files, both, damage, set_age};

both!(
    everything_reachable_stays_and_everything_else_goes,
    what_is_stored_or_looked_up_during_a_collection_survives_it,
    storing_or_asking_for_an_old_object_spares_it,
    a_collection_that_cannot_tell_what_is_reachable_deletes_nothing,
);

const HOUR: Duration = Duration::from_secs(3600);

/// An object that names earlier ones; a blob when it names none.
#[derive(Clone, Debug)]
struct Node {
    refs: Vec<usize>,
    root: bool,
    young: bool,
    recorded: bool,
}

fn graph() -> impl Strategy<Value = Vec<Node>> {
    let node = (vec(any::<usize>(), 0..4), 0..5, 0..5, any::<bool>());
    vec(node, 1..18).prop_map(|nodes| {
        let node = |(i, (refs, root, young, recorded)): (usize, (Vec<usize>, i32, i32, bool))| {
            let earlier: HashSet<usize> = refs.iter().filter_map(|r| r.checked_rem(i)).collect();
            Node {
                refs: earlier.into_iter().collect(),
                root: root == 0,
                young: young == 0,
                recorded,
            }
        };
        nodes.into_iter().enumerate().map(node).collect()
    })
}

fn reachable(nodes: &[Node]) -> HashSet<usize> {
    // A young blob stays by itself, a young manifest with all it names.
    let mut open: Vec<usize> = (0..nodes.len())
        .filter(|i| nodes[*i].root || nodes[*i].young)
        .collect();
    let mut seen = HashSet::new();
    while let Some(i) = open.pop() {
        if seen.insert(i) {
            open.extend(&nodes[i].refs);
        }
    }
    seen
}

async fn build(bed: &Bed, nodes: &[Node]) -> Vec<Digest> {
    let store = &bed.store;
    let mut digests: Vec<Digest> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let refs: Vec<Digest> = node.refs.iter().map(|r| digests[*r]).collect();
        let digest = if refs.is_empty() {
            store.put(Bytes::from(format!("blob {i}"))).await.unwrap()
        } else {
            store.put_manifest("node", &refs, &i).await.unwrap()
        };
        if node.recorded {
            store
                .record(&Digest::of(format!("key {i}")), &digest)
                .await
                .unwrap();
        }
        digests.push(digest);
    }
    for (node, digest) in nodes.iter().zip(&digests) {
        let area = if node.refs.is_empty() {
            "blobs"
        } else {
            "manifests"
        };
        let age = if node.young { Duration::ZERO } else { 2 * HOUR };
        set_age(&bed.file(area, digest), age);
    }
    digests
}

async fn check(bed: &Bed, nodes: Vec<Node>) {
    let store = &bed.store;
    let digests = build(bed, &nodes).await;
    let roots: Vec<Digest> = nodes
        .iter()
        .zip(&digests)
        .filter(|(node, _)| node.root)
        .map(|(_, d)| *d)
        .collect();
    let report = store.gc(&roots, HOUR).await.unwrap();
    let kept = reachable(&nodes);
    assert_eq!(
        (report.kept, report.swept),
        (kept.len() as u64, (nodes.len() - kept.len()) as u64)
    );
    assert_eq!(report.missing, []);
    for (i, node) in nodes.iter().enumerate() {
        let readable = if node.refs.is_empty() {
            store
                .get(&digests[i])
                .await
                .is_ok_and(|b| b == format!("blob {i}"))
        } else {
            store
                .get_manifest::<usize>("node", &digests[i])
                .await
                .is_ok_and(|body| body == i)
        };
        assert_eq!(readable, kept.contains(&i), "node {i} of {nodes:?}");
        let recorded = (node.recorded && readable).then_some(digests[i]);
        assert_eq!(
            store.lookup(&Digest::of(format!("key {i}"))).await.unwrap(),
            recorded
        );
    }
    let records = nodes
        .iter()
        .enumerate()
        .filter(|(i, n)| n.recorded && kept.contains(i))
        .count();
    assert_eq!(
        store.usage().await.unwrap().objects,
        (kept.len() + records) as u64
    );
}

async fn everything_reachable_stays_and_everything_else_goes(bed: Bed) {
    let config = ProptestConfig {
        cases: if bed.server.is_none() { 40 } else { 10 },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let here = tokio::runtime::Handle::current();
    let cases = tokio::task::spawn_blocking(move || {
        let case = std::cell::Cell::new(0);
        TestRunner::new(config).run(&graph(), |nodes| {
            case.set(case.get() + 1);
            here.block_on(async {
                check(&bed.another(&format!("case-{}", case.get())).await, nodes).await;
            });
            Ok(())
        })
    });
    cases.await.unwrap().unwrap();
}

/// Steps that store or look up what a collection is about to sweep: whatever they were given is whole.
async fn what_is_stored_or_looked_up_during_a_collection_survives_it(bed: Bed) {
    let store = &bed.store;
    // Something to mark, so that steps meet every phase of the collection.
    let mut root = store.put("root".into()).await.unwrap();
    for i in 0..100 {
        root = store.put_manifest("link", &[root], &i).await.unwrap();
    }
    for round in 0..25_u32 {
        for i in 0..6 {
            step(store, i).await;
        }
        for path in all_files(&bed.root) {
            set_age(&path, 2 * HOUR);
        }
        let collector = {
            let store = store.clone();
            tokio::spawn(async move { store.gc(&[root], HOUR).await.unwrap() })
        };
        let steps: Vec<_> = (0..6)
            .map(|i| {
                let store = store.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(u64::from(round * 7 % 40 + i) * 100))
                        .await;
                    step(&store, i).await
                })
            })
            .collect();
        for step in steps {
            let output = step.await.unwrap();
            let inner: Digest = store.get_manifest("outer", &output).await.unwrap();
            let blob: Digest = store.get_manifest("inner", &inner).await.unwrap();
            store.get(&blob).await.unwrap();
        }
        let report = collector.await.unwrap();
        assert_eq!(report.missing, [], "round {round}");
    }
}

/// What a worker does: look up, else store the parts, what names them, and the record.
async fn step(store: &Store, i: u32) -> Digest {
    let key = Digest::of(format!("key {i}"));
    if let Some(output) = store.lookup(&key).await.unwrap() {
        return output;
    }
    let blob = store.put(Bytes::from(format!("blob {i}"))).await.unwrap();
    let inner = store.put_manifest("inner", &[blob], &blob).await.unwrap();
    let output = store.put_manifest("outer", &[inner], &inner).await.unwrap();
    store.record(&key, &output).await.unwrap()
}

async fn storing_or_asking_for_an_old_object_spares_it(bed: Bed) {
    let store = &bed.store;
    let (put, asked, named, rest) = ("put", "asked", "named", "rest");
    for content in [put, asked, named, rest] {
        let digest = store.put(content.into()).await.unwrap();
        set_age(&bed.file("blobs", &digest), 2 * HOUR);
    }
    store.put(put.into()).await.unwrap();
    assert!(store.contains(&Digest::of(asked)).await.unwrap());
    store
        .put_manifest("m", &[Digest::of(named)], &0)
        .await
        .unwrap();
    let report = store.gc(&[], HOUR).await.unwrap();
    assert_eq!((report.kept, report.swept, report.bytes), (4, 1, 4));
    assert!(!store.contains(&Digest::of(rest)).await.unwrap());
}

async fn a_collection_that_cannot_tell_what_is_reachable_deletes_nothing(bed: Bed) {
    let store = &bed.store;
    let blob = store.put("blob".into()).await.unwrap();
    let manifest = store.put_manifest("m", &[blob], &0).await.unwrap();
    let error = store
        .gc(&[Digest::of("absent")], Duration::ZERO)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::MissingReference { .. }),
        "{error}"
    );

    let intact = fs::read(bed.file("manifests", &manifest)).unwrap();
    damage(
        &bed.file("manifests", &manifest),
        b"{\"kind\":\"m\",\"refs\":[],\"body\":0}",
    );
    let error = store.gc(&[manifest], Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(store.get(&blob).await.unwrap(), "blob");

    damage(&bed.file("manifests", &manifest), &intact);
    fs::remove_file(bed.file("blobs", &blob)).unwrap();
    let report = store.gc(&[manifest], Duration::ZERO).await.unwrap();
    assert_eq!((report.missing, report.kept), (vec![blob], 1));
}

#[tokio::test]
async fn leftovers_of_interrupted_uploads_go_and_running_uploads_stay() {
    let bed = Bed::directory().await;
    let store = &bed.store;
    let digest = store.put("blob".into()).await.unwrap();
    let path = bed.file("blobs", &digest);
    let (old, running) = (path.with_extension("x#1"), path.with_extension("x#2"));
    fs::write(&old, "half").unwrap();
    fs::write(&running, "half").unwrap();
    set_age(&old, 2 * HOUR);
    assert_eq!(store.usage().await.unwrap().objects, 1);
    let report = store.gc(&[digest], Duration::ZERO).await.unwrap();
    assert_eq!((report.uploads, report.swept), (1, 0));
    assert_eq!(
        (old.exists(), running.exists(), path.exists()),
        (false, true, true)
    );
}
