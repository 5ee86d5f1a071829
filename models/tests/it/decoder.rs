//! Decoders against what `reference/decoder/make.py` stored.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;

use loci_models::{
    Continuation, Decoder, DeviceRequest, Finish, Generated, Generation, Message, ModelError,
    Piece, Prompt, Sampling, Text,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::reference;

pub static TINY: LazyLock<Decoder> = LazyLock::new(|| load(&reference("decoder/tiny")));

/// What transformers says of one model.
#[derive(Deserialize)]
pub struct Stored {
    pub texts: Vec<StoredText>,
    pub continuations: Vec<StoredContinuation>,
}

#[derive(Deserialize)]
pub struct StoredText {
    pub text: String,
    pub ids: Vec<u32>,
    pub greedy: Vec<u32>,
}

#[derive(Deserialize)]
pub struct StoredContinuation {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
}

pub fn load(path: &Path) -> Decoder {
    Decoder::load(path, DeviceRequest::Auto).unwrap()
}

pub fn stored<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&fs::read(reference(name)).unwrap()).unwrap()
}

/// The tensors of a file by the number that is their name.
pub fn tables(name: &str) -> Vec<Vec<f32>> {
    let bytes = fs::read(reference(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let table = |i: usize| -> Vec<f32> {
        let view = file.tensor(&i.to_string()).unwrap();
        let quads = view.data().chunks_exact(4);
        quads
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    (0..file.len()).map(table).collect()
}

/// The largest difference, relative to the largest value.
pub fn error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    off.fold(0f32, f32::max) / largest
}

pub fn generate(decoder: &Decoder, prompts: &[Prompt<'_>]) -> Vec<Generated> {
    decoder
        .generate(prompts, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

pub fn prompt<'a>(tokens: &'a [u32], options: &'a Generation) -> Prompt<'a> {
    Prompt {
        tokens,
        options,
        adapter: None,
    }
}

/// The logits of texts, by the model alone.
pub fn logits(decoder: &Decoder, texts: &[&[u32]]) -> Vec<Vec<f32>> {
    let texts: Vec<Text<'_>> = texts.iter().map(|tokens| Text::from(*tokens)).collect();
    decoder.logits(&texts).unwrap()
}

pub fn options(max_tokens: usize) -> Generation {
    Generation {
        max_tokens,
        ..Generation::default()
    }
}

/// Greedy tokens up to the first that ends a text, which transformers' own are not cut at.
pub fn cut(decoder: &Decoder, tokens: &[u32]) -> Vec<u32> {
    let ends = &decoder.identity().ends;
    let end = tokens.iter().position(|token| ends.contains(token));
    tokens[..end.map_or(tokens.len(), |end| end + 1)].to_vec()
}

pub fn assert_likelihoods(decoder: &Decoder, stored: &[StoredContinuation]) {
    let continuations: Vec<Continuation<'_>> = stored
        .iter()
        .map(|s| Continuation {
            prompt: &s.prompt,
            tokens: &s.tokens,
            adapter: None,
        })
        .collect();
    let got = decoder.log_probabilities(&continuations).unwrap();
    for (got, stored) in got.iter().zip(stored) {
        assert_eq!(got.len(), stored.log_probabilities.len());
        for (g, w) in got.iter().zip(&stored.log_probabilities) {
            assert!((g - w).abs() < 2e-4, "{g} against {w}");
        }
    }
}

#[test]
fn tiny_models_agree_with_transformers() {
    let stored: BTreeMap<String, Stored> = stored("decoder/tiny.json");
    assert_eq!(stored.len(), 3);
    for (name, stored) in stored {
        let decoder = load(&reference(&format!("decoder/{name}")));
        let want = tables(&format!("decoder/{name}.logits.safetensors"));
        let ids: Vec<&[u32]> = stored.texts.iter().map(|t| t.ids.as_slice()).collect();
        let got = logits(&decoder, &ids);
        let few = options(12);
        for ((stored, got), want) in stored.texts.iter().zip(&got).zip(&want) {
            let text = stored.text.as_str();
            assert_eq!(decoder.tokenizer().encode(text).unwrap(), stored.ids);
            let error = error(got, want);
            assert!(error < 1e-5, "{name}: {error} on {text:?}");
            let written = &generate(&decoder, &[prompt(&stored.ids, &few)])[0];
            assert_eq!(written.tokens, cut(&decoder, &stored.greedy), "{name}");
        }
        assert_likelihoods(&decoder, &stored.continuations);
    }
}

#[test]
fn chats_are_rendered_as_transformers_renders_them() {
    #[derive(Deserialize)]
    struct Case {
        template: String,
        messages: Vec<Message>,
        prompt: bool,
        text: Option<String>,
        ids: Option<Vec<u32>>,
        error: Option<String>,
    }
    let cases: Vec<Case> = stored("decoder/chats.json");
    assert!(cases.len() >= 40);
    let mut decoders: BTreeMap<String, Decoder> = BTreeMap::new();
    for case in cases {
        let decoder = decoders.entry(case.template.clone()).or_insert_with(|| {
            let template = case.template.as_str();
            load(copy([("chat_template.jinja", template.into())]).path())
        });
        match decoder.render(&case.messages, case.prompt) {
            Ok(text) => {
                assert_eq!(Some(&text), case.text.as_ref(), "{}", case.template);
                let ids = decoder.chat_tokens(&case.messages, case.prompt).unwrap();
                assert_eq!(Some(ids), case.ids);
            }
            Err(e) => {
                let reason = case.error.unwrap();
                assert!(e.to_string().contains(&reason), "{e}: {reason}");
            }
        }
    }
}

/// A copy of the tiny model in which `files` replace its own; those given as null are removed.
pub fn copy<'a>(files: impl IntoIterator<Item = (&'a str, Value)>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(reference("decoder/tiny")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    for (name, content) in files {
        let path = dir.path().join(name);
        match content {
            Value::Null => fs::remove_file(path).unwrap(),
            Value::String(text) => fs::write(path, text).unwrap(),
            json => fs::write(path, json.to_string()).unwrap(),
        }
    }
    dir
}

pub fn config_with(field: &str, value: Value) -> Value {
    let mut config: Value = stored("decoder/tiny/config.json");
    config[field] = value;
    config
}

fn texts() -> Vec<Vec<u32>> {
    let stored: BTreeMap<String, Stored> = stored("decoder/tiny.json");
    stored["tiny"].texts.iter().map(|t| t.ids.clone()).collect()
}

#[test]
fn texts_together_are_each_continued_as_alone() {
    let texts = texts();
    let sampled = |seed: u64, max_tokens: usize| Generation {
        max_tokens,
        sampling: Sampling {
            temperature: 0.8,
            top_p: 0.95,
            top_k: Some(40),
            seed,
        },
        stop: vec!["zq".to_owned()],
    };
    let options: Vec<Generation> = (0..texts.len())
        .map(|i| {
            if i % 3 == 0 {
                options(9)
            } else {
                sampled(i as u64, 4 + 5 * i)
            }
        })
        .collect();
    let prompts: Vec<Prompt<'_>> = texts
        .iter()
        .zip(&options)
        .map(|(tokens, options)| prompt(tokens, options))
        .collect();
    let together = generate(&TINY, &prompts);
    for (prompt, together) in prompts.iter().zip(&together) {
        let alone = &generate(&TINY, &[*prompt])[0];
        assert_eq!(alone, together);
        assert_eq!(alone, &generate(&TINY, &[*prompt])[0]);
    }
}

#[test]
fn pieces_are_the_text_and_break_cancels() {
    let texts = texts();
    let options = Generation {
        max_tokens: 60,
        sampling: Sampling {
            temperature: 3.0,
            seed: 5,
            ..Sampling::default()
        },
        stop: Vec::new(),
    };
    let prompt = prompt(&texts[0], &options);
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let mut gather = |piece: Piece<'_>| {
        assert_eq!(piece.prompt, 0);
        text.push_str(piece.text);
        tokens.push(piece.token);
        ControlFlow::Continue(())
    };
    let written = &TINY.generate(&[prompt], &mut gather).unwrap()[0];
    assert_eq!((&text, &tokens), (&written.text, &written.tokens));
    let body = match written.finish {
        Finish::End => &tokens[..tokens.len() - 1],
        _ => &tokens[..],
    };
    assert_eq!(TINY.tokenizer().decode(body), text);
    let mut calls = 0;
    let stopped = TINY.generate(&[prompt], &mut |_| {
        calls += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(ModelError::Cancelled)));
    assert_eq!(calls, 1);
}

#[test]
fn texts_end_where_they_were_asked_to() {
    let texts = texts();
    let free = options(30);
    let all: Vec<Prompt<'_>> = texts.iter().map(|tokens| prompt(tokens, &free)).collect();
    let all = generate(&TINY, &all);
    let (i, whole) = all
        .iter()
        .enumerate()
        .max_by_key(|(_, written)| written.text.chars().count())
        .unwrap();
    let stop: String = whole.text.chars().skip(2).take(3).collect();
    let stopping = Generation {
        stop: vec![stop.clone()],
        ..options(30)
    };
    let stopped = &generate(&TINY, &[prompt(&texts[i], &stopping)])[0];
    assert_eq!(stopped.finish, Finish::Stop);
    assert_eq!(stopped.text, whole.text.split(&stop).next().unwrap());
    let none = &generate(&TINY, &[prompt(&texts[1], &options(0))])[0];
    assert_eq!((none.finish, none.tokens.len()), (Finish::Length, 0));
    // The context of 96 ends a text too.
    let long: Vec<u32> = texts[1].iter().cycle().take(90).copied().collect();
    let last = &generate(&TINY, &[prompt(&long, &free)])[0];
    assert!(last.finish == Finish::End || last.tokens.len() == 6);
    assert!(generate(&TINY, &[]).is_empty());
}

#[test]
fn a_models_memory_is_told_by_its_headers() {
    let halves = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    for (name, files) in [("tiny", &["model.safetensors"][..]), ("tied", &halves[..])] {
        let mut sizes: Vec<usize> = Vec::new();
        for file in files {
            let bytes = fs::read(reference(&format!("decoder/{name}/{file}"))).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let views = file.tensors().into_iter();
            sizes.extend(views.map(|(_, view)| view.shape().iter().product::<usize>()));
        }
        let largest = sizes.iter().max().unwrap();
        let want = 4 * (sizes.iter().sum::<usize>() + largest) as u64;
        let got = Decoder::memory(&reference(&format!("decoder/{name}"))).unwrap();
        assert_eq!(got, want, "{name}");
    }
    // Keys and values of two layers, each with two heads of ten columns; of no more than the context of 96.
    let tiny = reference("decoder/tiny");
    let text = |tokens| Decoder::text_memory_of(&tiny, tokens).unwrap();
    assert_eq!((text(1), text(50)), (2 * 2 * 20 * 4, 50 * 320));
    assert_eq!((text(8192), TINY.text_memory(8192)), (text(96), text(96)));
}

#[test]
fn identity_names_what_decides_what_is_said() {
    let plain = TINY.identity().digest();
    assert_eq!(load(copy([]).path()).identity().digest(), plain);
    for change in [
        ("config.json", config_with("rms_norm_eps", json!(1e-6))),
        ("generation_config.json", json!({"eos_token_id": 2})),
        ("chat_template.jinja", "x".into()),
    ] {
        let changed = load(copy([change]).path());
        assert_ne!(changed.identity().digest(), plain);
        assert_eq!(changed.identity().weights, TINY.identity().weights);
    }
    assert_eq!(
        (TINY.identity().ends.as_slice(), TINY.context()),
        ([2, 0].as_slice(), 96)
    );
    let projections = TINY.projections();
    assert_eq!(projections.len(), 14);
    let keys = projections
        .iter()
        .find(|p| p.name == "model.layers.1.self_attn.k_proj");
    assert_eq!(keys.map(|p| (p.inputs, p.outputs)), Some((36, 20)));
}
