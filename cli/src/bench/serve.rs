//! Queries end to end, at rest and while releases take each other's place.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use loci_plan::spec::Location;
use serde::Serialize;

use super::load::{Answers, Load};
use super::site::{Server, copy};
use super::{bar, stats};
use crate::commands::Shared;
use crate::output::{self, Output, say};
use crate::up::declare;

/// Query times of a served pipeline at rest and across release swaps, under a steady load
///
/// Serves a copy of the manifest's folder and edits a document of its first directory source for each swap.
#[derive(Debug, Args)]
pub struct Serve {
    /// A manifest with one pipeline, a directory source and a suite, whose questions are asked
    manifest: PathBuf,
    /// Queries a second, sent whether or not earlier ones were answered
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Seconds at rest
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Release swaps
    #[arg(long, default_value_t = 50)]
    swaps: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    rate: f64,
    at_rest: Answers,
    swaps: usize,
    across_swaps: Answers,
    /// Seconds from an edit of a document to the first answer of the release with it, the median.
    edit_to_answer: f64,
    slowest_edit: f64,
}

impl Serve {
    /// Measures and prints.
    ///
    /// # Errors
    /// Also when a query failed.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        if !(self.rate > 0.0 && self.rate <= 10_000.0) {
            bail!("--rate {}: give a rate above 0, 10,000 at most", self.rate);
        }
        let site = Site::of(&self.manifest)?;
        let mut server = Server::start(&site.manifest, site.dir.path()).await?;
        let start = |server: &Server| Load::start(&server.url, site.questions.clone(), self.rate);
        let load = start(&server);
        tokio::time::sleep(Duration::from_secs(2)).await;
        load.finish().await?;

        let load = start(&server);
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let at_rest = load.finish().await?;

        let load = start(&server);
        let bar = bar(self.swaps as u64, "swaps");
        let mut edits = Vec::new();
        for swap in 0..self.swaps {
            load.until_releases(swap + 1, &mut server).await?;
            site.edit(swap)?;
            let edited = Instant::now();
            load.until_releases(swap + 2, &mut server).await?;
            edits.push(edited.elapsed().as_secs_f64());
            bar.inc(1);
        }
        bar.finish_and_clear();
        let across_swaps = load.finish().await?;
        let edits = stats::sorted(edits);
        let report = Report {
            rate: self.rate,
            at_rest,
            swaps: self.swaps,
            across_swaps,
            edit_to_answer: stats::quantile(&edits, 0.5),
            slowest_edit: stats::quantile(&edits, 1.0),
        };
        match shared.output {
            Output::Json => output::json(&report)?,
            Output::Table => report.show(),
        }
        let failed = report.at_rest.failed + report.across_swaps.failed;
        if failed > 0 {
            bail!(
                "{failed} queries failed: {:?} {:?}",
                report.at_rest.failures,
                report.across_swaps.failures
            );
        }
        Ok(())
    }
}

/// A copy of a manifest's folder.
struct Site {
    dir: tempfile::TempDir,
    manifest: PathBuf,
    document: PathBuf,
    questions: Arc<[String]>,
}

impl Site {
    fn of(manifest: &Path) -> Result<Self> {
        let file = manifest
            .file_name()
            .with_context(|| format!("{} is no file", manifest.display()))?;
        let dir = tempfile::tempdir()?;
        let copied = dir.path().join("site");
        let folder = match manifest.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        copy(folder, &copied)?;
        let manifest = copied.join(file);
        let (manifests, pipelines) = declare::load(std::slice::from_ref(&manifest))?;
        let [(loaded, pipeline)] = &manifests
            .pipelines
            .iter()
            .zip(&pipelines)
            .collect::<Vec<_>>()[..]
        else {
            bail!("give a manifest with exactly one pipeline");
        };
        let mut questions = Vec::new();
        let suites = declare::suites(&manifests, loaded, pipeline).map_err(declare::refuse)?;
        for (_, asked) in suites.into_values() {
            questions.extend(asked.queries);
        }
        let directory = pipeline.sources.iter().find_map(|s| match &s.location {
            Location::Directory { path, .. } => Some(copied.join(path)),
            _ => None,
        });
        let directory = directory.context("the pipeline has no directory source to edit")?;
        if !directory.starts_with(&copied) || questions.is_empty() {
            bail!(
                "give a pipeline with a suite, and a directory source below the manifest's own folder"
            );
        }
        let document = first_markdown(&directory)?
            .with_context(|| format!("{} holds no Markdown file", directory.display()))?;
        Ok(Self {
            dir,
            manifest,
            document,
            questions: questions.into(),
        })
    }

    fn edit(&self, swap: usize) -> Result<()> {
        let mut file = fs::File::options().append(true).open(&self.document)?;
        Ok(writeln!(file, "\nNotice {swap}: this line is new.")?)
    }
}

fn first_markdown(directory: &Path) -> Result<Option<PathBuf>> {
    let entries: Result<Vec<_>, _> = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .collect();
    let mut paths: Vec<PathBuf> = entries?.into_iter().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if let Some(found) = first_markdown(&path)? {
                return Ok(Some(found));
            }
        } else if path.extension().is_some_and(|e| e == "md") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

impl Report {
    fn show(&self) {
        let mut table = output::table(&["load", "queries", "failed", "p50", "p99", "slowest"]);
        let swaps = format!("across {} swaps", self.swaps);
        for (name, answers) in [
            ("at rest", &self.at_rest),
            (swaps.as_str(), &self.across_swaps),
        ] {
            table.add_row([
                name.to_owned(),
                answers.queries.to_string(),
                answers.failed.to_string(),
                format!("{:.1} ms", answers.p50_ms),
                format!("{:.1} ms", answers.p99_ms),
                format!("{:.1} ms", answers.max_ms),
            ]);
        }
        output::print(&table, "nothing was asked");
        say!(
            "\nat {} queries a second; an edit was in the answers after {:.2} s (median), {:.2} s at most",
            self.rate,
            self.edit_to_answer,
            self.slowest_edit
        );
    }
}
