//! Chats that a real vLLM answers. `make test-vllm` installs and starts one; elsewhere this is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loci_models::{
    Adapter, Decoder, DeviceRequest, Example, LoraConfig, Trainer, TrainingSettings,
};
use loci_prompt::Marks;
use loci_recall::{Auth, LoadRequest, LoadService, adapter_name};
use reqwest::Url;
use serde_json::{Value, json};

use crate::chat_support::{Stream, ask, likeliest, message, prompt_of, said, text};
use crate::support::{Server, load_request, options, write_revision};

/// Where a vLLM is that serves the model in the directory under the name `base`.
fn real() -> Option<(Url, PathBuf)> {
    let (Ok(url), Some(model)) = (
        std::env::var("LOCI_TEST_VLLM"),
        std::env::var_os("LOCI_TEST_VLLM_MODEL"),
    ) else {
        eprintln!(
            "skipped: LOCI_TEST_VLLM names no vLLM; `make test-vllm` installs and starts one"
        );
        return None;
    };
    Some((url.parse().unwrap(), model.into()))
}

fn trained(decoder: &Arc<Decoder>) -> Adapter {
    let example = |i: usize| {
        let answer = if i.is_multiple_of(2) {
            "Even it is, sir."
        } else {
            "Odd it is, sir."
        };
        let turns = [
            message("user", &format!("Is {i} even?")),
            message("assistant", answer),
        ];
        Example::chat(decoder, &turns).unwrap()
    };
    let settings = TrainingSettings {
        epochs: 16,
        batch: 4,
        learning_rate: 2e-3,
        seed: 5,
        ..TrainingSettings::default()
    };
    let examples = (0..8).map(example).collect();
    let mut trainer =
        Trainer::new(decoder.clone(), LoraConfig::default(), settings, examples).unwrap();
    while trainer.step().unwrap().is_some() {}
    trainer.adapter().unwrap()
}

async fn running(url: &Url) -> f64 {
    let metrics = reqwest::get(url.join("/metrics").unwrap()).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let lines = metrics.lines();
    let running = lines.filter(|line| line.starts_with("vllm:num_requests_running"));
    let numbers = running.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    numbers.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_vllm_says_what_the_decoder_here_says() {
    let Some((url, model)) = real() else { return };
    let decoder = Arc::new(Decoder::load(&model, DeviceRequest::Cpu).unwrap());
    let adapter = trained(&decoder);
    let name = adapter_name("manners", adapter.digest());
    let server = Server::empty(options(), Auth::Off).await;
    let files = server.dir.path().join("adapter");
    adapter.write(&files).unwrap();
    let change = async |path: &str, body: Value| {
        let answer = server.client.post(url.join(path).unwrap()).json(&body);
        let answer = answer.send().await.unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{path}: {status} {:?}",
            answer.text().await
        );
    };
    let load = json!({"lora_name": name, "lora_path": files});
    change("/v1/load_lora_adapter", load).await;

    let directory = server.dir.path().join("one");
    write_revision(&directory, "one", |vectors| vectors);
    let request = LoadRequest {
        service: Some(LoadService {
            url: url.clone(),
            model: "base".to_owned(),
            marks: Marks::of(decoder.tokenizer()),
            adapters: BTreeMap::from([("manners".to_owned(), adapter.digest())]),
        }),
        ..load_request("one", directory)
    };
    let prepared = server.recall.prepare(request).await.unwrap();
    server.recall.switch(prepared);

    let mut answers = Vec::new();
    for (model, own) in [("support", None), ("support:manners", Some(&adapter))] {
        let question = "Is 12 even?";
        let mut request = ask(question, 12);
        request["model"] = json!(model);
        let answer = server.chat(request.clone()).await;
        let turns = [message("user", question)];
        let prompt = prompt_of(&decoder, &turns, &answer.citations);
        assert_eq!(answer.usage.prompt_tokens, prompt.len() as u64);
        let said = said(&decoder, &prompt, &likeliest(12), own);
        assert_eq!(answer.choices[0].message.content, said, "{model}");
        request["stream"] = json!(true);
        let chunks = Stream::new(server.post_chat(&request).await).rest().await;
        assert_eq!(text(&chunks), said, "{model}");
        answers.push(said);
    }
    assert_eq!(answers[1], "Even it is, sir.");
    assert_ne!(answers[0], answers[1]);

    let mut long = ask("Write a long story about a bicycle.", 600);
    long["stream"] = json!(true);
    let mut stream = Stream::new(server.post_chat(&long).await);
    for _ in 0..3 {
        stream.next().await.unwrap();
    }
    drop(stream);
    let idle = async {
        while running(&url).await > 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let idle = tokio::time::timeout(Duration::from_secs(5), idle).await;
    idle.expect("vLLM goes on writing for nobody");
    change("/v1/unload_lora_adapter", json!({"lora_name": name})).await;
}
