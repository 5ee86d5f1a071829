//! A revision says the same whatever its history, and never changes.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use loci_index::{Delta, DocumentKey, IndexedDocument, MANIFEST, Mode, Query, Revision};
use proptest::prelude::*;

use crate::{document, embed, fresh, make, upsert};

/// One assemble: by document number, `None` removes, texts replace.
type Step = Vec<(u8, Option<Vec<u8>>)>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (
        0u8..12,
        prop::option::weighted(0.7, prop::collection::vec(0u8..30, 0..4)),
    );
    prop::collection::vec(prop::collection::vec(change, 0..5), 1..25)
}

fn numbered(number: u8, texts: &[u8]) -> IndexedDocument {
    let texts: Vec<String> = texts
        .iter()
        .map(|t| format!("passage {t} speaks of topic{}", t % 5))
        .collect();
    document(
        &format!("d{number}"),
        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

fn delta(step: &Step, model: &mut BTreeMap<u8, IndexedDocument>) -> Delta {
    let last: BTreeMap<u8, &Option<Vec<u8>>> = step
        .iter()
        .map(|(number, change)| (*number, change))
        .collect();
    let mut delta = Delta::default();
    for (number, change) in last {
        match change {
            Some(texts) => {
                let indexed = numbered(number, texts);
                model.insert(number, indexed.clone());
                delta.upsert.push(indexed);
            }
            None => {
                delta
                    .remove
                    .push(DocumentKey::new("s", format!("d{number}")));
                model.remove(&number);
            }
        }
    }
    delta
}

type Found = Vec<(String, u32, f32)>;

fn dense(revision: &Revision, question: &str, k: usize) -> Found {
    let vector = embed(question);
    let query = Query {
        vector: Some(&vector),
        k,
        mode: Mode::Dense,
        exact: true,
        ..Query::default()
    };
    let hits = revision.search(&query).unwrap().hits;
    hits.into_iter()
        .map(|hit| (hit.key.document, hit.passage.ordinal, hit.score))
        .collect()
}

/// What BM25 finds, and its vocabulary: a search for a word of every passage returns each live one once.
fn all_by_words(revision: &Revision) -> Vec<(String, u32, String)> {
    let query = Query {
        text: "speaks",
        k: 1_000_000,
        mode: Mode::Bm25,
        ..Query::default()
    };
    let mut all: Vec<_> = revision
        .search(&query)
        .unwrap()
        .hits
        .into_iter()
        .map(|hit| (hit.key.document, hit.passage.ordinal, hit.passage.text))
        .collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_a_fresh_build_after_any_history(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = BTreeMap::new();
        let mut previous = None;
        for (i, step) in steps.iter().enumerate() {
            let out = dir.path().join(i.to_string());
            make(previous.as_deref(), delta(step, &mut model), &out).unwrap();
            let revision = Revision::open_verified(&out).unwrap();

            let mut expected: Vec<_> = model
                .values()
                .flat_map(|d| d.document.passages.iter().map(|p| (d.document.key.document.clone(), p.ordinal, p.text.clone())))
                .collect();
            expected.sort();
            prop_assert_eq!(all_by_words(&revision), expected);
            let records = revision.documents().unwrap();
            let keys: HashSet<_> = records.iter().map(|record| record.key.clone()).collect();
            prop_assert_eq!(keys, model.values().map(|d| d.document.key.clone()).collect());
            previous = Some(out);
        }

        let rebuilt = fresh(&dir.path().join("fresh"), model.into_values().collect());
        let grown = Revision::open(previous.as_ref().unwrap()).unwrap();
        prop_assert_eq!(grown.info().content_id, rebuilt.info().content_id);
        prop_assert_eq!(grown.documents().unwrap(), rebuilt.documents().unwrap());
        for k in [1, 3, 100] {
            for question in ["topic1", "passage 7", "something else"] {
                prop_assert_eq!(dense(&grown, question, k), dense(&rebuilt, question, k));
            }
        }
    }
}

fn contents(dir: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (
            name,
            (
                fs::read(entry.path()).unwrap(),
                entry.metadata().unwrap().modified().unwrap(),
            ),
        )
    };
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| file(entry.unwrap()))
        .collect()
}

#[test]
fn the_previous_revision_keeps_every_byte_and_its_files_are_shared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let all: Vec<_> = (0..200)
        .map(|i| document(&format!("d{i}"), &["alpha beta", "gamma"]))
        .collect();
    make(None, upsert(all), &path("a")).unwrap();
    let before = contents(&path("a"));

    let changed = Delta {
        remove: vec![DocumentKey::new("s", "d1")],
        upsert: vec![document("d2", &["delta"]), document("d900", &["new"])],
    };
    make(Some(&path("a")), changed, &path("b")).unwrap();
    assert_eq!(contents(&path("a")), before);

    let after = contents(&path("b"));
    let bytes =
        |files: Vec<&String>| -> usize { files.into_iter().map(|name| after[name].0.len()).sum() };
    let (shared, new): (Vec<_>, Vec<_>) = after
        .keys()
        .filter(|name| *name != MANIFEST)
        .partition(|name| before.contains_key(*name));
    assert!(shared.iter().all(|name| before[*name].0 == after[*name].0));
    assert!(shared.len() > 5 && bytes(new) * 3 < bytes(shared));
    let named = fs::read_to_string(path("b").join(MANIFEST)).unwrap();
    assert!(
        after
            .keys()
            .all(|name| name == MANIFEST || named.contains(name.as_str())),
        "a leftover in {:?}",
        after.keys()
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let inode =
            |revision: &str, name: &str| fs::metadata(path(revision).join(name)).unwrap().ino();
        assert!(
            after
                .keys()
                .filter(|n| n.ends_with(".store") && before.contains_key(*n))
                .all(|n| inode("a", n) == inode("b", n))
        );
    }

    make(
        Some(&path("a")),
        Delta {
            remove: (0..150)
                .map(|i| DocumentKey::new("s", format!("d{i}")))
                .collect(),
            upsert: vec![],
        },
        &path("c"),
    )
    .unwrap();
    assert_eq!(contents(&path("a")), before);
    assert_eq!(
        Revision::open_verified(&path("c"))
            .unwrap()
            .info()
            .documents,
        50
    );
    assert_eq!(
        Revision::open_verified(&path("a"))
            .unwrap()
            .info()
            .documents,
        200
    );
}

#[cfg(target_os = "linux")]
#[test]
fn files_are_copied_where_they_cannot_be_linked() {
    let (here, memory) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir_in("/dev/shm").unwrap(),
    );
    fresh(
        &here.path().join("a"),
        vec![document("d", &["one"]), document("e", &["two"])],
    );
    let before = contents(&here.path().join("a"));
    make(
        Some(&here.path().join("a")),
        upsert(vec![document("e", &["three"])]),
        &memory.path().join("b"),
    )
    .unwrap();
    assert_eq!(
        Revision::open_verified(&memory.path().join("b"))
            .unwrap()
            .info()
            .passages,
        2
    );
    assert_eq!(contents(&here.path().join("a")), before);
}

#[test]
fn refreshes_without_end_take_bounded_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = |i: usize| dir.path().join(i.to_string());
    let texts: Vec<String> = (0..20)
        .map(|i| format!("text {i} {}", "word ".repeat(50)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let all: Vec<_> = (0..100)
        .map(|i| document(&format!("d{i}"), &texts))
        .collect();
    let first = make(None, upsert(all), &path(0)).unwrap();
    for i in 1..=150 {
        let changed = document(&format!("d{}", (i * 37) % 100), &texts);
        make(Some(&path(i - 1)), upsert(vec![changed]), &path(i)).unwrap();
        fs::remove_dir_all(path(i - 1)).unwrap();
    }
    let last = Revision::open_verified(&path(150)).unwrap();
    assert_eq!(last.info().content_id, first.content_id);
    assert!(
        last.info().bytes < 2 * first.bytes,
        "{} bytes after {}",
        last.info().bytes,
        first.bytes
    );
    assert!(fs::read_dir(path(150)).unwrap().count() < 90);
}
