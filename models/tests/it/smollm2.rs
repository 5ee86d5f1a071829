//! SmolLM2-135M-Instruct from its .gguf file, against transformers on the same weights.

use std::env;
use std::path::PathBuf;
use std::sync::LazyLock;

use loci_models::{Decoder, Finish, Message, Prompt};
use serde::Deserialize;

use crate::decoder::{
    Stored, assert_likelihoods, cut, error, generate, load, logits, options, prompt, stored, tables,
};

static SMOLLM2: LazyLock<Decoder> = LazyLock::new(|| {
    let file = env::var("LOCI_TEST_DECODER").expect(
        "LOCI_TEST_DECODER must name the .gguf file of SmolLM2-135M-Instruct: run make test",
    );
    load(&PathBuf::from(file))
});

/// Every so many entries of the vocabulary have their logits stored.
const STRIDE: usize = 499;

#[derive(Deserialize)]
struct Real {
    #[serde(flatten)]
    stored: Stored,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    ids: Vec<u32>,
    #[serde(default)]
    greedy: Vec<u32>,
    #[serde(default)]
    text: String,
}

#[test]
fn smollm2_agrees_with_transformers() {
    let real: Real = stored("decoder/smollm2.json");
    let want = tables("decoder/smollm2.safetensors");
    let texts = real.stored.texts;
    let ids: Vec<&[u32]> = texts.iter().map(|t| t.ids.as_slice()).collect();
    let got = logits(&SMOLLM2, &ids);
    let few = options(16);
    let prompts: Vec<Prompt<'_>> = ids.iter().map(|ids| prompt(ids, &few)).collect();
    let written = generate(&SMOLLM2, &prompts);
    let mut largest = 0f32;
    for (i, text) in texts.iter().enumerate() {
        let encoded = SMOLLM2.tokenizer().encode(&text.text).unwrap();
        assert_eq!(encoded, text.ids, "{:?}", text.text);
        let rows = got[i].chunks_exact(49_152);
        let sample: Vec<f32> = rows
            .flat_map(|row| row.iter().step_by(STRIDE))
            .copied()
            .collect();
        largest = largest.max(error(&sample, &want[i]));
        assert_eq!(
            written[i].tokens,
            cut(&SMOLLM2, &text.greedy),
            "{:?}",
            text.text
        );
    }
    // As docs/performance.md has it.
    let model = "SmolLM2-135M-Instruct, Q4_1";
    println!(
        "| {model} | transformers | {} texts | {largest:.1e} |",
        texts.len()
    );
    assert!(largest < 1e-4, "{largest}");
    assert_likelihoods(&SMOLLM2, &real.stored.continuations);
}

#[test]
fn smollm2_reads_and_answers_chats_as_in_transformers() {
    let real: Real = stored("decoder/smollm2.json");
    for chat in &real.chats {
        let ids = SMOLLM2.chat_tokens(&chat.messages, true).unwrap();
        assert_eq!(ids, chat.ids);
    }
    let first = &real.chats[0];
    let many = options(24);
    let reply = &generate(&SMOLLM2, &[prompt(&first.ids, &many)])[0];
    assert_eq!(reply.tokens, cut(&SMOLLM2, &first.greedy));
    if reply.finish == Finish::Length {
        assert_eq!(reply.text, first.text);
    }
}

#[test]
fn smollm2_describes_itself() {
    let identity = SMOLLM2.identity();
    assert_eq!(
        identity.architecture,
        "llama layers=30 hidden=576 heads=9/3 size=64 intermediate=1536 vocabulary=49152 silu eps=1e-5 theta=100000 rope=default tied=true"
    );
    assert_eq!(
        (identity.context, identity.ends.as_slice()),
        (8192, [2].as_slice())
    );
    assert_eq!(
        identity.weights.to_string(),
        "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    assert_eq!(SMOLLM2.projections().len(), 210);
}
