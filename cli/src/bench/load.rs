//! Queries at a steady rate, whether or not earlier ones were answered (an open loop): a server that stalls is
//! charged for every query that a user would have sent meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use loci_recall::wire::{RetrieveRequest, RetrieveResponse};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::site::Server;
use super::stats;

/// A load that runs until it is stopped.
pub struct Load {
    stop: CancellationToken,
    seen: Arc<Mutex<BTreeSet<String>>>,
    task: tokio::task::JoinHandle<Tally>,
}

#[derive(Default)]
struct Tally {
    milliseconds: Vec<f64>,
    failures: BTreeMap<String, u64>,
}

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answers {
    /// Queries sent.
    pub queries: usize,
    /// Of those, not answered with 200.
    pub failed: u64,
    /// Why, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Milliseconds from when a query was due to the end of its answer.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// The same.
    pub max_ms: f64,
}

impl Load {
    /// Asks the questions in turn, `rate` a second.
    pub fn start(url: &str, questions: Arc<[String]>, rate: f64) -> Self {
        let (stop, seen) = (CancellationToken::new(), Arc::default());
        let client = Client {
            http: reqwest::Client::new(),
            url: format!("{url}/v1/retrieve"),
            seen: Arc::clone(&seen),
        };
        let task = tokio::spawn(client.ask_all(questions, rate, stop.clone()));
        Self { stop, seen, task }
    }

    /// Waits until `wanted` releases have answered since the load began.
    pub async fn until_releases(&self, wanted: usize, server: &mut Server) -> Result<()> {
        let started = std::time::Instant::now();
        let seen = || {
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len()
        };
        while seen() < wanted {
            server.check(started)?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Waits for what is under way.
    pub async fn finish(self) -> Result<Answers> {
        self.stop.cancel();
        let tally = self.task.await?;
        let sorted = stats::sorted(tally.milliseconds);
        let failed = tally.failures.values().sum();
        Ok(Answers {
            queries: sorted.len() + failed as usize,
            failed,
            failures: tally.failures,
            p50_ms: stats::quantile(&sorted, 0.5),
            p99_ms: stats::quantile(&sorted, 0.99),
            max_ms: stats::quantile(&sorted, 1.0),
        })
    }
}

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

impl Client {
    async fn ask_all(self, questions: Arc<[String]>, rate: f64, stop: CancellationToken) -> Tally {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut tally, mut asked) = (Tally::default(), JoinSet::new());
        for question in questions.iter().cycle() {
            let due = tokio::select! {
                due = ticks.tick() => due,
                () = stop.cancelled() => break,
            };
            asked.spawn(self.clone().ask(question.clone(), due));
            while let Some(ended) = asked.try_join_next() {
                tally.add(ended);
            }
        }
        while let Some(ended) = asked.join_next().await {
            tally.add(ended);
        }
        tally
    }

    async fn ask(self, question: String, due: Instant) -> Result<f64, String> {
        let request = RetrieveRequest {
            query: question,
            k: None,
            filters: None,
            pipeline: None,
            explain: None,
        };
        let sent = self.http.post(&self.url).json(&request).send().await;
        let answer = sent.map_err(|e| e.without_url().to_string())?;
        let status = answer.status();
        if !status.is_success() {
            return Err(status.to_string());
        }
        let answer: RetrieveResponse = answer.json().await.map_err(|e| e.to_string())?;
        let took = 1e3 * due.elapsed().as_secs_f64();
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(answer.release);
        Ok(took)
    }
}

impl Tally {
    fn add(&mut self, ended: Result<Result<f64, String>, tokio::task::JoinError>) {
        match ended.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(milliseconds) => self.milliseconds.push(milliseconds),
            Err(reason) => *self.failures.entry(reason).or_default() += 1,
        }
    }
}
