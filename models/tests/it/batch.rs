//! Texts that come and go are each continued as alone.

use std::collections::VecDeque;
use std::sync::Arc;

use loci_models::{
    Adapter, Batch, Decoder, Finish, Generated, Generation, ModelError, Prompt, Sampling, Token,
};
use serde_json::json;

use crate::decoder::{config_with, copy, generate, load, options};
use crate::lora::{TINY, trained};
use crate::reference;

struct Asked {
    prompt: Vec<u32>,
    options: Generation,
    adapter: Option<Arc<Adapter>>,
}

impl Asked {
    fn alone(&self, decoder: &Decoder) -> Generated {
        let prompt = Prompt {
            tokens: &self.prompt,
            options: &self.options,
            adapter: self.adapter.as_deref(),
        };
        generate(decoder, &[prompt]).remove(0)
    }

    fn join(&self, batch: &mut Batch) -> usize {
        let (prompt, adapter) = (self.prompt.clone(), self.adapter.clone());
        batch.join(prompt, &self.options, adapter).unwrap()
    }
}

fn sampled(seed: u64, max_tokens: usize) -> Generation {
    Generation {
        max_tokens,
        sampling: Sampling {
            temperature: 0.9,
            seed,
            ..Sampling::default()
        },
        stop: vec!["qz".to_owned()],
    }
}

/// A decoder like the tiny one that reads longer texts and ends none.
fn patient() -> Arc<Decoder> {
    let config = config_with("max_position_embeddings", json!(2048));
    let no_end = ("generation_config.json", json!({"eos_token_id": []}));
    Arc::new(load(copy([("config.json", config), no_end]).path()))
}

fn add(written: &mut Generated, token: Token) -> bool {
    written.text += &token.text;
    written.tokens.push(token.id);
    written.finish = token.finish.unwrap_or(written.finish);
    token.finish.is_some()
}

fn nothing() -> Generated {
    Generated {
        text: String::new(),
        tokens: Vec::new(),
        finish: Finish::Length,
    }
}

/// Continues all in a batch of a few seats. Each joins as soon as a seat is free.
fn come_and_go(decoder: &Arc<Decoder>, seats: usize, all: &[Asked]) -> Vec<Generated> {
    let mut batch = Batch::new(decoder.clone(), seats);
    let mut seated: Vec<Option<usize>> = vec![None; seats];
    let mut waiting: VecDeque<usize> = (0..all.len()).collect();
    let mut written: Vec<Generated> = all.iter().map(|_| nothing()).collect();
    while !(batch.is_empty() && waiting.is_empty()) {
        while seated.contains(&None)
            && let Some(next) = waiting.pop_front()
        {
            let seat = all[next].join(&mut batch);
            assert_eq!(seated[seat].replace(next), None);
        }
        for added in batch.step().unwrap() {
            let text = seated[added.seat].unwrap();
            if add(&mut written[text], added.token.unwrap()) {
                seated[added.seat] = None;
            }
        }
    }
    written
}

#[test]
fn texts_that_come_and_go_are_continued_as_alone() {
    let adapter = Arc::new(trained(&["q_proj", "v_proj", "up_proj"], 5));
    let texts = [
        "a",
        "The café in Zürich",
        "1, 2, 3",
        "def f(x):\n    return x",
        "Once upon a time",
        "there were people in the house who thought",
        "日本語",
    ];
    let asked = |(i, text): (usize, &&str)| Asked {
        prompt: TINY.tokenizer().encode(text).unwrap(),
        options: sampled(i as u64, 3 + 4 * i),
        adapter: (i % 2 == 1).then(|| adapter.clone()),
    };
    let all: Vec<Asked> = texts.iter().enumerate().map(asked).collect();
    let alone: Vec<Generated> = all.iter().map(|asked| asked.alone(&TINY)).collect();
    for seats in [1, 3, Batch::MAX_SEATS] {
        assert_eq!(come_and_go(&TINY, seats, &all), alone, "{seats} seats");
    }
}

#[test]
fn a_long_prompt_is_read_in_parts_and_others_go_on_meanwhile() {
    let decoder = patient();
    let words = "there were people in the house who thought that they would rather go ".repeat(60);
    let prompt: Vec<u32> = decoder.tokenizer().encode(&words).unwrap()[..700].to_vec();
    let (long, short) = (
        Asked {
            prompt,
            options: options(6),
            adapter: None,
        },
        Asked {
            prompt: vec![5, 6, 7],
            options: options(40),
            adapter: None,
        },
    );
    let mut batch = Batch::new(decoder.clone(), 2);
    let first = short.join(&mut batch);
    batch.step().unwrap();
    let second = long.join(&mut batch);
    let mut order = Vec::new();
    let mut written = [nothing(), nothing()];
    while !batch.is_empty() {
        for added in batch.step().unwrap() {
            order.push(added.seat);
            add(&mut written[added.seat], added.token.unwrap());
        }
    }
    // Three parts, and a token of the other text before each.
    let until = order.iter().position(|seat| *seat == second).unwrap();
    assert_eq!(order[..until], [first; 3]);
    assert_eq!(written[second], long.alone(&decoder));
}

#[test]
fn a_text_that_leaves_takes_nothing_from_the_others() {
    let asked = |seed| Asked {
        prompt: vec![9, 8, 7],
        options: sampled(seed, 20),
        adapter: None,
    };
    let (stays, leaves) = (asked(1), asked(2));
    let mut batch = Batch::new(TINY.clone(), 2);
    let kept = stays.join(&mut batch);
    let left = leaves.join(&mut batch);
    let mut written = nothing();
    for step in 0.. {
        if step == 4 {
            batch.leave(left);
            batch.leave(left);
            assert_eq!(asked(3).join(&mut batch), left);
            batch.leave(left);
        }
        let mut done = false;
        for added in batch.step().unwrap() {
            assert!(added.seat == kept || step < 4);
            if added.seat == kept {
                done = add(&mut written, added.token.unwrap());
            }
        }
        if done {
            break;
        }
    }
    assert_eq!(written, stays.alone(&TINY));
    batch.leave(left);
    assert!(batch.is_empty() && batch.step().unwrap().is_empty());
}

#[test]
fn what_cannot_be_continued_takes_no_seat() {
    let mut batch = Batch::new(TINY.clone(), 1);
    let long = vec![5; 97];
    let full = vec![5; 96];
    let empty_stop = Generation {
        stop: vec![String::new()],
        ..options(3)
    };
    for (prompt, options, parts) in [
        (vec![], options(3), ["text of no tokens", "at least one"]),
        (vec![1 << 20], options(3), ["token 1048576", "vocabulary"]),
        (long, options(3), ["97 tokens", "context of 96"]),
        (full, options(3), ["max_tokens 0", "room"]),
        (vec![5], options(0), ["max_tokens 0", "1 or more"]),
        (vec![5], empty_stop, ["stop \"\"", "at least one character"]),
    ] {
        let refusal = batch.join(prompt, &options, None).unwrap_err();
        let message = refusal.to_string();
        for part in parts {
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }
    assert!(batch.is_empty());
    let other = Arc::new(load(&reference("decoder/llama3")));
    let foreign = Arc::new(trained(&["q_proj"], 1));
    let refusal = Batch::new(other, 1).join(vec![5], &options(3), Some(foreign));
    assert!(matches!(refusal, Err(ModelError::OtherBase { .. })));
    batch.join(vec![5], &options(3), None).unwrap();
    let refusal = batch.join(vec![5], &options(3), None).unwrap_err();
    assert!(refusal.to_string().contains("a free seat"), "{refusal}");
}
