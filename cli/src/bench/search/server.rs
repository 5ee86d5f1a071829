//! Questions to a server, one by one.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use loci_recall::wire::{RetrieveRequest, RetrieveResponse};

use super::figure::Server;
use super::own::{AnswerTask, Served};
use crate::bench::peer::Peer;
use crate::bench::side::Task;
use crate::bench::{bar, stats};

/// Questions that are asked before it counts, of which none is asked again.
const FIRST: usize = 20;

/// Asks a server in a process of its own, and sees how much it grew; `content` is the size of its vectors and text.
///
/// # Errors
/// When a question is not answered.
pub async fn measure(
    task: AnswerTask,
    dir: &Path,
    questions: &[String],
    k: usize,
    content: u64,
) -> Result<Server> {
    let path = dir.join("answer.json");
    Task::Answer(task).write(&path)?;
    let (mut own, url) = tokio::task::block_in_place(|| -> Result<_> {
        let mut own = Peer::own(&path)?;
        let served: Served = own.ask("listen")?;
        Ok((own, format!("{}/v1/retrieve", served.url)))
    })?;
    let client = reqwest::Client::new();
    for n in 0..FIRST {
        ask(&client, &url, format!("What is number {n} for?"), k).await?;
    }
    let bar = bar(questions.len() as u64, "answered").with_message("over HTTP");
    let mut milliseconds = Vec::new();
    for question in questions {
        milliseconds.push(ask(&client, &url, question.clone(), k).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let resident = tokio::task::block_in_place(|| own.ask::<Served>("resident"))?.resident;
    let grown = resident.saturating_sub(own.resident);
    let sorted = stats::sorted(milliseconds);
    Ok(Server {
        questions: sorted.len(),
        p50_ms: stats::quantile(&sorted, 0.5),
        p99_ms: stats::quantile(&sorted, 0.99),
        grown,
        times_content: grown as f64 / content as f64,
    })
}

/// Milliseconds to an answer.
async fn ask(client: &reqwest::Client, url: &str, query: String, k: usize) -> Result<f64> {
    let request = RetrieveRequest {
        query,
        k: Some(k as u64),
        ..RetrieveRequest::default()
    };
    let start = Instant::now();
    let answer = client.post(url).json(&request).send().await?;
    let answer: RetrieveResponse = answer.error_for_status()?.json().await?;
    let took = 1e3 * start.elapsed().as_secs_f64();
    if answer.passages.is_empty() {
        bail!("nothing was found for {:?}", request.query);
    }
    Ok(took)
}
