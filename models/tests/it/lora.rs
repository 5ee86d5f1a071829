//! Adapters of a tiny decoder: written, read back, and served beside one another.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use loci_models::{
    Adapter, Continuation, Decoder, Example, Generation, LoraConfig, Message, ModelError, Prompt,
    Sampling, Schedule, Text, Trainer, TrainingSettings, TrainingStep,
};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use crate::decoder::{error, generate, load, logits};
use crate::reference;

pub static TINY: LazyLock<Arc<Decoder>> =
    LazyLock::new(|| Arc::new(load(&reference("decoder/tiny"))));

pub fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

/// A chat of some turns; the last answer is one of two.
pub fn chat(i: usize) -> Vec<Message> {
    let question = format!("Is {} even?", 3 * i);
    let answer = if i.is_multiple_of(2) {
        "Yes."
    } else {
        "No, not it."
    };
    let mut messages = vec![
        message("user", "Hi"),
        message("assistant", "Hello!"),
        message("user", &question),
        message("assistant", answer),
    ];
    messages.drain(..if i.is_multiple_of(3) { 2 } else { 0 });
    messages
}

pub fn examples(count: usize) -> Vec<Example> {
    let example = |i| Example::chat(&TINY, &chat(i)).unwrap();
    (0..count).map(example).collect()
}

pub fn lora(targets: &[&str]) -> LoraConfig {
    LoraConfig {
        rank: 4,
        alpha: 8.0,
        dropout: 0.0,
        targets: targets.iter().map(|t| (*t).to_owned()).collect(),
    }
}

pub fn settings() -> TrainingSettings {
    TrainingSettings {
        epochs: 4,
        batch: 3,
        learning_rate: 1e-2,
        schedule: Schedule::Linear,
        warmup: 0.1,
        seed: 11,
        ..TrainingSettings::default()
    }
}

pub fn trainer(lora: LoraConfig, settings: TrainingSettings) -> Trainer {
    Trainer::new(TINY.clone(), lora, settings, examples(10)).unwrap()
}

pub fn finish(trainer: &mut Trainer) -> Vec<TrainingStep> {
    let mut steps = Vec::new();
    while let Some(step) = trainer.step().unwrap() {
        steps.push(step);
    }
    steps
}

/// An adapter that changes what the model says.
pub fn trained(targets: &[&str], seed: u64) -> Adapter {
    let settings = TrainingSettings { seed, ..settings() };
    let mut trainer = trainer(lora(targets), settings);
    finish(&mut trainer);
    trainer.adapter().unwrap()
}

pub fn written(adapter: &Adapter) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path()).unwrap();
    dir
}

/// The weights of an adapter, by name.
pub fn tensors(bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let (quads, _) = view.data().as_chunks::<4>();
            let values = quads.iter().map(|b| f32::from_le_bytes(*b)).collect();
            (name, view.shape().to_vec(), values)
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

#[test]
fn an_adapter_comes_back_from_its_files() {
    let adapter = trained(&["q_proj", "v_proj", "up_proj"], 5);
    let dir = written(&adapter);
    let back = Adapter::read(dir.path(), &TINY).unwrap();
    assert_eq!(back.files().unwrap(), adapter.files().unwrap());
    assert_eq!(
        (back.digest(), back.config()),
        (adapter.digest(), adapter.config())
    );
    assert_eq!(
        (back.training(), back.base()),
        (adapter.training(), adapter.base())
    );
    let tokens = TINY.tokenizer().encode("The café in Zürich").unwrap();
    let with = |adapter| {
        let text = Text {
            tokens: &tokens,
            adapter,
        };
        TINY.logits(&[text]).unwrap()
    };
    assert_eq!(with(Some(&back)), with(Some(&adapter)));
    let plain = logits(&TINY, &[&tokens]);
    assert!(error(&with(Some(&back))[0], &plain[0]) > 0.01);
    // A new adapter adds nothing.
    let fresh = trainer(lora(&["q_proj"]), settings()).adapter().unwrap();
    assert_eq!(with(Some(&fresh)), plain);
}

#[test]
fn each_text_of_a_batch_passes_its_own_adapter() {
    let (one, two) = (
        trained(&["q_proj", "v_proj"], 1),
        trained(&["o_proj", "gate_proj", "down_proj"], 2),
    );
    let adapters = [Some(&one), None, Some(&two), Some(&one), Some(&one), None];
    let texts = [
        "a",
        "def f(x):\n    return x",
        "Once upon",
        "1, 2, 3",
        "there were people",
        "a",
    ];
    let texts = texts.map(|text| TINY.tokenizer().encode(text).unwrap());
    let sampled = |i: usize| Generation {
        max_tokens: 8 + i,
        sampling: Sampling {
            temperature: 0.7,
            seed: i as u64,
            ..Sampling::default()
        },
        stop: Vec::new(),
    };
    let options: Vec<Generation> = (0..6).map(sampled).collect();
    let prompt = |i: usize| Prompt {
        tokens: &texts[i],
        options: &options[i],
        adapter: adapters[i],
    };
    let text = |i: usize| Text {
        tokens: &texts[i],
        adapter: adapters[i],
    };
    let continuation = |i: usize| Continuation {
        prompt: &texts[i],
        tokens: &texts[(i + 1) % 6],
        adapter: adapters[i],
    };
    let prompts: Vec<Prompt<'_>> = (0..6).map(prompt).collect();
    let said = generate(&TINY, &prompts);
    let read: Vec<Text<'_>> = (0..6).map(text).collect();
    let read = TINY.logits(&read).unwrap();
    let scored: Vec<Continuation<'_>> = (0..6).map(continuation).collect();
    let scored = TINY.log_probabilities(&scored).unwrap();
    for i in 0..6 {
        assert_eq!(said[i], generate(&TINY, &[prompt(i)])[0], "{i}");
        assert!(error(&read[i], &TINY.logits(&[text(i)]).unwrap()[0]) < 1e-5);
        let alone = &TINY.log_probabilities(&[continuation(i)]).unwrap()[0];
        assert_eq!(alone.len(), scored[i].len());
        assert!(
            alone
                .iter()
                .zip(&scored[i])
                .all(|(a, b)| (a - b).abs() < 1e-4)
        );
    }
    // The same prompt, by different adapters.
    assert!(error(&read[5], &read[0]) > 0.01);
    let same = [None, Some(&one), Some(&two)].map(|adapter| Continuation {
        prompt: &texts[0],
        tokens: &texts[1],
        adapter,
    });
    let same = TINY.log_probabilities(&same).unwrap();
    assert!(same[0] != same[1] && same[1] != same[2] && same[0] != same[2]);
}

#[test]
fn only_the_assistants_turns_and_their_ends_are_learned() {
    let (end, text) = (TINY.tokenizer().id("<|im_end|>").unwrap(), TINY.tokenizer());
    let chat = chat(1);
    let example = Example::chat(&TINY, &chat).unwrap();
    let mut turns = Vec::new();
    let mut last = false;
    for (token, target) in example.tokens().iter().zip(example.targets()) {
        if *target && !last {
            turns.push(Vec::new());
        }
        if *target {
            turns.last_mut().unwrap().push(*token);
        }
        last = *target;
    }
    let want = ["Hello!", "No, not it."].map(|answer| {
        let mut tokens = text.encode(answer).unwrap();
        tokens.push(end);
        tokens
    });
    assert_eq!(turns, want);
    let whole = TINY.chat_tokens(&chat, false).unwrap();
    assert!(whole.starts_with(example.tokens()) && example.tokens().last() == Some(&end));
}

#[test]
fn of_an_answer_the_turns_before_are_read_and_not_learned() {
    let several = chat(1);
    let (all, last) = (
        Example::chat(&TINY, &several).unwrap(),
        Example::answer(&TINY, &several).unwrap(),
    );
    assert_eq!(all.tokens(), last.tokens());
    let before = TINY.chat_tokens(&several[..3], true).unwrap().len();
    assert_eq!(last.targets()[before..], all.targets()[before..]);
    assert!(!last.targets()[..before].contains(&true));
    assert!(all.targets()[..before].contains(&true));
    let one = chat(3);
    assert_eq!(
        Example::chat(&TINY, &one).unwrap(),
        Example::answer(&TINY, &one).unwrap()
    );
    let asked = Example::answer(&TINY, &several[..3]).unwrap_err();
    assert!(asked.to_string().contains("nothing to learn"), "{asked}");
}

/// Adapters in `dir` are refused with these words.
pub fn assert_refused(dir: &Path, decoder: &Decoder, parts: &[&str]) -> ModelError {
    let refusal = Adapter::read(dir, decoder).unwrap_err();
    let message = refusal.to_string();
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
    refusal
}

#[test]
fn an_adapter_is_never_loaded_on_other_weights() {
    let adapter = trained(&["q_proj"], 3);
    let dir = written(&adapter);
    let other = load(&reference("decoder/llama3"));
    let (own, others) = (
        TINY.identity().weights.to_string(),
        other.identity().weights.to_string(),
    );
    let refusal = assert_refused(dir.path(), &other, &[&own, &others, "trained on"]);
    assert!(matches!(refusal, ModelError::OtherBase { .. }));
    let text = Text {
        tokens: &[1, 2],
        adapter: Some(&adapter),
    };
    let refusal = other.logits(&[text]).unwrap_err();
    assert!(matches!(refusal, ModelError::OtherBase { .. }), "{refusal}");
    let refusal = Trainer::warm(Arc::new(other), &adapter, settings(), examples(2)).unwrap_err();
    assert!(matches!(refusal, ModelError::OtherBase { .. }), "{refusal}");
    // Not even on the caller's word.
    let other = load(&reference("decoder/llama3"));
    assert!(Adapter::import(dir.path(), &other).is_err());
    let weights = dir.path().join("adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let refusal = assert_refused(
        dir.path(),
        &TINY,
        &["adapter_model.safetensors", "checksum"],
    );
    assert!(matches!(refusal, ModelError::Checksum { .. }));
    let mut manifest: Value = stored_in(dir.path(), "loci.json");
    manifest["version"] = 2.into();
    fs::write(dir.path().join("loci.json"), manifest.to_string()).unwrap();
    assert_refused(
        dir.path(),
        &TINY,
        &["loci.json", "version 2", "supported: 1"],
    );
    fs::remove_file(dir.path().join("loci.json")).unwrap();
    assert_refused(dir.path(), &TINY, &["loci.json", "import"]);
}

pub fn stored_in(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
}
