//! A refresh after few documents changed, against the build of all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use loci_crds::MemoryRun;
use serde::Serialize;
use serde_json::json;

use super::site::Server;
use super::{bar, corpus, stats};
use crate::commands::Shared;
use crate::output::{self, Output, count, say};

/// Documents asked for by the suite that judges every release.
const QUESTIONS: usize = 100;

/// Time to serve a change of some documents, against the time to build all
#[derive(Debug, Args)]
pub struct Refresh {
    /// The directory of the model
    #[arg(long)]
    model: PathBuf,
    /// A directory with Markdown or text files, to take real documents from
    #[arg(long)]
    documents: PathBuf,
    /// How many documents
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// How many change each time
    #[arg(long, default_value_t = 20)]
    change: usize,
    /// Refreshes
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    documents: usize,
    changed: usize,
    /// Seconds from the start of the program to the first answer.
    full_build: f64,
    /// Seconds from the edits to the first answer of the release with them, the median.
    refresh: f64,
    times_faster: f64,
    /// Seconds of each step, in the full build and in the last refresh.
    steps: Vec<(String, f64, f64)>,
}

impl Refresh {
    /// Measures and prints.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        if self.change == 0 || self.change > self.count || self.rounds == 0 {
            bail!("--change and --rounds: at least 1, and no more changes than --count");
        }
        let dir = tempfile::tempdir()?;
        let manifest = self.write(dir.path())?;
        let started = Instant::now();
        eprintln!("building {} documents", count(self.count as u64));
        let mut server = Server::start(&manifest, dir.path()).await?;
        let full_build = started.elapsed().as_secs_f64();
        let mut seconds = Vec::new();
        let bar = bar(self.rounds as u64, "refreshes");
        for round in 0..self.rounds {
            seconds.push(self.refresh(&mut server, dir.path(), round).await?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let (runs, _) = server.history()?;
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
            bail!("there are no runs");
        };
        let refresh = stats::median(seconds);
        let report = Report {
            documents: self.count,
            changed: self.change,
            full_build,
            refresh,
            times_faster: full_build / refresh,
            steps: steps(first, last),
        };
        match shared.output {
            Output::Json => output::json(&report),
            Output::Table => {
                report.show();
                Ok(())
            }
        }
    }

    /// Documents, a suite that looks for some of them by their own words, and a manifest.
    fn write(&self, dir: &Path) -> Result<PathBuf> {
        let model = fs::canonicalize(&self.model)
            .with_context(|| format!("--model {}: there is none", self.model.display()))?;
        let documents = corpus::read(&self.documents, self.count)?;
        fs::create_dir_all(dir.join("documents"))?;
        let mut suite = String::new();
        for (n, text) in documents.iter().enumerate() {
            fs::write(document(dir, n), text)?;
            if n % self.count.div_ceil(QUESTIONS) == 0 {
                let words = text.split_whitespace().skip(5).take(12);
                let question = words.collect::<Vec<_>>().join(" ");
                let expected = json!([{"document": format!("{n:05}.md")}]);
                suite += &json!({"question": question, "expected": expected}).to_string();
                suite.push('\n');
            }
        }
        fs::write(dir.join("suite.jsonl"), suite)?;
        let manifest = json!({
            "apiVersion": "loci.dev/v1alpha1",
            "kind": "MemoryPipeline",
            "metadata": {"name": "bench"},
            "spec": {
                "embedder": {"model": format!("file://{}", model.display())},
                "sources": [{"name": "documents", "memory": "factual", "directory": {"path": "documents"}}],
                "index": {"refresh": {"interval": "10m"}},
                "suites": [{"name": "known", "retrieval": {"data": {"file": "suite.jsonl"}}}],
                "gates": [{"suite": "known", "metric": "recallAt5", "floor": "0.20"}],
            },
        });
        let path = dir.join("pipeline.yaml");
        fs::write(&path, manifest.to_string())?;
        Ok(path)
    }

    async fn refresh(&self, server: &mut Server, dir: &Path, round: usize) -> Result<f64> {
        let client = reqwest::Client::new();
        let url = format!("{}/v1/retrieve", server.url);
        let before = release(&client, &url).await?;
        let stride = self.count / self.change;
        let edited = Instant::now();
        for n in (0..self.change).map(|i| (i * stride + round) % self.count) {
            let path = document(dir, n);
            let text = fs::read_to_string(&path)?;
            fs::write(&path, format!("{text}\n\nChange {round} is new.\n"))?;
        }
        while release(&client, &url).await? == before {
            server.check(edited)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(edited.elapsed().as_secs_f64())
    }
}

fn document(dir: &Path, n: usize) -> PathBuf {
    dir.join("documents").join(format!("{n:05}.md"))
}

async fn release(client: &reqwest::Client, url: &str) -> Result<String> {
    let asked = client
        .post(url)
        .json(&json!({"query": "what is new", "k": 1}));
    let answer: serde_json::Value = asked.send().await?.error_for_status()?.json().await?;
    let release = answer["release"].as_str();
    Ok(release.context("an answer without its release")?.to_owned())
}

fn steps(first: &MemoryRun, last: &MemoryRun) -> Vec<(String, f64, f64)> {
    let of = |run: &MemoryRun| -> Vec<(String, f64)> {
        let steps = run.status.as_ref().map(|s| &s.steps);
        let took = steps.into_iter().flatten().filter_map(|step| {
            let end = step.completion_time.as_ref()?;
            let seconds = end.0.duration_since(step.start_time.0).as_secs_f64();
            Some((step.name.as_str().to_owned(), seconds))
        });
        took.collect()
    };
    let pairs = of(first).into_iter().zip(of(last));
    pairs.map(|((name, a), (_, b))| (name, a, b)).collect()
}

impl Report {
    fn show(&self) {
        let changed = format!("{} changed", count(self.changed as u64));
        let all = format!("all {}", count(self.documents as u64));
        let mut table = output::table(&["", all.as_str(), changed.as_str()]);
        let seconds = |s: f64| format!("{s:.1} s");
        for (step, first, last) in &self.steps {
            table.add_row([step.clone(), seconds(*first), seconds(*last)]);
        }
        table.add_row([
            "until it is answered".to_owned(),
            seconds(self.full_build),
            seconds(self.refresh),
        ]);
        output::print(&table, "nothing ran");
        say!(
            "\na refresh is {:.1} times faster than the build",
            self.times_faster
        );
    }
}
