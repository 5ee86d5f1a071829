//! Vector search in real passages, alone and behind filters, beside other libraries; and a server with them.

mod cache;
mod collection;
mod draw;
mod exact;
mod figure;
pub mod own;
mod server;
mod sides;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, value_parser};
use jiff::SignedDuration;
use loci_digest::Digest;
use loci_index::{Delta, Fusion, Identity, IndexedDocument, MetaValue, Phase, assemble};
use loci_models::{DeviceRequest, Encoder, Role};
use loci_worker::chunk::ChunkerConfig;

use super::bar;
use super::side::Task;
use crate::commands::Shared;
use crate::output::{self, Output, count};
use collection::Collection;
use draw::{Condition, Drawn, PLACE, SAMPLE};
use exact::Vectors;
use figure::{Bounds, Report};
use own::{AnswerTask, Fields, ROW, SearchTask};
use sides::Sides;

/// Recall and time of vector search, alone and behind filters, beside usearch, hnswlib, faiss and qdrant; and of a server
#[derive(Debug, Args)]
pub struct Search {
    /// The directory of the model
    #[arg(long)]
    model: PathBuf,
    /// A directory with Markdown, HTML or text files; may be given again, for what the ones before lack
    #[arg(long, required = true)]
    documents: Vec<PathBuf>,
    /// How many passages
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u32).range(100..))]
    passages: u32,
    /// The most tokens of a passage, within what the model takes; an eighth of them repeats the one before
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Where vectors are kept for the next time [default: bench in the directory of state]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// How many questions, all distinct
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    queries: u32,
    /// How many of them behind each filter
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..))]
    filtered: u32,
    /// Passages wanted of each
    #[arg(short, long, default_value_t = 10, value_parser = value_parser!(u16).range(1..=1000))]
    k: u16,
    /// Candidates that the peers keep on a walk
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u16).range(1..))]
    candidates: u16,
    /// Rounds; in each, all take their turn, in an order that changes
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// A Python with the packages of tests/python/bench-search.txt
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Fails below such a recall without a filter
    #[arg(long, value_name = "SHARE")]
    recall: Option<f64>,
    /// Fails above such a median time without a filter, such as 0.3ms
    #[arg(long, value_name = "TIME")]
    p50: Option<SignedDuration>,
    /// Fails below such a recall behind any filter, and where all that passes was scanned, below 1
    #[arg(long, value_name = "SHARE")]
    filtered_recall: Option<f64>,
    /// Fails above such a median time behind any filter
    #[arg(long, value_name = "TIME")]
    filtered_p50: Option<SignedDuration>,
    /// Fails above such a median time over HTTP
    #[arg(long, value_name = "TIME")]
    http_p50: Option<SignedDuration>,
    /// Fails above such a 99th percentile over HTTP
    #[arg(long, value_name = "TIME")]
    http_p99: Option<SignedDuration>,
    /// Fails when the server grows by more than so many times its vectors and text
    #[arg(long, value_name = "TIMES")]
    memory: Option<f64>,
}

/// What is measured on.
struct Work {
    collection: Collection,
    drawn: Drawn,
    questions: Vec<String>,
    vectors: Vectors,
    revision: PathBuf,
}

impl Search {
    /// Measures and prints.
    ///
    /// # Errors
    /// Also when a side answers with what does not pass, and when a bound is missed.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = self.cache.clone();
        let cache = cache.unwrap_or_else(|| shared.state.join("bench"));
        let work = tokio::task::block_in_place(|| self.prepare(&cache, dir.path()))?;
        let (vectors, text) = work.content();
        let answer = AnswerTask {
            model: self.model.clone(),
            revision: work.revision.clone(),
        };
        let k = usize::from(self.k);
        // First, while no peer is there.
        let asked = server::measure(answer, dir.path(), &work.questions, k, vectors + text);
        let server = asked.await?;
        let (search, filtered) = tokio::task::block_in_place(|| self.measure(&work, dir.path()))?;
        let report = Report {
            passages: work.collection.texts.len(),
            documents: work.collection.documents.len(),
            dimensions: work.vectors.dimensions,
            k,
            questions: work.questions.len(),
            filtered_questions: self.filtered(),
            rounds: usize::from(self.rounds),
            vectors,
            text,
            search,
            filtered,
            server,
        };
        match shared.output {
            Output::Json => output::json(&report)?,
            Output::Table => report.show(),
        }
        let missed = report.missed(&self.bounds());
        if !missed.is_empty() {
            bail!("{}", missed.join("; "));
        }
        Ok(())
    }

    fn filtered(&self) -> usize {
        self.filtered.min(self.queries) as usize
    }

    fn bounds(&self) -> Bounds {
        let milliseconds = |time: Option<SignedDuration>| time.map(|t| 1e3 * t.as_secs_f64());
        Bounds {
            recall: self.recall,
            p50: milliseconds(self.p50),
            filtered_recall: self.filtered_recall,
            filtered_p50: milliseconds(self.filtered_p50),
            http_p50: milliseconds(self.http_p50),
            http_p99: milliseconds(self.http_p99),
            memory: self.memory,
        }
    }

    /// Cuts, embeds and assembles.
    fn prepare(&self, cache: &Path, dir: &Path) -> Result<Work> {
        let encoder = Encoder::load(&self.model, DeviceRequest::Cpu)
            .with_context(|| format!("--model {}", self.model.display()))?;
        let tokenizer = encoder.tokenizer();
        let limit = tokenizer.max_tokens() - tokenizer.special_tokens();
        let max_tokens = self.max_tokens.min(limit);
        let chunking = ChunkerConfig {
            max_tokens,
            overlap_tokens: max_tokens / 8,
        };
        let wanted = self.passages as usize;
        let mut collection = Collection::read(&self.documents, wanted, chunking, tokenizer)?;
        let questions = collection.questions(self.queries as usize)?;
        let vectors = Vectors {
            dimensions: encoder.dimensions(),
            passages: cache::vectors(cache, &encoder, Role::Passage, &collection.texts)?,
            questions: cache::vectors(cache, &encoder, Role::Query, &questions)?,
        };
        let drawn = draw::filters(&collection.sizes());
        mark(&mut collection, &drawn);
        let identity = Identity {
            embedder: encoder.identity().digest(),
            chunker: Digest::of_json(&chunking.digest(tokenizer.digest()))?,
            dimensions: encoder.dimensions(),
            rerank: None,
        };
        let revision = dir.join("revision");
        build(&collection, &vectors, &identity, &revision)?;
        Ok(Work {
            collection,
            drawn,
            questions,
            vectors,
            revision,
        })
    }

    /// Everybody's figures, without a filter and behind each.
    fn measure(
        &self,
        work: &Work,
        dir: &Path,
    ) -> Result<(Vec<figure::Figure>, Vec<figure::Filtered>)> {
        let (conditions, passing) = work.passing();
        let left_out = work.drawn.conditions.len() + 1 - passing.len();
        if left_out > 0 && (self.filtered_recall.is_some() || self.filtered_p50.is_some()) {
            bail!(
                "{left_out} filters pass nothing and cannot be held to --filtered-recall and --filtered-p50: give more --passages"
            );
        }
        let bar = bar(work.questions.len() as u64, "compared with all").with_message("questions");
        let best = work
            .vectors
            .best(usize::from(self.k), &passing, || bar.inc(1))?;
        bar.finish_and_clear();
        let task = self.task(work, dir, &conditions)?;
        let rounds = usize::from(self.rounds);
        let mut sides = Sides::start(&task, &self.python, rounds)?;
        // Without a filter all pass: that is the last.
        let all = conditions.len();
        let judge = |who: &str, answers: &[own::Answers], filter: usize| {
            let asked = if filter == all {
                best.len()
            } else {
                self.filtered()
            };
            let best: Vec<_> = best[..asked].iter().map(|best| best[filter]).collect();
            figure::Figure::new(who, answers, &work.vectors, &best, &passing[filter])
        };
        let search = sides.ask_all("run all", |who, answers| judge(who, answers, all))?;
        let mut filtered = Vec::new();
        sides.keep_filtering();
        for (filter, condition) in conditions.iter().enumerate() {
            let command = format!("run {filter}");
            let figures = sides.ask_all(&command, |who, answers| judge(who, answers, filter))?;
            filtered.push(figure::Filtered::new(condition, &passing[filter], figures));
        }
        Ok((search, filtered))
    }

    /// Writes down what all sides are to do.
    fn task(&self, work: &Work, dir: &Path, conditions: &[Condition]) -> Result<PathBuf> {
        let (passages, questions) = (dir.join("passages.f32"), dir.join("questions.f32"));
        own::write(&passages, &work.vectors.passages)?;
        own::write(&questions, &work.vectors.questions)?;
        let sizes = work.collection.sizes().into_iter();
        let fields = sizes.zip(&work.drawn.samples).enumerate();
        let task = SearchTask {
            revision: work.revision.clone(),
            passages,
            questions,
            dimensions: work.vectors.dimensions,
            k: usize::from(self.k),
            candidates: usize::from(self.candidates),
            conditions: conditions.to_vec(),
            filtered: self.filtered(),
            documents: fields
                .map(|(place, (rows, sample))| Fields {
                    rows,
                    sample: sample.clone(),
                    place,
                })
                .collect(),
        };
        let path = dir.join("search.json");
        Task::Search(task).write(&path)?;
        Ok(path)
    }
}

impl Work {
    /// Bytes of the vectors, and of the text.
    fn content(&self) -> (u64, u64) {
        let text: usize = self.collection.texts.iter().map(String::len).sum();
        (4 * self.vectors.passages.len() as u64, text as u64)
    }

    /// The filters that something passes, and which rows pass each; after those, all rows.
    fn passing(&self) -> (Vec<Condition>, Vec<Vec<bool>>) {
        let (mut conditions, mut passing) = (Vec::new(), Vec::new());
        let sizes = self.collection.sizes();
        for condition in &self.drawn.conditions {
            let documents = sizes.iter().zip(&self.drawn.samples).enumerate();
            let rows = documents.flat_map(|(place, (size, samples))| {
                std::iter::repeat_n(condition.passes(samples, place), *size)
            });
            let rows: Vec<bool> = rows.collect();
            if rows.contains(&true) {
                conditions.push(condition.clone());
                passing.push(rows);
            } else {
                let (kind, share) = (&condition.kind, condition.share);
                eprintln!("left out: no passage passes \"{kind}\", {share} %: more are needed");
            }
        }
        passing.push(vec![true; self.collection.texts.len()]);
        (conditions, passing)
    }
}

/// Gives documents what filters ask for, and the row of their first passage.
fn mark(collection: &mut Collection, drawn: &Drawn) {
    let marks = collection.rows().into_iter().zip(&drawn.samples);
    let marked = collection.documents.iter_mut().zip(marks).enumerate();
    for (place, (document, (rows, samples))) in marked {
        let samples = samples.iter().cloned().map(MetaValue::Text).collect();
        let fields = [
            (ROW, vec![MetaValue::Integer(rows.start as i64)]),
            (PLACE, vec![MetaValue::Integer(place as i64)]),
            (SAMPLE, samples),
        ];
        let fields = fields.into_iter().filter(|(_, values)| !values.is_empty());
        document.metadata = fields
            .map(|(name, values)| (name.to_owned(), values))
            .collect();
    }
}

/// Assembles the revision.
fn build(
    collection: &Collection,
    vectors: &Vectors,
    identity: &Identity,
    revision: &Path,
) -> Result<()> {
    let documents = collection.documents.iter().zip(collection.rows());
    let upsert = documents.map(|(document, rows)| {
        let (start, end) = (
            rows.start * vectors.dimensions,
            rows.end * vectors.dimensions,
        );
        IndexedDocument {
            document: document.clone(),
            vectors: vectors.passages[start..end].to_vec(),
        }
    });
    let delta = Delta {
        remove: Vec::new(),
        upsert: upsert.collect(),
    };
    let bar = bar(collection.texts.len() as u64, "assembled");
    let info = assemble(
        None,
        delta,
        identity,
        Fusion::default(),
        revision,
        &mut |progress| {
            bar.set_message(match progress.phase {
                Phase::Text => "text",
                Phase::Vectors => "vectors",
                Phase::Graph => "graph",
            });
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            ControlFlow::Continue(())
        },
    )?;
    bar.finish_and_clear();
    if info.passages != collection.texts.len() as u64 {
        bail!(
            "the revision has {} passages, not {}",
            count(info.passages),
            count(collection.texts.len() as u64)
        );
    }
    Ok(())
}
