//! Token vectors with MaxSim, and cross-encoders, against plain f64 arithmetic on the same weights.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use loci_models::{
    CrossEncoder, DeviceRequest, EmbedProgress, Encoder, ModelError, Role, TokenVectors, max_sim,
};
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::Tokenizer;

use crate::plain::{self, HIDDEN, Plain};
use crate::weights::{Tensors, tensors, write};
use crate::{config_with, load, reference, tiny};

const QUERY: &str = "The thing?";
const PASSAGES: [&str; 5] = [
    "the thing",
    "",
    "Thinker of THE things, at length",
    "?",
    "a longer text, beyond every limit of the tiny model, whichever side is cut!",
];

type Cancel<'a> = &'a mut dyn FnMut(EmbedProgress) -> ControlFlow<()>;

fn going_on(_: EmbedProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Numbers that are the same each time, between -0.5 and 0.5.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn plain(tensors: &Tensors) -> Plain {
    let floats = |data: &[u8]| -> Vec<f64> {
        let quads = data.chunks(4);
        quads
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect()
    };
    let named = tensors.iter().filter(|(_, t)| t.0 == Dtype::F32);
    named
        .map(|(name, (_, _, data))| (name.clone(), floats(data)))
        .collect()
}

/// tokenizer.json of the tiny model with a template for pairs.
fn pair_tokenizer() -> Value {
    let mut tokenizer: Value =
        serde_json::from_slice(&fs::read(reference("tiny/tokenizer.json")).unwrap()).unwrap();
    let special = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let sequence = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    tokenizer["post_processor"]["pair"] = json!([
        special("[CLS]", 0),
        sequence("A", 0),
        special("[SEP]", 0),
        sequence("B", 1),
        special("[SEP]", 1),
    ]);
    tokenizer
}

/// config.json of a cross-encoder, with `fields` in it.
fn head_config(fields: Value) -> Value {
    let mut config = config_with("architectures", json!(["BertForSequenceClassification"]));
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

fn one_label() -> Value {
    head_config(json!({"id2label": {"0": "LABEL_0"}}))
}

/// The tiny model with a head of so many labels, and its weights in plain numbers.
fn cross(labels: usize, config: Value) -> (TempDir, Plain) {
    let dir = tiny([
        ("config.json", config),
        ("tokenizer.json", pair_tokenizer()),
    ]);
    let bytes = |numbers: Vec<f32>| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut all: Tensors = tensors()
        .into_iter()
        .map(|(name, tensor)| (format!("bert.{name}"), tensor))
        .collect();
    for (name, shape) in [
        ("bert.pooler.dense.weight", vec![HIDDEN, HIDDEN]),
        ("bert.pooler.dense.bias", vec![HIDDEN]),
        ("classifier.weight", vec![labels, HIDDEN]),
        ("classifier.bias", vec![labels]),
    ] {
        let values = numbers(name.len() as u32, shape.iter().product());
        all.insert(name.to_owned(), (Dtype::F32, shape, bytes(values)));
    }
    write(&all, dir.path());
    let plain = plain(&all);
    (dir, plain)
}

fn load_cross(dir: &Path) -> CrossEncoder {
    CrossEncoder::load(dir, DeviceRequest::Cpu).unwrap()
}

fn refusal(dir: &Path) -> String {
    CrossEncoder::load(dir, DeviceRequest::Cpu)
        .unwrap_err()
        .to_string()
}

fn vectors(encoder: &Encoder, texts: &[&str], role: Role) -> TokenVectors {
    let progress: Cancel<'_> = &mut going_on;
    encoder.token_vectors(texts, role, progress).unwrap()
}

/// Ids and types of a pair of at most 32 tokens: the longer side is cut, and both to a half where both are too long.
fn pair(tokenizer: &Tokenizer, query: &str, passage: &str) -> (Vec<u32>, Vec<u32>) {
    let ids = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    let (mut query, mut passage) = (ids(query), ids(passage));
    let (asked, said) = (query.len(), passage.len());
    if asked + said > 29 {
        let shorter = asked.min(said).min(14);
        let (short, long) = if asked <= said {
            (&mut query, &mut passage)
        } else {
            (&mut passage, &mut query)
        };
        short.truncate(shorter);
        long.truncate(29 - shorter);
    }
    let first = [&[2], query.as_slice(), &[3]].concat();
    let second = [passage.as_slice(), &[3]].concat();
    let types = [vec![0; first.len()], vec![1; second.len()]].concat();
    ([first, second].concat(), types)
}

#[test]
fn token_vectors_are_the_hidden_states_of_a_texts_own_tokens() {
    let (encoder, weights) = (load(&reference("tiny")), plain(&tensors()));
    let tokenizer = Tokenizer::from_file(reference("tiny/tokenizer.json")).unwrap();
    let got = vectors(&encoder, &PASSAGES, Role::Passage);
    assert_eq!((got.len(), got.dimensions, got.truncated), (5, HIDDEN, 1));
    for (text, passage) in PASSAGES.iter().enumerate() {
        let mut ids = tokenizer
            .encode(*passage, false)
            .unwrap()
            .get_ids()
            .to_vec();
        ids.truncate(30);
        let own = ids.len();
        let ids = [&[2], ids.as_slice(), &[3]].concat();
        let states = plain::hidden(&weights, "", &ids, &vec![0; ids.len()]);
        let vectors: Vec<&[f32]> = got.of(text).chunks(HIDDEN).collect();
        assert_eq!(vectors.len(), own, "{passage:?}");
        for (vector, state) in vectors.iter().zip(&states[1..=own]) {
            let length = plain::dot(state, state).sqrt();
            for (got, expected) in vector.iter().zip(state) {
                let expected = expected / length;
                assert!((f64::from(*got) - expected).abs() < 2e-5, "{passage:?}");
            }
        }
    }
    assert!(got.of(5).is_empty());
    let progress: Cancel<'_> = &mut |_| ControlFlow::Break(());
    let stopped = encoder.token_vectors(&PASSAGES, Role::Passage, progress);
    assert!(matches!(stopped, Err(ModelError::Cancelled)));
}

#[test]
fn token_vectors_do_not_depend_on_the_batch() {
    let encoder = load(&reference("tiny"));
    let together = vectors(&encoder, &PASSAGES, Role::Passage);
    for (text, passage) in PASSAGES.iter().enumerate() {
        let alone = vectors(&encoder, &[*passage], Role::Passage);
        assert_eq!(together.of(text), alone.of(0), "{passage:?}");
    }
}

#[test]
fn tokens_of_prompts_have_vectors_and_special_tokens_have_none() {
    let prompts = json!({"prompts": {"query": "the the "}});
    let dir = tiny([("config_sentence_transformers.json", prompts)]);
    let encoder = load(dir.path());
    let asked = vectors(&encoder, &["thing"], Role::Query);
    let same = vectors(&encoder, &["the the thing"], Role::Passage);
    assert_eq!(asked.of(0), same.of(0));
    let own = encoder.tokenizer().count("the the thing");
    assert_eq!(asked.of(0).len(), own * HIDDEN);
    assert_eq!(asked.tokens, own + 2);
}

#[test]
fn max_sim_adds_up_the_best_product_of_each_token() {
    for (asked, said, width) in [
        (1, 1, 1),
        (3, 5, 7),
        (9, 1, 36),
        (17, 130, 36),
        (32, 256, 384),
    ] {
        let (query, passage) = (numbers(7, asked * width), numbers(8, said * width));
        let rows = |values: &[f32]| -> Vec<Vec<f64>> {
            let rows = values.chunks(width);
            rows.map(|row| row.iter().map(|v| f64::from(*v)).collect())
                .collect()
        };
        let expected = plain::max_sim(&rows(&query), &rows(&passage));
        let got = f64::from(max_sim(&query, &passage, width));
        let room = 1e-5 * expected.abs().max(1.0);
        assert!((got - expected).abs() < room, "{got} against {expected}");
    }
    assert_eq!(max_sim(&[], &[1.0], 1), 0.0);
    assert_eq!(max_sim(&[1.0, 0.5], &[], 1), -2.0);
}

#[test]
fn a_cross_encoders_score_is_its_logit() {
    let (dir, weights) = cross(1, one_label());
    let model = load_cross(dir.path());
    let tokenizer = Tokenizer::from_file(reference("tiny/tokenizer.json")).unwrap();
    let long = "a question that is itself beyond all that the tiny model reads";
    for query in [QUERY, "", long] {
        let scores = model.score(query, &PASSAGES, &mut going_on).unwrap();
        for (got, passage) in scores.iter().zip(PASSAGES) {
            let (ids, types) = pair(&tokenizer, query, passage);
            let states = plain::hidden(&weights, "bert.", &ids, &types);
            let expected = plain::logits(&weights, &states[0]);
            let difference = (f64::from(*got) - expected[0]).abs();
            assert!(
                difference < 1e-4,
                "{got} against {expected:?} on {query:?}, {passage:?}"
            );
        }
        let alone = model.score(query, &PASSAGES[2..3], &mut going_on).unwrap();
        assert_eq!(alone[..], scores[2..3]);
    }
    assert_eq!(model.identity().max_tokens, 32);
    assert!(model.score(QUERY, &[], &mut going_on).unwrap().is_empty());
    let stopped = model.score(QUERY, &PASSAGES, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(ModelError::Cancelled)));
}

#[test]
fn of_two_labels_the_second_means_relevant() {
    let config = head_config(json!({}));
    let (dir, weights) = cross(2, config);
    let model = load_cross(dir.path());
    let tokenizer = Tokenizer::from_file(reference("tiny/tokenizer.json")).unwrap();
    let got = model.score(QUERY, &PASSAGES[..1], &mut going_on).unwrap()[0];
    let (ids, types) = pair(&tokenizer, QUERY, PASSAGES[0]);
    let states = plain::hidden(&weights, "bert.", &ids, &types);
    let logits = plain::logits(&weights, &states[0]);
    assert!((f64::from(got) - (logits[1] - logits[0])).abs() < 1e-4);
    let named = head_config(json!({"id2label": {"0": "no", "1": "Relevant"}}));
    let (other, _) = cross(2, named);
    let other = load_cross(other.path());
    assert_eq!(
        other.score(QUERY, &PASSAGES[..1], &mut going_on).unwrap(),
        [got]
    );
}

#[test]
fn cross_encoders_of_another_kind_are_refused_by_name() {
    for (fields, named) in [
        (json!({"architectures": ["BertModel"]}), "architectures"),
        (json!({"architectures": []}), "architectures"),
        (json!({"model_type": "roberta"}), "model_type"),
        (json!({"type_vocab_size": 1}), "type_vocab_size"),
        (json!({"hidden_act": "relu"}), "hidden_act"),
        (
            json!({"id2label": {"0": "a", "1": "b", "2": "c"}}),
            "id2label",
        ),
        (
            json!({"id2label": {"0": "relevant", "1": "irrelevant"}}),
            "irrelevant",
        ),
    ] {
        let (dir, _) = cross(1, head_config(fields));
        let said = refusal(dir.path());
        for part in ["config.json", named, "supported:"] {
            assert!(said.contains(part), "\"{part}\" is not in: {said}");
        }
    }
    let (dir, _) = cross(2, one_label());
    let said = refusal(dir.path());
    assert!(said.contains("classifier.weight"), "{said}");
    let plain = tiny([
        ("config.json", one_label()),
        ("tokenizer.json", pair_tokenizer()),
    ]);
    let said = refusal(plain.path());
    assert!(said.contains("pooler.dense.weight"), "{said}");
    let single = fs::read(reference("tiny/tokenizer.json")).unwrap();
    let (dir, _) = cross(1, one_label());
    fs::write(dir.path().join("tokenizer.json"), single).unwrap();
    let said = refusal(dir.path());
    assert!(said.contains("pairs"), "{said}");
}

#[test]
fn a_cross_encoders_identity_names_what_decides_its_scores() {
    let (dir, _) = cross(1, one_label());
    let digest = load_cross(dir.path()).identity().digest();
    let (same, _) = cross(1, one_label());
    assert_eq!(digest, load_cross(same.path()).identity().digest());
    let shorter = json!({"model_max_length": 16}).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), shorter).unwrap();
    assert_ne!(digest, load_cross(dir.path()).identity().digest());
}

/// What `reference/cross/make.py` stores.
#[derive(Deserialize)]
struct Stored {
    query: String,
    passages: Vec<String>,
    scores: Vec<f32>,
}

#[test]
#[ignore = "needs the checkpoints that reference/cross/make.py writes with transformers"]
fn cross_encoders_agree_with_transformers() {
    for name in ["one", "two"] {
        let model = load_cross(&reference(&format!("cross/{name}")));
        let stored = fs::read(reference(&format!("cross/{name}.json"))).unwrap();
        let stored: Vec<Stored> = serde_json::from_slice(&stored).unwrap();
        assert!(!stored.is_empty());
        for Stored {
            query,
            passages,
            scores,
        } in stored
        {
            let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
            let got = model.score(&query, &passages, &mut going_on).unwrap();
            for (got, expected) in got.iter().zip(&scores) {
                assert!((got - expected).abs() < 1e-4, "{got} against {expected}");
            }
        }
    }
}
