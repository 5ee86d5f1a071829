//! Small decoders, adapters for them, and chats.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use loci_index::{DocumentKey, Hit, Passage};
use loci_models::{
    Adapter, Decoder, DeviceRequest, Example, Generation, LoraConfig, Message, Probe, Prompt,
    Trainer, TrainingSettings,
};
use loci_prompt::{Marks, with_context};
use loci_recall::wire::{ChatChunk, ChatCitation, ChatResponse};
use loci_recall::{LoadAdapter, LoadRequest};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Server, load_request, write_revision};

/// What `models/tests/reference/decoder/make.py` makes.
pub fn reference(name: &str) -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&here)
        .join("../models/tests/reference/decoder")
        .join(name)
}

/// The tiny decoder with a context of so many tokens, in which `files` replace its own; those given as null are
/// removed.
pub fn tiny(context: usize, files: &[(&str, Value)]) -> Arc<Decoder> {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(reference("tiny")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = context.into();
    fs::write(path, config.to_string()).unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        match content {
            Value::Null => fs::remove_file(path).unwrap(),
            content => fs::write(path, content.to_string()).unwrap(),
        }
    }
    Arc::new(Decoder::load(dir.path(), DeviceRequest::Cpu).unwrap())
}

/// One that ends no answer, so that each has as many tokens as it may.
pub fn talkative(context: usize) -> Arc<Decoder> {
    let no_end = ("generation_config.json", json!({"eos_token_id": []}));
    tiny(context, &[no_end])
}

/// The context of [`TALKATIVE`].
pub const CONTEXT: usize = 8192;

pub static TALKATIVE: LazyLock<Arc<Decoder>> = LazyLock::new(|| talkative(CONTEXT));

pub fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

/// An adapter of the tiny decoder that changes what it says.
pub static ADAPTER: LazyLock<Arc<Adapter>> = LazyLock::new(|| {
    let decoder = tiny(4096, &[]);
    let example = |i: usize| {
        let answer = if i.is_multiple_of(2) {
            "Yes."
        } else {
            "No, not it."
        };
        let turns = [
            message("user", &format!("Is {i} even?")),
            message("assistant", answer),
        ];
        Example::chat(&decoder, &turns).unwrap()
    };
    let lora = LoraConfig {
        targets: ["q_proj", "v_proj", "up_proj"].map(str::to_owned).into(),
        ..LoraConfig::default()
    };
    let settings = TrainingSettings {
        epochs: 20,
        batch: 3,
        learning_rate: 1e-2,
        seed: 5,
        ..TrainingSettings::default()
    };
    let examples = (0..10).map(example).collect();
    let mut trainer = Trainer::new(decoder.clone(), lora, settings, examples).unwrap();
    while trainer.step().unwrap().is_some() {}
    Arc::new(trainer.adapter().unwrap())
});

/// The adapter as a release has it, with what was recorded of it.
pub fn judged() -> LoadAdapter {
    let decoder = &TALKATIVE;
    let record = |question: &str| {
        let prompt = decoder.render(&[message("user", question)], true).unwrap();
        Probe::record(decoder, Some(&ADAPTER), prompt, "No, not it.".to_owned()).unwrap()
    };
    LoadAdapter {
        digest: ADAPTER.digest(),
        adapter: ADAPTER.clone(),
        probes: ["Is 3 even?", "Is it?"].map(record).into(),
    }
}

pub fn escalation() -> BTreeMap<String, LoadAdapter> {
    [("escalation".to_owned(), judged())].into()
}

pub fn chat_request(
    release: &str,
    directory: PathBuf,
    decoder: &Arc<Decoder>,
    adapters: BTreeMap<String, LoadAdapter>,
) -> LoadRequest {
    LoadRequest {
        decoder: Some(decoder.clone()),
        adapters,
        ..load_request(release, directory)
    }
}

impl Server {
    /// Builds a release with a decoder, and switches to it.
    pub async fn chat_release(&self, release: &str, decoder: &Arc<Decoder>) {
        let directory = self.dir.path().join(release);
        write_revision(&directory, release, |vectors| vectors);
        let request = chat_request(release, directory, decoder, escalation());
        let prepared = self.recall.prepare(request).await.unwrap();
        self.recall.switch(prepared);
    }

    pub async fn post_chat(&self, body: &Value) -> Response {
        self.post("/v1/chat/completions", body).await
    }

    /// Chats and expects an answer.
    pub async fn chat(&self, body: Value) -> ChatResponse {
        let response = self.post_chat(&body).await;
        let header = response.headers().get("loci-release").cloned();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        let answer: ChatResponse = serde_json::from_value(answer).unwrap();
        assert_eq!(header.unwrap().to_str().unwrap(), answer.release);
        answer
    }

    /// Waits until a metric has a value.
    pub async fn until(&self, metric: &str, value: f64) {
        let reached = async { while self.metric(metric).await != value {} };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        reached.unwrap_or_else(|_| panic!("{metric} does not become {value}"));
    }
}

/// A question to the release's documents, answered by the likeliest tokens.
pub fn ask(question: &str, max_tokens: usize) -> Value {
    json!({"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0})
}

/// The tokens of the prompt in which these passages stand and no other.
pub fn prompt_of(decoder: &Decoder, messages: &[Message], citations: &[ChatCitation]) -> Vec<u32> {
    let hits: Vec<Hit> = citations.iter().map(hit).collect();
    let marks = Marks::of(decoder.tokenizer());
    let all = |_: &[Message]| Ok::<_, Infallible>(true);
    let context = with_context(messages, &hits, &marks, all).unwrap();
    assert!((1..).zip(citations).all(|(n, cited)| cited.number == n));
    decoder.chat_tokens(&context.messages, true).unwrap()
}

fn hit(cited: &ChatCitation) -> Hit {
    let place = cited.citation.clone();
    Hit {
        score: cited.score,
        dense: None,
        bm25: None,
        fused: cited.score,
        key: DocumentKey::new(place.source, place.document),
        uri: place.uri,
        version: place.version,
        memory: "factual".to_owned(),
        title: place.title,
        passage: Passage {
            ordinal: 0,
            text: cited.text.clone(),
            span: place.span[0]..place.span[1],
            headings: place.headings,
        },
        metadata: BTreeMap::new(),
    }
}

/// What a decoder says by itself.
pub fn said(
    decoder: &Decoder,
    tokens: &[u32],
    options: &Generation,
    adapter: Option<&Adapter>,
) -> String {
    let prompt = Prompt {
        tokens,
        options,
        adapter,
    };
    let mut all = decoder
        .generate(&[prompt], &mut |_| ControlFlow::Continue(()))
        .unwrap();
    all.remove(0).text
}

pub fn likeliest(max_tokens: usize) -> Generation {
    Generation {
        max_tokens,
        ..Generation::default()
    }
}

/// A streamed answer.
pub struct Stream {
    response: Response,
    read: Vec<u8>,
}

impl Stream {
    pub fn new(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let read = Vec::new();
        Self { response, read }
    }

    /// The data of the next event.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") else {
                self.read.extend(self.response.chunk().await.unwrap()?);
                continue;
            };
            let rest = self.read.split_off(end + 2);
            let event = std::mem::replace(&mut self.read, rest);
            let event = String::from_utf8(event).unwrap();
            match event.trim_end().strip_prefix("data: ") {
                Some(data) => return Some(data.to_owned()),
                None => assert!(event.starts_with(':'), "{event}"),
            }
        }
    }

    /// All pieces that are left, `[DONE]` last.
    pub async fn rest(mut self) -> Vec<ChatChunk> {
        let mut chunks = Vec::new();
        loop {
            let data = self.next().await.expect("an answer ends with [DONE]");
            if data == "[DONE]" {
                assert_eq!(self.next().await, None);
                return chunks;
            }
            let chunk = serde_json::from_str(&data);
            chunks.push(chunk.unwrap_or_else(|e| panic!("{e}: {data}")));
        }
    }
}

/// The text of some pieces.
pub fn text(chunks: &[ChatChunk]) -> String {
    let choices = chunks.iter().flat_map(|chunk| &chunk.choices);
    let texts = choices.filter_map(|choice| choice.delta.content.as_deref());
    texts.collect()
}
