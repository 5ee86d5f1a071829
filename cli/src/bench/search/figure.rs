//! What came of it, and what was wanted.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::draw::Condition;
use super::exact::{Best, Vectors};
use super::own::Answers;
use crate::bench::stats;
use crate::output::{self, count, say};

/// How one side answered the questions.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    pub who: String,
    /// The mean share of the best k that answers have.
    pub recall: f64,
    /// Medians over the rounds, of a round's median and 99th percentile.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// How vectors were compared, most often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
}

/// The same behind one filter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filtered {
    pub filter: String,
    /// Percent of the passages: what was to pass, and what passes.
    pub wanted: f64,
    pub passes: f64,
    pub sides: Vec<Figure>,
}

/// The server with this collection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    pub questions: usize,
    /// Milliseconds from sending a question to having read its answer, one after the other.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Bytes by which the process grew from having the model to having answered.
    pub grown: u64,
    /// That, as a multiple of the vectors and the text.
    pub times_content: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub passages: usize,
    pub documents: usize,
    pub dimensions: usize,
    pub k: usize,
    pub questions: usize,
    pub filtered_questions: usize,
    pub rounds: usize,
    /// Bytes.
    pub vectors: u64,
    pub text: u64,
    /// The first is our own side.
    pub search: Vec<Figure>,
    pub filtered: Vec<Filtered>,
    pub server: Server,
}

/// What makes the command fail when it is missed. Times are milliseconds.
#[derive(Debug, Default)]
pub struct Bounds {
    pub recall: Option<f64>,
    pub p50: Option<f64>,
    pub filtered_recall: Option<f64>,
    pub filtered_p50: Option<f64>,
    pub http_p50: Option<f64>,
    pub http_p99: Option<f64>,
    pub memory: Option<f64>,
}

impl Figure {
    /// Of the answers of all rounds to the questions whose `best` are given.
    ///
    /// # Errors
    /// When what was answered is no answer.
    pub fn new(
        who: &str,
        rounds: &[Answers],
        vectors: &Vectors,
        best: &[Best],
        passing: &[bool],
    ) -> Result<Self> {
        let mut recalls = Vec::new();
        for round in rounds {
            let (answered, asked) = (round.rows.len(), best.len());
            if (answered, round.milliseconds.len()) != (asked, asked) {
                bail!("{who} answered {answered} of {asked} questions");
            }
            for (question, (answer, best)) in round.rows.iter().zip(best).enumerate() {
                let recall = vectors.recall(question, answer, *best, passing);
                recalls.push(recall.with_context(|| format!("{who} does other work"))?);
            }
        }
        let of_round = |q: f64| {
            let times = rounds
                .iter()
                .map(|r| stats::sorted(r.milliseconds.iter().copied()));
            stats::median(times.map(|times| stats::quantile(&times, q)))
        };
        Ok(Self {
            who: who.to_owned(),
            recall: recalls.iter().sum::<f64>() / recalls.len().max(1) as f64,
            p50_ms: of_round(0.5),
            p99_ms: of_round(0.99),
            strategy: most(rounds.iter().flat_map(|r| &r.strategies)),
        })
    }
}

fn most<'a>(values: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(value, _)| value.clone())
}

impl Filtered {
    pub fn new(condition: &Condition, passing: &[bool], sides: Vec<Figure>) -> Self {
        let passes = passing.iter().filter(|passes| **passes).count();
        Self {
            filter: condition.kind.clone(),
            wanted: condition.share,
            passes: 100.0 * passes as f64 / passing.len().max(1) as f64,
            sides,
        }
    }
}

impl Report {
    /// What misses the bounds, and by how much.
    pub fn missed(&self, bounds: &Bounds) -> Vec<String> {
        let mut missed = Vec::new();
        let mut high = |what: &str, is: f64, most: Option<f64>, unit: &str| {
            if let Some(most) = most.filter(|most| is > *most) {
                missed.push(format!("{what}: {is:.3}{unit}, not {most}{unit} at most"));
            }
        };
        if let Some(ours) = self.search.first() {
            high("p50", ours.p50_ms, bounds.p50, " ms");
        }
        for (name, ours) in self.behind() {
            high(
                &format!("p50 behind {name}"),
                ours.p50_ms,
                bounds.filtered_p50,
                " ms",
            );
        }
        high("p50 over HTTP", self.server.p50_ms, bounds.http_p50, " ms");
        high("p99 over HTTP", self.server.p99_ms, bounds.http_p99, " ms");
        let memory = self.server.times_content;
        high(
            "memory of the server",
            memory,
            bounds.memory,
            " times its content",
        );
        let mut low = |what: &str, is: f64, least: Option<f64>| {
            if let Some(least) = least.filter(|least| is < *least) {
                missed.push(format!("{what}: {is:.4}, not {least} at least"));
            }
        };
        if let Some(ours) = self.search.first() {
            low("recall", ours.recall, bounds.recall);
        }
        for (name, ours) in self.behind() {
            // A scan misses nothing.
            let scanned = ours.strategy.as_deref() == Some("scan");
            let least = bounds
                .filtered_recall
                .map(|least| if scanned { 1.0 } else { least });
            low(&format!("recall behind {name}"), ours.recall, least);
        }
        missed
    }

    /// Our own side behind each filter.
    fn behind(&self) -> impl Iterator<Item = (String, &Figure)> {
        self.filtered.iter().filter_map(|filtered| {
            let name = format!("{} {} %", filtered.filter, filtered.wanted);
            Some((name, filtered.sides.first()?))
        })
    }

    pub fn show(&self) {
        let size = |bytes: u64| format!("{} MB", count(bytes / 1_000_000));
        say!(
            "{} passages of {} documents; {} of vectors, {} of text; k = {}, one thread, {} rounds\n",
            count(self.passages as u64),
            count(self.documents as u64),
            size(self.vectors),
            size(self.text),
            self.k,
            self.rounds
        );
        let headings = ["search", "recall", "p50", "p99"];
        let rows = self.search.iter().map(|side| {
            let [recall, p50, p99] = side.cells();
            [side.who.clone(), recall, p50, p99]
        });
        show(&headings, rows.collect());
        say!(
            "\nbehind filters, {} questions each",
            count(self.filtered_questions as u64)
        );
        let headings = [
            "filter", "wanted", "passes", "who", "recall", "p50", "p99", "by",
        ];
        let rows = self.filtered.iter().flat_map(Filtered::rows);
        show(&headings, rows.collect());
        let server = &self.server;
        say!(
            "\nover HTTP, hybrid, {} distinct questions one by one: p50 {:.2} ms, p99 {:.2} ms",
            count(server.questions as u64),
            server.p50_ms,
            server.p99_ms
        );
        say!(
            "the server grew by {}, {:.2} times its vectors and text",
            size(server.grown),
            server.times_content
        );
    }
}

impl Figure {
    fn cells(&self) -> [String; 3] {
        [
            format!("{:.4}", self.recall),
            format!("{:.3} ms", self.p50_ms),
            format!("{:.3} ms", self.p99_ms),
        ]
    }
}

impl Filtered {
    fn rows(&self) -> Vec<[String; 8]> {
        let sides = self.sides.iter().enumerate().map(|(i, side)| {
            let first = |text: String| if i == 0 { text } else { String::new() };
            let [recall, p50, p99] = side.cells();
            [
                first(self.filter.clone()),
                first(format!("{} %", self.wanted)),
                first(format!("{:.2} %", self.passes)),
                side.who.clone(),
                recall,
                p50,
                p99,
                side.strategy.clone().unwrap_or_default(),
            ]
        });
        sides.collect()
    }
}

fn show<const N: usize>(headings: &[&str; N], rows: Vec<[String; N]>) {
    let mut table = output::table(headings);
    for row in rows {
        table.add_row(row);
    }
    output::print(&table, "nothing was measured");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(recall: f64, p50_ms: f64, strategy: &str) -> Figure {
        Figure {
            who: "Loci".to_owned(),
            recall,
            p50_ms,
            p99_ms: 2.0 * p50_ms,
            strategy: Some(strategy.to_owned()),
        }
    }

    fn report() -> Report {
        let filtered = |recall, strategy| Filtered {
            filter: "random".to_owned(),
            wanted: 0.1,
            passes: 0.11,
            sides: vec![figure(recall, 1.0, strategy), figure(0.0, 9.0, "")],
        };
        Report {
            passages: 100,
            documents: 10,
            dimensions: 4,
            k: 10,
            questions: 20,
            filtered_questions: 5,
            rounds: 3,
            vectors: 1600,
            text: 1000,
            search: vec![figure(0.98, 0.25, "graph"), figure(0.5, 9.0, "")],
            filtered: vec![filtered(0.98, "graph"), filtered(0.99, "scan")],
            server: Server {
                questions: 20,
                p50_ms: 4.0,
                p99_ms: 16.0,
                grown: 3000,
                times_content: 1.154,
            },
        }
    }

    #[test]
    fn what_is_missed_is_our_own_and_a_scan_has_to_be_exact() {
        let report = report();
        assert!(report.missed(&Bounds::default()).is_empty());
        let bounds = Bounds {
            recall: Some(0.97),
            p50: Some(0.3),
            filtered_recall: Some(0.97),
            filtered_p50: Some(3.0),
            http_p50: Some(5.0),
            http_p99: Some(15.0),
            memory: Some(1.2),
        };
        assert_eq!(
            report.missed(&bounds),
            [
                "p99 over HTTP: 16.000 ms, not 15 ms at most",
                "recall behind random 0.1 %: 0.9900, not 1 at least"
            ]
        );
        let bounds = Bounds {
            recall: Some(0.99),
            p50: Some(0.2),
            ..Bounds::default()
        };
        assert_eq!(
            report.missed(&bounds),
            [
                "p50: 0.250 ms, not 0.2 ms at most",
                "recall: 0.9800, not 0.99 at least"
            ]
        );
    }

    #[test]
    fn a_figure_has_the_median_of_the_rounds() {
        let vectors = Vectors {
            dimensions: 1,
            passages: vec![1.0, 2.0],
            questions: vec![1.0, -1.0],
        };
        let best = [2.0, -1.0].map(|score| Best { count: 1, score });
        let round = |milliseconds: [f64; 2]| Answers {
            milliseconds: milliseconds.to_vec(),
            rows: vec![vec![1], vec![1]],
            strategies: vec!["graph".to_owned(), "scan".to_owned()],
        };
        let rounds = [round([5.0, 6.0]), round([1.0, 2.0]), round([3.0, 4.0])];
        let figure = Figure::new("it", &rounds, &vectors, &best, &[true, true]).unwrap();
        assert_eq!(
            (figure.recall, figure.p50_ms, figure.p99_ms),
            (0.5, 3.0, 4.0)
        );
        let error = Figure::new("it", &rounds, &vectors, &best, &[true, false]).unwrap_err();
        assert_eq!(error.to_string(), "it does other work");
        let error = Figure::new("it", &rounds, &vectors, &best[..1], &[true, true]).unwrap_err();
        assert_eq!(error.to_string(), "it answered 2 of 1 questions");
    }
}
