//! Queries at a steady rate, whatever becomes of them: a new connection each, and no retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// One query every so often.
const BEAT: Duration = Duration::from_millis(20);

/// Queries that go on until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Report>,
}

/// What became of them.
pub struct Report {
    pub asked: usize,
    /// What was wrong, and how long after the start.
    pub failed: Vec<(Duration, String)>,
    times: Vec<Duration>,
}

impl Report {
    /// The 99th percentile of the time to an answer.
    pub fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times[times.len() * 99 / 100]
    }
}

pub async fn ask(client: &reqwest::Client, url: &str) -> Result<Value, String> {
    let question = json!({"query": "opening hours", "k": 5});
    let sent = client
        .post(format!("{url}/v1/retrieve"))
        .json(&question)
        .send()
        .await;
    let answer = sent.map_err(|e| format!("{e:?}"))?;
    let code = answer.status();
    let body = answer.text().await.map_err(|e| format!("{e:?}"))?;
    match code.is_success() {
        true => serde_json::from_str(&body).map_err(|e| e.to_string()),
        false => Err(format!("{code}: {body}")),
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

impl Load {
    pub fn start(url: &str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let task = tokio::spawn(go(url.to_owned(), stop.clone()));
        Self { stop, task }
    }

    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn go(url: String, stop: Arc<AtomicBool>) -> Report {
    let (client, started) = (client(), Instant::now());
    let (failed, times) = (
        Arc::<Mutex<Vec<_>>>::default(),
        Arc::<Mutex<Vec<_>>>::default(),
    );
    let mut beat = tokio::time::interval(BEAT);
    let mut queries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let (client, url) = (client.clone(), url.clone());
        let (failed, times) = (failed.clone(), times.clone());
        queries.push(tokio::spawn(async move {
            let began = Instant::now();
            match ask(&client, &url).await {
                Ok(_) => times.lock().await.push(began.elapsed()),
                Err(error) => failed.lock().await.push((started.elapsed(), error)),
            }
        }));
    }
    let asked = queries.len();
    for query in queries {
        query.await.unwrap();
    }
    Report {
        asked,
        failed: failed.lock().await.clone(),
        times: times.lock().await.clone(),
    }
}
