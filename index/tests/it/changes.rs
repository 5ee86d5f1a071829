//! Hundreds of edits, deletes and renames, and what searches say meanwhile and afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use loci_index::{Delta, DocumentKey, IndexedDocument, Mode, Query, Revision, compact};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::{document, embed, fresh, make, upsert};

/// Changes of one history, and those of each assemble.
const CHANGES: usize = 300;
const AT_ONCE: usize = 5;
/// Documents at the beginning, and the names that there are.
const FIRST: u16 = 40;
const NAMES: u16 = 60;

/// The texts of documents, by number.
type Model = BTreeMap<u16, Vec<String>>;

#[derive(Clone, Debug)]
enum Change {
    Edit(u16, Vec<u16>),
    Delete(Index),
    Rename(Index, u16),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..NAMES, prop::collection::vec(any::<u16>(), 0..4)).prop_map(|(number, seeds)| Change::Edit(number, seeds)),
        1 => any::<Index>().prop_map(Change::Delete),
        2 => (any::<Index>(), 0..NAMES).prop_map(|(from, to)| Change::Rename(from, to)),
    ]
}

impl Change {
    fn apply(&self, model: &mut Model) {
        let pick = |model: &Model, index: &Index| {
            let numbers: Vec<u16> = model.keys().copied().collect();
            (!numbers.is_empty()).then(|| *index.get(&numbers))
        };
        match self {
            Self::Edit(number, seeds) => {
                model.insert(*number, seeds.iter().map(|seed| text(*seed)).collect());
            }
            Self::Delete(index) => {
                pick(model, index).and_then(|number| model.remove(&number));
            }
            Self::Rename(index, to) => {
                let texts = pick(model, index).and_then(|from| model.remove(&from));
                if let Some(texts) = texts {
                    model.insert(*to, texts);
                }
            }
        }
    }
}

/// 1 to 90 words of a vocabulary of 40, and one of their own: longer than the lengths that BM25 keeps exactly, too.
fn text(seed: u16) -> String {
    let mut state = u32::from(seed) + 1;
    let words = (0..1 + seed % 90).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("word{}", (state >> 16) % 40)
    });
    let words: Vec<String> = words.collect();
    format!("own{seed} {}", words.join(" "))
}

fn indexed(number: u16, texts: &[String]) -> IndexedDocument {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    document(&name(number), &texts)
}

fn name(number: u16) -> String {
    format!("d{number:02}")
}

fn all(model: &Model) -> Vec<IndexedDocument> {
    model.iter().map(|(n, texts)| indexed(*n, texts)).collect()
}

fn delta(before: &Model, after: &Model) -> Delta {
    let gone = before.keys().filter(|number| !after.contains_key(number));
    let changed = after
        .iter()
        .filter(|(n, texts)| before.get(n) != Some(*texts));
    Delta {
        remove: gone
            .map(|number| DocumentKey::new("s", name(*number)))
            .collect(),
        upsert: changed.map(|(n, texts)| indexed(*n, texts)).collect(),
    }
}

/// The passage found: document, position, text.
type Passage = (String, u32, String);

fn found(revision: &Revision, question: &str, mode: Mode, k: usize) -> Vec<(Passage, f32)> {
    let vector = embed(question);
    let query = Query {
        text: question,
        vector: Some(&vector),
        k,
        mode,
        exact: true,
        ..Query::default()
    };
    let hits = revision.search(&query).unwrap().hits;
    hits.into_iter()
        .map(|hit| {
            let passage = (hit.key.document, hit.passage.ordinal, hit.passage.text);
            (passage, hit.score)
        })
        .collect()
}

const QUESTIONS: [&str; 3] = ["word7 word3", "word11 word39 word0 own5", "word20"];

/// Only what is there is found, once, and as much of it as is asked for.
fn check_live(revision: &Revision, model: &Model) {
    let live: usize = model.values().map(Vec::len).sum();
    for (question, mode) in QUESTIONS
        .iter()
        .flat_map(|question| [Mode::Dense, Mode::Bm25, Mode::Hybrid].map(|mode| (question, mode)))
    {
        for k in [5, 1000] {
            let mut passages: Vec<Passage> = found(revision, question, mode, k)
                .into_iter()
                .map(|(passage, _)| passage)
                .collect();
            for (document, ordinal, text) in &passages {
                let number: u16 = document.trim_start_matches('d').parse().unwrap();
                let told = model.get(&number).and_then(|t| t.get(*ordinal as usize));
                assert_eq!(
                    told,
                    Some(text),
                    "{document} is not live: {mode:?} {question}"
                );
            }
            if mode != Mode::Bm25 {
                assert_eq!(passages.len(), k.min(live), "{mode:?} {question}");
            }
            let returned = passages.len();
            passages.sort();
            passages.dedup();
            assert_eq!(passages.len(), returned, "a passage twice: {mode:?}");
        }
    }
}

/// The same passages with the same scores, but for the order in which a passage's words were added up.
fn check_alike(one: &Revision, other: &Revision, mode: Mode) {
    for question in QUESTIONS {
        let of = |revision| -> BTreeMap<Passage, f32> {
            found(revision, question, mode, 1000).into_iter().collect()
        };
        let (one, other) = (of(one), of(other));
        assert!(one.keys().eq(other.keys()), "{mode:?} {question}");
        for (passage, score) in &one {
            let expected = other[passage];
            assert!(
                (score - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                "{mode:?} {question} {passage:?}: {score} and {expected}"
            );
        }
    }
}

/// Assembles the history in steps, checks each, and returns the last with what it should hold.
fn live_through(dir: &Path, changes: &[Change]) -> (PathBuf, Model) {
    let mut model: Model = (0..FIRST)
        .map(|n| (n, vec![text(n), text(n + 900)]))
        .collect();
    let mut last = dir.join("first");
    make(None, upsert(all(&model)), &last).unwrap();
    for (i, changes) in changes.chunks(AT_ONCE).enumerate() {
        let before = model.clone();
        changes.iter().for_each(|change| change.apply(&mut model));
        let out = dir.join(i.to_string());
        make(Some(&last), delta(&before, &model), &out).unwrap();
        check_live(&Revision::open(&out).unwrap(), &model);
        fs::remove_dir_all(&last).unwrap();
        last = out;
    }
    (last, model)
}

fn count(dir: &Path, extension: &str) -> usize {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_300_changes_searches_equal_those_of_a_fresh_build(changes in prop::collection::vec(change(), CHANGES)) {
        let dir = tempfile::tempdir().unwrap();
        let (last, model) = live_through(dir.path(), &changes);
        let grown = Revision::open_verified(&last).unwrap();
        let built = fresh(&dir.path().join("fresh"), all(&model));
        for question in QUESTIONS {
            for k in [1, 10, 1000] {
                prop_assert_eq!(
                    found(&grown, question, Mode::Dense, k),
                    found(&built, question, Mode::Dense, k)
                );
            }
        }

        let out = dir.path().join("compacted");
        let info = compact(&last, &out, &mut |_| ControlFlow::Continue(())).unwrap();
        let compacted = Revision::open_verified(&out).unwrap();
        prop_assert_eq!(info.content_id, built.info().content_id);
        prop_assert_eq!(compacted.documents().unwrap(), built.documents().unwrap());
        check_live(&compacted, &model);
        for mode in [Mode::Bm25, Mode::Dense, Mode::Hybrid] {
            check_alike(&compacted, &built, mode);
        }
        let files = |extension| count(&out, extension);
        prop_assert_eq!((files("vec"), files("docs"), files("del"), files("store")), (1, 1, 0, 1));
    }
}

#[test]
fn a_revision_answers_while_it_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let model: Model = (0..400)
        .map(|n| (n, vec![text(n), text(n + 900)]))
        .collect();
    make(None, upsert(all(&model)), &path("a")).unwrap();
    let gone = Delta {
        remove: (0..100).map(|n| DocumentKey::new("s", name(n))).collect(),
        upsert: vec![indexed(500, &[text(7)])],
    };
    make(Some(&path("a")), gone, &path("b")).unwrap();
    let revision = Revision::open(&path("b")).unwrap();
    let ask = || QUESTIONS.map(|question| found(&revision, question, Mode::Hybrid, 10));
    let expected = ask();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) || asked == 0 {
                assert_eq!(ask(), expected);
                asked += 1;
            }
        });
        let info = compact(&path("b"), &path("c"), &mut |_| ControlFlow::Continue(()));
        done.store(true, Ordering::Relaxed);
        assert_eq!(info.unwrap().content_id, revision.info().content_id);
        asking.join().unwrap();
    });
    let error = compact(&path("b"), &path("d"), &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, loci_index::IndexError::Cancelled));
    assert!(!path("d").exists() && path("b").exists());
}
