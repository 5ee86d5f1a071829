//! Our own sides: the index alone, on one thread, and the server with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use loci_index::{Filter, Mode, Query, Revision};
use loci_models::{DeviceRequest, Encoder, limit_threads};
use loci_recall::{Auth, LoadRequest, Recall, RecallOptions};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::draw::Condition;
use crate::bench::side::{memory, serve};

/// The metadata field with the row of a document's first passage.
pub const ROW: &str = "row";

/// What is searched, and by whom. The peers read it, too.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTask {
    pub revision: PathBuf,
    /// A file with the vectors of the passages, row by row, little-endian f32.
    pub passages: PathBuf,
    /// The same of the questions.
    pub questions: PathBuf,
    pub dimensions: usize,
    pub k: usize,
    /// Candidates that the peers keep on a walk.
    pub candidates: usize,
    pub conditions: Vec<Condition>,
    /// How many questions are asked behind each.
    pub filtered: usize,
    /// What there is to filter by.
    pub documents: Vec<Fields>,
}

/// A document's values.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fields {
    /// How many rows it has; they follow those of the document before.
    pub rows: usize,
    pub sample: Vec<String>,
    pub place: usize,
}

/// A server with a revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerTask {
    pub model: PathBuf,
    pub revision: PathBuf,
}

/// What is answered to `run all`, and to `run N`: all questions without a filter, or some behind condition N.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answers {
    /// Of each question.
    pub milliseconds: Vec<f64>,
    /// Of each question: what was found, the best first.
    pub rows: Vec<Vec<usize>>,
    /// Of each question: how; peers do not say.
    #[serde(default)]
    pub strategies: Vec<String>,
}

/// What a server answers to `listen`, and to `resident`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Served {
    pub url: String,
    /// Bytes of the process in memory.
    pub resident: u64,
}

/// Answers by the index, until no more commands come.
pub fn search(task: &SearchTask) -> Result<()> {
    limit_threads(1)?;
    let revision = Revision::open(&task.revision)?;
    let questions = floats(&task.questions)?;
    let questions: Vec<&[f32]> = questions.chunks_exact(task.dimensions).collect();
    serve(|command| match command.strip_prefix("run ") {
        Some("all") => ask(&revision, &questions, task.k, None),
        Some(number) => {
            let condition = number
                .parse()
                .ok()
                .and_then(|n: usize| task.conditions.get(n));
            let condition = condition.with_context(|| format!("no such filter: {number}"))?;
            let some = questions.iter().take(task.filtered).copied();
            let some: Vec<&[f32]> = some.collect();
            ask(&revision, &some, task.k, Some(&condition.filter()))
        }
        None => bail!("no such command: {command}"),
    })
}

fn ask(
    revision: &Revision,
    questions: &[&[f32]],
    k: usize,
    filter: Option<&Filter>,
) -> Result<Answers> {
    let mut answers = Answers {
        milliseconds: Vec::new(),
        rows: Vec::new(),
        strategies: Vec::new(),
    };
    for question in questions {
        let query = Query {
            vector: Some(question),
            k,
            filter: filter.cloned(),
            mode: Mode::Dense,
            ..Query::default()
        };
        let start = Instant::now();
        let found = revision.search(&query)?;
        answers
            .milliseconds
            .push(1e3 * start.elapsed().as_secs_f64());
        let rows = found.hits.iter().map(|hit| {
            let first = hit.metadata.get(ROW).and_then(|values| values.first());
            let first = first.and_then(|value| value.to_string().parse::<usize>().ok());
            let first = first.with_context(|| format!("{} has lost its row", hit.key))?;
            Ok(first + hit.passage.ordinal as usize)
        });
        answers.rows.push(rows.collect::<Result<_>>()?);
        answers.strategies.push(found.strategy.to_owned());
    }
    Ok(answers)
}

/// Serves the revision over HTTP, until no more commands come. What it has in memory before is without the revision.
pub fn answer(task: &AnswerTask) -> Result<()> {
    let encoder = Arc::new(Encoder::load(&task.model, DeviceRequest::Cpu)?);
    let recall = Recall::new(RecallOptions::default())?;
    let mut url = String::new();
    serve(|command| {
        match command {
            "listen" => {
                let listening = listen(&recall, &encoder, &task.revision);
                url = Handle::current().block_on(listening)?;
            }
            "resident" => {}
            _ => bail!("no such command: {command}"),
        }
        Ok(Served {
            url: url.clone(),
            resident: memory("VmRSS")?,
        })
    })
}

async fn listen(recall: &Recall, encoder: &Arc<Encoder>, revision: &Path) -> Result<String> {
    let request = LoadRequest {
        pipeline: "bench".to_owned(),
        release: "bench-1".to_owned(),
        directory: revision.to_owned(),
        encoder: Arc::clone(encoder),
        cross_encoder: None,
        decoder: None,
        adapters: Default::default(),
        service: None,
        latency_budget: None,
    };
    let prepared = recall.prepare(request).await?;
    recall.switch(prepared);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (recall, shutdown) = (recall.clone(), CancellationToken::new());
    tokio::spawn(async move {
        if let Err(error) = loci_recall::serve(listener, recall, Auth::Off, shutdown).await {
            eprintln!("the server ended: {error}");
        }
    });
    Ok(url)
}

/// Little-endian floats of a file.
fn floats(path: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (floats, _) = bytes.as_chunks::<4>();
    Ok(floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Writes such a file.
pub fn write(path: &Path, vectors: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
