//! What a model scores on the behaviour suites that come with Loci, and on others.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use loci_models::{Adapter, Decoder, DeviceRequest};
use loci_plan::gate::bounds;
use loci_plan::metrics::Metric;
use loci_worker::behavior::{self, ABILITY, ARITHMETIC, CaseRecord};
use serde::Serialize;

use super::bar;
use crate::commands::Shared;
use crate::output::{self, Output, say};

/// What a model scores on the suites that come with Loci, and whether they could guard it
#[derive(Debug, Args)]
pub struct Suites {
    /// The model: a directory, or a .gguf file
    #[arg(long)]
    model: PathBuf,
    /// The directory of an adapter of it, with the `loci.json` that says so
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Other behaviour suites, as JSON Lines, instead of those that come with Loci
    #[arg(long = "suite")]
    suites: Vec<PathBuf>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// A part of a suite, or all of it, by one metric.
type Part<'a> = (Option<&'a str>, Metric);

/// A suite to ask.
struct Lines {
    name: String,
    text: String,
    /// Its ids begin with what they are about: `sum-012`.
    grouped: bool,
}

/// What a model scores on a suite, or on a part of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figure {
    suite: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    metric: Metric,
    cases: usize,
    mean: f64,
    /// What guessing scores.
    chance: f64,
    /// The one-sided 95 % lower bound of what is above that: only above 0 can the suite guard.
    above_chance: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// The name of its file or directory.
    model: String,
    weights: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
    seconds: f64,
    figures: Vec<Figure>,
}

impl Suites {
    /// Asks and prints.
    pub fn run(self, shared: &Shared) -> Result<()> {
        loci_models::limit_threads(self.threads)?;
        let suites = self.lines()?;
        let decoder = Decoder::load(&self.model, DeviceRequest::Cpu)?;
        let adapter = self.adapter.as_ref();
        let adapter = adapter
            .map(|dir| Adapter::read(dir, &decoder))
            .transpose()?;
        let start = Instant::now();
        let mut figures = Vec::new();
        for lines in &suites {
            let cases = behavior::cases(&lines.name, &lines.text)?;
            let bar = bar(cases.len() as u64, "cases").with_message(lines.name.clone());
            let records = behavior::ask(&decoder, adapter.as_ref(), &cases, &mut |done| {
                bar.set_position(done as u64);
                ControlFlow::Continue(())
            });
            bar.finish_and_clear();
            figures.extend(lines.figures(&records?));
        }
        let name = self.model.file_name().unwrap_or(self.model.as_os_str());
        let report = Report {
            model: name.to_string_lossy().into_owned(),
            weights: decoder.identity().weights.to_string(),
            adapter: adapter.map(|a| a.digest().to_string()),
            seconds: start.elapsed().as_secs_f64(),
            figures,
        };
        match shared.output {
            Output::Json => output::json(&report),
            Output::Table => {
                report.show();
                Ok(())
            }
        }
    }

    fn lines(&self) -> Result<Vec<Lines>> {
        if self.suites.is_empty() {
            let own = [("ability", ABILITY), ("arithmetic", ARITHMETIC)];
            let lines = own.map(|(name, text)| Lines {
                name: name.to_owned(),
                text: text.to_owned(),
                grouped: true,
            });
            return Ok(lines.into());
        }
        self.suites.iter().map(|path| Lines::read(path)).collect()
    }
}

impl Lines {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        Ok(Self {
            name: path.display().to_string(),
            text: text.with_context(|| format!("cannot read {}", path.display()))?,
            grouped: false,
        })
    }

    /// One figure for each metric; of a grouped suite one for each part, too.
    fn figures(&self, records: &[CaseRecord]) -> Vec<Figure> {
        let mut parts = BTreeMap::<Part<'_>, Vec<(f64, f64)>>::new();
        for record in records {
            let part = record.id.rsplit_once('-').filter(|_| self.grouped);
            for (metric, score) in &record.scores {
                // Of a suite that comes with Loci, all is judged by accuracy.
                if self.grouped && *metric != Metric::Accuracy {
                    continue;
                }
                let mut add = |part| {
                    let pairs = parts.entry((part, *metric)).or_default();
                    pairs.push((*score, record.chance));
                };
                add(None);
                if let Some((part, _)) = part {
                    add(Some(part));
                }
            }
        }
        let mut figures = Vec::with_capacity(parts.len());
        for ((part, metric), pairs) in parts {
            let mean =
                |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
            let above: Vec<f64> = pairs.iter().map(|(score, chance)| score - chance).collect();
            figures.push(Figure {
                suite: self.name.clone(),
                part: part.map(str::to_owned),
                metric,
                cases: pairs.len(),
                mean: mean(|pair| pair.0),
                chance: mean(|pair| pair.1),
                above_chance: bounds(&above).lower,
            });
        }
        figures
    }
}

impl Report {
    fn show(&self) {
        let mut table = output::table(&[
            "suite",
            "part",
            "metric",
            "cases",
            "mean",
            "chance",
            "surely above",
        ]);
        for figure in &self.figures {
            table.add_row([
                figure.suite.clone(),
                figure.part.clone().unwrap_or_default(),
                figure.metric.to_string(),
                figure.cases.to_string(),
                format!("{:.4}", figure.mean),
                format!("{:.4}", figure.chance),
                format!("{:.4}", figure.above_chance),
            ]);
        }
        output::print(&table, "nothing was asked");
        say!("\nasked in {:.0} s of {}", self.seconds, self.weights);
        for row in self.rows() {
            say!("{row}");
        }
    }

    /// What each suite comes to as a whole, as docs/performance.md has it.
    fn rows(&self) -> Vec<String> {
        let whole = self.figures.iter().filter(|f| f.part.is_none());
        let row = |f: &Figure| {
            let [mean, chance, above] =
                [f.mean, f.chance, f.above_chance].map(|number| format!("{number:.4}"));
            let (metric, cases) = (f.metric.to_string(), f.cases.to_string());
            let (model, suite) = (self.model.clone(), f.suite.clone());
            output::row(&[model, suite, metric, cases, mean, chance, above])
        };
        whole.map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_of_a_whole_suite() {
        let figure = |part: Option<&str>| Figure {
            suite: "arithmetic".to_owned(),
            part: part.map(str::to_owned),
            metric: Metric::Accuracy,
            cases: 714,
            mean: 0.5,
            chance: 0.25,
            above_chance: 0.21,
        };
        let report = Report {
            model: "tiny.gguf".to_owned(),
            weights: "sha256:0".to_owned(),
            adapter: None,
            seconds: 1.0,
            figures: vec![figure(None), figure(Some("sum"))],
        };
        assert_eq!(
            report.rows(),
            ["| tiny.gguf | arithmetic | accuracy | 714 | 0.5000 | 0.2500 | 0.2100 |"]
        );
    }
}
