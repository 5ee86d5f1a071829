//! A pipeline with an adapter, and who chats with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::AGENTS;
use crate::objects::{self, RELEASE};
use crate::story::Story;

/// What is right of these numbers, as examples or as cases.
pub fn lines(numbers: std::ops::Range<usize>, answer: &str) -> String {
    let line = |n: usize| {
        let right = if n.is_multiple_of(2) { "Yes." } else { "No." };
        json!({"prompt": format!("Is {n} even?"), answer: right}).to_string() + "\n"
    };
    numbers.map(line).collect()
}

/// A pipeline whose adapter is called `escalation`.
pub struct Tuned {
    pub story: Arc<Story>,
    pub name: &'static str,
    /// Where it is asked.
    pub url: String,
}

impl Tuned {
    pub fn new(story: Arc<Story>, name: &'static str) -> Self {
        let url = String::new();
        Self { story, name, url }
    }

    pub async fn until(&self, what: &str, done: impl AsyncFnMut() -> bool) {
        self.story.until(what, done).await;
    }

    /// Objects of the pipeline.
    pub async fn all(&self, kind: objects::Kind) -> Vec<Value> {
        let mut all = objects::list(&self.story.client, AGENTS, kind).await;
        all.retain(|o| o["spec"]["pipelineRef"]["name"] == self.name);
        all
    }

    /// The digest of the adapter that a release of this number has; none before there is one.
    pub async fn adapter(&self, number: i64) -> Option<String> {
        let releases = self.all(RELEASE).await;
        let release = releases.iter().find(|r| r["spec"]["number"] == number)?;
        let digest = release["spec"]["adapters"][0]["adapter"].as_str()?;
        Some(digest.to_owned())
    }

    fn alias(&self) -> String {
        format!("{AGENTS}/{}:escalation", self.name)
    }

    pub async fn chat(&self) -> Result<Value, String> {
        chat(&self.story.asking, &self.url, &self.alias()).await
    }

    /// Chats that go on until they are told to stop.
    pub fn chats(&self) -> Chats {
        let (client, url, alias) = (self.story.asking.clone(), self.url.clone(), self.alias());
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut asked, mut failed) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                asked += 1;
                failed.extend(chat(&client, &url, &alias).await.err());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (asked, failed)
        });
        Chats { stop, task }
    }

    /// Waits until this release serves.
    pub async fn serves(&self, number: i64) {
        let release = format!("{}-{number}", self.name);
        self.until(&format!("{release} serves"), async || {
            self.story.status(AGENTS, self.name).await["servingRelease"] == release
        })
        .await;
    }

    /// Waits until the alias means this adapter.
    pub async fn answers_by(&self, digest: &str) {
        let name = format!("{}@{}", self.alias(), short(digest));
        self.until(&format!("{name} answers"), async || {
            self.chat()
                .await
                .is_ok_and(|answer| answer["model"] == name)
        })
        .await;
    }
}

/// An adapter's digest, as names have it.
pub fn short(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("sha256-{}", &hex[..12])
}

/// A short answer, always by the likeliest token.
async fn chat(client: &reqwest::Client, url: &str, model: &str) -> Result<Value, String> {
    let asked = json!({
        "model": model, "messages": [{"role": "user", "content": "Is 8 even?"}],
        "max_tokens": 4, "temperature": 0, "k": 0,
    });
    let sent = client.post(format!("{url}/v1/chat/completions"));
    let answer = sent
        .json(&asked)
        .send()
        .await
        .map_err(|e| format!("{e:?}"))?;
    let code = answer.status();
    let body = answer.text().await.map_err(|e| format!("{e:?}"))?;
    match code.is_success() {
        true => serde_json::from_str(&body).map_err(|e| e.to_string()),
        false => Err(format!("{code}: {body}")),
    }
}

/// Who goes on chatting.
pub struct Chats {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Chats {
    /// Fails when a chat did.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, failed) = self.task.await.unwrap();
        println!("    {asked} chats, {} failed", failed.len());
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
