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

/// An answer.
#[derive(Clone)]
struct Answer {
    /// When it came, after the start.
    at: Duration,
    took: Duration,
    release: String,
}

/// What became of them.
pub struct Report {
    pub asked: usize,
    /// What was wrong, and how long after the start.
    pub failed: Vec<(Duration, String)>,
    answers: Vec<Answer>,
}

impl Report {
    /// The time within which so much of a hundred queries was answered.
    pub fn percentile(&self, of_hundred: usize) -> Duration {
        let mut times: Vec<Duration> = self.answers.iter().map(|a| a.took).collect();
        times.sort();
        times[times.len() * of_hundred / 100]
    }

    /// The 99th percentile of the time to an answer.
    pub fn p99(&self) -> Duration {
        self.percentile(99)
    }

    /// From the first answer of a release to the last one of any before it: the longest over all releases.
    pub fn longest_switch(&self) -> Duration {
        let mut answers = self.answers.clone();
        answers.sort_by_key(|a| a.at);
        let mut last = Vec::<(&str, Duration, Duration)>::new();
        for answer in &answers {
            match last.iter_mut().find(|l| l.0 == answer.release) {
                Some(known) => known.2 = answer.at,
                None => last.push((&answer.release, answer.at, answer.at)),
            }
        }
        let switches = last.iter().zip(last.iter().skip(1));
        let times = switches.map(|(old, new)| old.2.saturating_sub(new.1));
        times.max().unwrap_or_default()
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
    let (failed, answers) = (
        Arc::<Mutex<Vec<_>>>::default(),
        Arc::<Mutex<Vec<_>>>::default(),
    );
    let mut beat = tokio::time::interval(BEAT);
    let mut queries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let (client, url) = (client.clone(), url.clone());
        let (failed, answers) = (failed.clone(), answers.clone());
        queries.push(tokio::spawn(async move {
            let began = Instant::now();
            match ask(&client, &url).await {
                Ok(answer) => {
                    let release = answer["release"].as_str().unwrap_or_default().to_owned();
                    let (at, took) = (started.elapsed(), began.elapsed());
                    answers.lock().await.push(Answer { at, took, release });
                }
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
        answers: answers.lock().await.clone(),
    }
}
