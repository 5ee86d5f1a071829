//! Trainings of a tiny decoder: what they teach, resumed, split into passes, and to the bit.

use loci_models::{Adapter, Continuation, LoraConfig, Trainer, TrainingSettings};
use serde_json::Value;

use crate::decoder::error;
use crate::lora::{TINY, chat, examples, finish, lora, settings, tensors, trained, trainer};

#[test]
fn a_training_teaches_what_its_examples_say() {
    let mut trainer = trainer(
        lora(&["q_proj", "v_proj", "down_proj"]),
        TrainingSettings {
            epochs: 30,
            ..settings()
        },
    );
    let steps = finish(&mut trainer);
    assert_eq!(
        (steps.len(), trainer.steps(), trainer.done()),
        (120, 120, 120)
    );
    let (first, last) = (&steps[0], &steps[119]);
    assert!(last.loss < 0.5 * first.loss, "{first:?} {last:?}");
    assert_eq!((first.step, first.epoch, first.examples), (1, 1, 3));
    assert_eq!((last.step, last.epoch, last.examples), (120, 30, 1));
    assert_eq!((first.learning_rate, steps[12].learning_rate), (0.0, 1e-2));
    assert!(
        steps
            .iter()
            .all(|s| s.targets > 0 && s.tokens > s.targets && s.gradient_norm > 0.0)
    );
    let adapter = trainer.adapter().unwrap();
    let likely = |i: usize, adapter: Option<&Adapter>| -> f32 {
        let chat = chat(i);
        let (answer, asked) = chat.split_last().unwrap();
        let prompt = TINY.chat_tokens(asked, true).unwrap();
        let tokens = TINY.tokenizer().encode_bare(&answer.content).unwrap();
        let continuation = Continuation {
            prompt: &prompt,
            tokens: &tokens,
            adapter,
        };
        let each = TINY.log_probabilities(&[continuation]).unwrap();
        each[0].iter().sum()
    };
    for i in 0..10 {
        let (before, after) = (likely(i, None), likely(i, Some(&adapter)));
        assert!(after > before + 5.0, "{i}: {before} {after}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let files = |seed: u64| trained(&["q_proj", "up_proj"], seed).files().unwrap();
    let first = files(1);
    assert_eq!(first, files(1));
    assert_ne!(first[1], files(2)[1]);
    let manifest: Value = serde_json::from_slice(&first[2].1).unwrap();
    assert_eq!(manifest["training"]["settings"]["seed"], 1);
    assert_eq!(manifest["training"]["steps"], 16);
    assert_eq!(
        manifest["base"]["weights"],
        TINY.identity().weights.to_string()
    );
}

#[test]
fn a_training_goes_on_from_a_checkpoint_to_the_same_bits() {
    let lora = LoraConfig {
        dropout: 0.2,
        ..lora(&["q_proj", "v_proj", "gate_proj"])
    };
    let mut whole = trainer(lora.clone(), settings());
    let steps = finish(&mut whole);
    let mut cut = trainer(lora, settings());
    for (i, want) in steps.iter().enumerate() {
        // Another worker takes over at every step, in the middle of epochs too.
        let bytes = cut.checkpoint().unwrap();
        assert_eq!(bytes, cut.checkpoint().unwrap());
        cut = Trainer::resume(TINY.clone(), examples(10), &bytes).unwrap();
        assert_eq!(cut.done(), i);
        assert_eq!(cut.step().unwrap().as_ref(), Some(want));
    }
    let last = cut.checkpoint().unwrap();
    assert_eq!(last, whole.checkpoint().unwrap());
    let mut over = Trainer::resume(TINY.clone(), examples(10), &last).unwrap();
    assert_eq!(over.step().unwrap(), None);
    let files = whole.adapter().unwrap().files().unwrap();
    assert_eq!(over.adapter().unwrap().files().unwrap(), files);
}

fn assert_close(got: &Trainer, want: &Trainer, tolerance: f32) {
    let weights = |trainer: &Trainer| tensors(&trainer.adapter().unwrap().files().unwrap()[1].1);
    for (got, want) in weights(got).iter().zip(&weights(want)) {
        let error = error(&got.2, &want.2);
        assert!(error < tolerance, "{}: {error}", got.0);
    }
}

#[test]
fn how_a_step_is_split_into_passes_changes_rounding_only() {
    let lora = LoraConfig {
        dropout: 0.3,
        ..lora(&["k_proj", "v_proj", "o_proj"])
    };
    // A larger epsilon, because AdamW's first steps are as large for gradients that are all rounding.
    let with = |pass_tokens: usize| TrainingSettings {
        pass_tokens,
        batch: 10,
        epsilon: 1e-4,
        ..settings()
    };
    let mut whole = trainer(lora.clone(), with(100_000));
    let mut split = trainer(lora, with(1));
    for (whole, split) in finish(&mut whole).iter().zip(&finish(&mut split)) {
        assert!((whole.loss - split.loss).abs() < 1e-4 * whole.loss);
        assert!((whole.gradient_norm / split.gradient_norm - 1.0).abs() < 1e-3);
        assert_eq!(whole.targets, split.targets);
    }
    assert_close(&split, &whole, 1e-3);
}

#[test]
fn recomputing_layers_gives_the_same_bytes() {
    let with = |recompute: bool| {
        let lora = LoraConfig {
            dropout: 0.1,
            ..lora(&["q_proj", "down_proj"])
        };
        let mut trainer = trainer(lora, settings()).recomputing(recompute);
        finish(&mut trainer);
        trainer.adapter().unwrap().files().unwrap()
    };
    assert_eq!(with(false), with(true));
}

#[test]
fn a_warm_start_begins_with_the_adapter() {
    let adapter = trained(&["q_proj", "v_proj"], 1);
    let warm = Trainer::warm(TINY.clone(), &adapter, settings(), examples(10)).unwrap();
    let (files, first) = (adapter.files().unwrap(), warm.adapter().unwrap());
    assert_eq!(first.files().unwrap()[..2], files[..2]);
    let record = first.training().unwrap();
    assert_eq!((record.start, record.steps), (Some(adapter.digest()), 0));
    let cold = trainer(lora(&["q_proj", "v_proj"]), settings());
    assert_eq!(cold.adapter().unwrap().training().unwrap().start, None);
}
