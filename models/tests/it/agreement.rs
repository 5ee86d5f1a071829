//! Vectors against those that `reference/make.py` stored.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;

use loci_models::{Encoder, ModelError, Role};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::{cosine, embed, load, reference, tiny};

static MINILM: LazyLock<Encoder> = LazyLock::new(|| {
    let dir = env::var("LOCI_TEST_MODEL")
        .expect("LOCI_TEST_MODEL must name a directory of all-MiniLM-L6-v2: run make test");
    load(&PathBuf::from(dir))
});

fn texts() -> Vec<String> {
    serde_json::from_slice(&fs::read(reference("texts.json")).unwrap()).unwrap()
}

fn half(bits: u16) -> f32 {
    let magnitude = match bits >> 10 & 31 {
        0 => f32::from(bits & 0x3ff) * 2f32.powi(-24),
        exponent => f32::from(bits & 0x3ff | 0x400) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

#[test]
fn minilm_agrees_with_sentence_transformers_on_200_texts() {
    let texts = texts();
    assert_eq!(texts.len(), 200);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bytes = fs::read(reference("vectors.f16")).unwrap();
    let expected: Vec<f32> = bytes
        .chunks(2)
        .map(|b| half(u16::from_le_bytes([b[0], b[1]])))
        .collect();
    let got = embed(&MINILM, &texts, Role::Passage);
    assert_eq!((got.dimensions, got.vectors.len()), (384, expected.len()));
    let over_limit = texts
        .iter()
        .filter(|text| MINILM.tokenizer().count(text) > 254)
        .count();
    assert!(
        over_limit > 20,
        "the texts must exercise truncation: {over_limit}"
    );
    assert_eq!(got.truncated, over_limit);
    for ((text, got), expected) in texts
        .iter()
        .zip(got.vectors.chunks(384))
        .zip(expected.chunks(384))
    {
        let cosine = cosine(got, expected);
        assert!(cosine >= 0.9999, "{cosine} on {text:?}");
        let norm = got.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5, "{norm} on {text:?}");
    }
}

#[derive(Deserialize)]
struct Tiny {
    texts: Vec<String>,
    variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    name: String,
    files: BTreeMap<String, Value>,
    queries: Vec<Vec<f32>>,
    passages: Vec<Vec<f32>>,
}

#[test]
fn pooling_normalisation_prompts_limits_and_case_come_from_the_models_files() {
    let stored: Tiny = serde_json::from_slice(&fs::read(reference("tiny.json")).unwrap()).unwrap();
    let texts: Vec<&str> = stored.texts.iter().map(String::as_str).collect();
    assert!(stored.variants.len() >= 6);
    for variant in stored.variants {
        let dir = tiny(
            variant
                .files
                .iter()
                .map(|(name, content)| (name.as_str(), content.clone())),
        );
        let encoder = load(dir.path());
        for (role, expected) in [
            (Role::Query, &variant.queries),
            (Role::Passage, &variant.passages),
        ] {
            let got = embed(&encoder, &texts, role);
            for (got, expected) in got.vectors.chunks(36).zip(expected) {
                for (g, e) in got.iter().zip(expected) {
                    assert!(
                        (g - e).abs() < 2e-5,
                        "{} {role:?}: {got:?} against {expected:?}",
                        variant.name
                    );
                }
            }
        }
    }
}

#[test]
fn identity_names_what_decides_the_vectors() {
    let plain = load(tiny([]).path());
    let modules = r#"[{"path":"","type":"a.Transformer"},{"path":"1_Pooling","type":"a.Pooling"}]"#;
    let changes: [&[(&str, Value)]; 4] = [
        &[
            ("modules.json", modules.into()),
            ("1_Pooling/config.json", r#"{"pooling_mode":"cls"}"#.into()),
        ],
        &[(
            "sentence_bert_config.json",
            r#"{"max_seq_length":16}"#.into(),
        )],
        &[(
            "config_sentence_transformers.json",
            r#"{"prompts":{"query":"q: "}}"#.into(),
        )],
        &[(
            "config.json",
            crate::config_with("layer_norm_eps", 1e-6.into()),
        )],
    ];
    let mut seen = vec![plain.identity().digest()];
    assert_eq!(seen[0], load(tiny([]).path()).identity().digest());
    for change in changes {
        let digest = load(tiny(change.iter().cloned()).path())
            .identity()
            .digest();
        assert!(!seen.contains(&digest), "{change:?}");
        seen.push(digest);
    }
    assert_eq!(MINILM.identity().max_tokens, 256);
    assert_eq!(
        MINILM.identity().architecture,
        "bert layers=6 hidden=384 heads=12 intermediate=1536 gelu eps=1e-12"
    );
}

#[test]
fn offsets_are_character_boundaries_of_the_original() {
    let tokenizer = MINILM.tokenizer();
    assert_eq!(
        (tokenizer.max_tokens(), tokenizer.special_tokens()),
        (256, 2)
    );
    for text in texts() {
        let offsets = tokenizer.offsets(&text);
        assert_eq!(offsets.len(), tokenizer.count(&text));
        let mut previous = 0;
        for range in offsets {
            assert!(
                range.start >= previous && range.start < range.end,
                "{range:?} of {text:?}"
            );
            assert!(
                text.get(range.clone()).is_some(),
                "{range:?} cuts a character of {text:?}"
            );
            previous = range.start;
        }
    }
    let text = "Zürich's façade";
    let words: Vec<&str> = tokenizer
        .offsets(text)
        .into_iter()
        .map(|range| &text[range])
        .collect();
    assert_eq!(words, ["Zürich", "'", "s", "façade"]);
}

#[test]
fn progress_counts_up_and_break_cancels() {
    let texts = texts();
    let texts: Vec<&str> = texts
        .iter()
        .map(String::as_str)
        .cycle()
        .take(1100)
        .map(|text| text.get(..4).unwrap_or(""))
        .collect();
    let mut seen = Vec::new();
    let done = MINILM.embed(&texts, Role::Passage, &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    });
    let last = *seen.last().unwrap();
    assert!(seen.len() > 1 && seen.is_sorted_by(|a, b| a.texts < b.texts && a.tokens < b.tokens));
    assert_eq!((last.texts, last.tokens), (1100, done.unwrap().tokens));
    let mut calls = 0;
    let stopped = MINILM.embed(&texts, Role::Passage, &mut |_| {
        calls += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(ModelError::Cancelled)));
    assert_eq!(calls, 1);
    assert!(embed(&MINILM, &[], Role::Query).vectors.is_empty());
}

#[test]
fn encoders_are_shared_between_threads() {
    let alone = embed(&MINILM, &["one question"], Role::Query).vectors;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| embed(&MINILM, &["one question", "another"], Role::Query).vectors)
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap()[..384], alone);
        }
    });
}

#[test]
fn threads_of_the_pool_embed_as_others_do() {
    let texts = texts();
    let cut = |text: &String| text.chars().take(150).collect::<String>();
    let texts: Vec<String> = texts.iter().map(cut).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let run = || embed(&MINILM, &texts, Role::Passage).vectors;
    let outside = run();
    let (first, (second, third)) = rayon::join(run, || rayon::join(run, run));
    assert!(outside == first && outside == second && outside == third);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever a text is batched with, and wherever it stands, its vector is the same to the bit.
    #[test]
    fn vectors_do_not_depend_on_the_batch(
        words in prop::collection::vec((0usize..200, 1usize..400), 1..24),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let stored = texts();
        let cut = |&(text, length): &(usize, usize)| stored[text].chars().take(length).collect::<String>();
        let texts: Vec<String> = words.iter().map(cut).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = embed(&MINILM, &texts, Role::Passage).vectors;
        let mut moved = texts.clone();
        moved.rotate_left(shuffled.index(texts.len()));
        let moved_vectors = embed(&MINILM, &moved, Role::Passage).vectors;
        for (i, text) in texts.iter().enumerate() {
            let vector = &together[i * 384..][..384];
            let alone = embed(&MINILM, &[text], Role::Passage).vectors;
            prop_assert_eq!(vector, alone.as_slice());
            let place = moved.iter().position(|other| other == text).unwrap();
            prop_assert_eq!(vector, &moved_vectors[place * 384..][..384]);
        }
    }
}
