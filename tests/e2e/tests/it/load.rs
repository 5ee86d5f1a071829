//! Queries at a steady rate, whatever becomes of them: a new connection each, and no retries.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One query every so often.
const BEAT: Duration = Duration::from_millis(20);

/// Queries that go on until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

/// The time that so much of a hundred times is within.
pub fn percentile(mut times: Vec<Duration>, of_hundred: usize) -> Duration {
    times.sort();
    times
        .get(times.len() * of_hundred / 100)
        .copied()
        .unwrap_or_default()
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
#[derive(Default)]
pub struct Report {
    pub asked: usize,
    /// What was wrong, and how long after the start.
    pub failed: Vec<(Duration, String)>,
    answers: Vec<Answer>,
}

impl Report {
    /// The time within which so much of a hundred queries was answered.
    pub fn percentile(&self, of_hundred: usize) -> Duration {
        percentile(self.times().collect(), of_hundred)
    }

    /// How long each answer took.
    pub fn times(&self) -> impl Iterator<Item = Duration> {
        self.answers.iter().map(|a| a.took)
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
    /// On threads of its own, before all else: what is measured is not how busy the scenario is.
    pub fn start(url: &str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (due, queries) = unbounded_channel();
        let stopped = stop.clone();
        std::thread::spawn(move || beat(&due, &stopped));
        let url = url.to_owned();
        let thread = std::thread::spawn(move || {
            before_all_else();
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(go(url, queries))
        });
        Self { stop, thread }
    }

    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::block_in_place(|| self.thread.join().unwrap())
    }
}

/// This thread waits for nobody: what asks is on another machine in a cluster of several.
fn before_all_else() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let thread = thread.file_name().unwrap().to_str().unwrap();
    let mut set = Command::new("chrt");
    set.args(["--rr", "--pid", "1", thread]);
    assert!(set.status().unwrap().success());
}

/// Says when each query is due. A runtime's own timers are coarser than a query.
fn beat(due: &UnboundedSender<Instant>, stop: &AtomicBool) {
    before_all_else();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) && due.send(next).is_ok() {
        next += BEAT;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// A query's time begins when it is due, also when it is sent late.
async fn go(url: String, mut due: UnboundedReceiver<Instant>) -> Report {
    let (client, started) = (client(), Instant::now());
    let mut queries = Vec::new();
    while let Some(began) = due.recv().await {
        let (client, url) = (client.clone(), url.clone());
        queries.push(tokio::spawn(async move {
            let answer = ask(&client, &url).await;
            (answer, started.elapsed(), began.elapsed())
        }));
    }
    let mut report = Report::default();
    for query in queries {
        report.asked += 1;
        let (answer, at, took) = query.await.unwrap();
        match answer {
            Ok(answer) => {
                let release = answer["release"].as_str().unwrap_or_default().to_owned();
                report.answers.push(Answer { at, took, release });
            }
            Err(error) => report.failed.push((at, error)),
        }
    }
    report
}
