//! Queries and space after many refreshes, against a build of the same documents at once.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use loci_digest::Digest;
use loci_index::{Delta, Fusion, Identity, Mode, Query, Revision, RevisionInfo, assemble, compact};
use serde::Serialize;

use super::collection::Collection;
use super::{bar, corpus, stats};
use crate::commands::Shared;
use crate::output::{self, Output, count, say};

/// Passages of an answer.
const K: usize = 10;

/// The ways to search; queries are answered by the first.
const MODES: [(&str, Mode); 3] = [
    ("hybrid", Mode::Hybrid),
    ("dense", Mode::Dense),
    ("bm25", Mode::Bm25),
];

/// Time of a query and size of the index after many refreshes, against a build at once
#[derive(Debug, Args)]
pub struct Churn {
    /// A directory with Markdown or text files, to take real texts from
    #[arg(long)]
    documents: PathBuf,
    /// How many real texts; documents are made of their halves
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u16).range(1..))]
    texts: u16,
    /// How many documents
    #[arg(long, default_value_t = 20_000)]
    count: usize,
    /// How many change each time; one in a hundred when absent
    #[arg(long)]
    change: Option<usize>,
    /// Refreshes, each of what the last one made
    #[arg(long, default_value_t = 500)]
    refreshes: u64,
    /// Numbers in a vector
    #[arg(long, default_value_t = 384, value_parser = value_parser!(u16).range(1..=4096))]
    dimensions: u16,
    /// Questions, each asked in every round
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u16).range(1..))]
    questions: u16,
    /// Rounds, after one that does not count
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Fails when hybrid queries take more than so many times as long
    #[arg(long, value_name = "TIMES")]
    slower: Option<f64>,
    /// Fails when the index is more than so many times as large
    #[arg(long, value_name = "TIMES")]
    larger: Option<f64>,
}

/// One revision of the same documents.
struct Subject {
    revision: Revision,
    info: RevisionInfo,
    files: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    documents: usize,
    /// In each refresh.
    changed: usize,
    refreshes: u64,
    /// Milliseconds of assembling a refresh, the median, and of the slowest.
    assemble_ms: f64,
    slowest_ms: f64,
    queries: Vec<Figure>,
    space: Space,
}

/// Milliseconds of a query, the medians.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figure {
    mode: &'static str,
    built_ms: f64,
    grown_ms: f64,
    compacted_ms: f64,
    /// How many times as long it takes after the refreshes as after a build.
    times: f64,
}

/// Bytes of an index.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Space {
    built: u64,
    grown: u64,
    compacted: u64,
    built_files: usize,
    grown_files: usize,
    /// How many times as large it is after the refreshes as after a build.
    times: f64,
}

impl Churn {
    /// Measures and prints.
    ///
    /// # Errors
    /// Also when the two do not say the same, and when `--slower` or `--larger` is exceeded.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let change = self.change.unwrap_or((self.count / 100).max(1));
        if change == 0 || change > self.count {
            bail!("--change: at least 1, and no more than --count");
        }
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let texts = corpus::read(&self.documents, self.texts.into())?;
        let mut collection = Collection::new(texts, self.count, self.dimensions.into());
        let (last, took) = self.refresh(&mut collection, change, dir.path())?;
        eprintln!("building {} documents", count(self.count as u64));
        self.make(None, collection.all(), &path("built"))?;
        compact(
            &last,
            &path("compacted"),
            &mut |_| ControlFlow::Continue(()),
        )?;
        let subjects = [path("built"), last, path("compacted")];
        let subjects = subjects.map(|path| Subject::open(&path));
        let [built, grown, compacted] = subjects;
        let subjects = [built?, grown?, compacted?];
        let questions = collection.questions(self.questions.into());
        agree(&subjects, &questions)?;
        let report = Report {
            documents: self.count,
            changed: change,
            refreshes: self.refreshes,
            assemble_ms: stats::median(took.iter().copied()),
            slowest_ms: took.into_iter().fold(0.0, f64::max),
            queries: self.ask(&subjects, &questions)?,
            space: Space::of(&subjects),
        };
        match shared.output {
            Output::Json => output::json(&report)?,
            Output::Table => report.show(),
        }
        let missed = report.missed(self.slower, self.larger);
        if !missed.is_empty() {
            bail!("{}", missed.join("; "));
        }
        Ok(())
    }

    /// Builds the documents and refreshes them; the last revision, and the milliseconds of each refresh.
    fn refresh(
        &self,
        collection: &mut Collection,
        change: usize,
        dir: &Path,
    ) -> Result<(PathBuf, Vec<f64>)> {
        let mut last = dir.join("0");
        self.make(None, collection.all(), &last)?;
        let mut took = Vec::new();
        let bar = bar(self.refreshes, "refreshes");
        for round in 1..=self.refreshes {
            let next = dir.join(round.to_string());
            let delta = collection.change(round, change);
            let started = Instant::now();
            self.make(Some(&last), delta, &next)?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            fs::remove_dir_all(&last)?;
            last = next;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((last, took))
    }

    fn make(&self, previous: Option<&Path>, delta: Delta, out: &Path) -> Result<()> {
        let identity = Identity {
            embedder: Digest::of("random indexing"),
            chunker: Digest::of("whole texts"),
            dimensions: self.dimensions.into(),
            rerank: None,
        };
        let fusion = Fusion::default();
        assemble(previous, delta, &identity, fusion, out, &mut |_| {
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// Asks all in turn, in an order that changes.
    fn ask(
        &self,
        subjects: &[Subject; 3],
        questions: &[(String, Vec<f32>)],
    ) -> Result<Vec<Figure>> {
        let rounds = usize::from(self.rounds);
        let bar = bar((rounds + 1) as u64, "rounds");
        let mut took = MODES.map(|_| [const { Vec::new() }; 3]);
        for round in 0..=rounds {
            for (i, question) in questions.iter().enumerate() {
                for ((_, mode), took) in MODES.iter().zip(&mut took) {
                    for turn in 0..subjects.len() {
                        let whose = (round + i + turn) % subjects.len();
                        let started = Instant::now();
                        subjects[whose].revision.search(&query(question, *mode))?;
                        let ms = started.elapsed().as_secs_f64() * 1e3;
                        if round > 0 {
                            took[whose].push(ms);
                        }
                    }
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let figure = |((mode, _), took): (&(&'static str, Mode), [Vec<f64>; 3])| {
            let [built_ms, grown_ms, compacted_ms] = took.map(stats::median);
            Figure {
                mode,
                built_ms,
                grown_ms,
                compacted_ms,
                times: grown_ms / built_ms,
            }
        };
        Ok(MODES.iter().zip(took).map(figure).collect())
    }
}

impl Subject {
    fn open(path: &Path) -> Result<Self> {
        let revision = Revision::open(path)?;
        Ok(Self {
            info: revision.info().clone(),
            revision,
            files: fs::read_dir(path)?.count(),
        })
    }
}

fn query<'a>((text, vector): &'a (String, Vec<f32>), mode: Mode) -> Query<'a> {
    Query {
        text,
        vector: Some(vector),
        k: K,
        mode,
        ..Query::default()
    }
}

/// Checks that all say the same, and that an exact search finds the same in all.
fn agree(subjects: &[Subject; 3], questions: &[(String, Vec<f32>)]) -> Result<()> {
    let [built, others @ ..] = subjects;
    for other in others {
        if other.info.content_id != built.info.content_id {
            bail!("after the refreshes the index says something else than a build: this is a bug");
        }
        for question in questions {
            let exact = Query {
                exact: true,
                ..query(question, Mode::Dense)
            };
            let (one, two) = (
                built.revision.search(&exact)?,
                other.revision.search(&exact)?,
            );
            if one.hits != two.hits {
                bail!(
                    "after the refreshes an exact search for \"{}\" finds something else than after a build: this is a bug",
                    question.0
                );
            }
        }
    }
    Ok(())
}

impl Space {
    fn of([built, grown, compacted]: &[Subject; 3]) -> Self {
        Self {
            built: built.info.bytes,
            grown: grown.info.bytes,
            compacted: compacted.info.bytes,
            built_files: built.files,
            grown_files: grown.files,
            times: grown.info.bytes as f64 / built.info.bytes as f64,
        }
    }
}

impl Report {
    /// What exceeds so many times the query time or the space.
    fn missed(&self, slower: Option<f64>, larger: Option<f64>) -> Vec<String> {
        let hybrid = self.queries.iter().find(|figure| figure.mode == MODES[0].0);
        let times = hybrid.map_or(0.0, |figure| figure.times);
        let slow = slower.filter(|most| times > *most);
        let slow =
            slow.map(|most| format!("a hybrid query takes {times:.2} times as long, not {most}"));
        let times = self.space.times;
        let large = larger.filter(|most| times > *most);
        let large = large.map(|most| format!("the index is {times:.2} times as large, not {most}"));
        slow.into_iter().chain(large).collect()
    }

    fn show(&self) {
        let mut table = output::table(&["", "built", "refreshed", "times", "compacted"]);
        let ms = |ms: f64| format!("{ms:.3} ms");
        for figure in &self.queries {
            table.add_row([
                format!("{} query", figure.mode),
                ms(figure.built_ms),
                ms(figure.grown_ms),
                format!("{:.2}", figure.times),
                ms(figure.compacted_ms),
            ]);
        }
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        table.add_row([
            "space".to_owned(),
            mib(self.space.built),
            mib(self.space.grown),
            format!("{:.2}", self.space.times),
            mib(self.space.compacted),
        ]);
        output::print(&table, "nothing was asked");
        say!(
            "\n{} refreshes of {} of {} documents, each assembled in {:.0} ms (median), {:.0} ms at most",
            count(self.refreshes),
            count(self.changed as u64),
            count(self.documents as u64),
            self.assemble_ms,
            self.slowest_ms
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_its_bound_is_named() {
        let figure = |mode, times| Figure {
            mode,
            built_ms: 1.0,
            grown_ms: times,
            compacted_ms: 1.0,
            times,
        };
        let report = Report {
            documents: 1,
            changed: 1,
            refreshes: 1,
            assemble_ms: 1.0,
            slowest_ms: 1.0,
            queries: vec![figure("hybrid", 1.4), figure("dense", 3.0)],
            space: Space {
                built: 10,
                grown: 25,
                compacted: 10,
                built_files: 1,
                grown_files: 2,
                times: 2.5,
            },
        };
        assert!(report.missed(None, None).is_empty());
        assert!(report.missed(Some(1.5), Some(3.0)).is_empty());
        assert_eq!(
            report.missed(Some(1.2), Some(2.0)),
            [
                "a hybrid query takes 1.40 times as long, not 1.2",
                "the index is 2.50 times as large, not 2"
            ]
        );
    }
}
