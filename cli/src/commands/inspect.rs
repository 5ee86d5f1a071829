//! `loci runs` and `loci releases`.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::ResourceExt;
use loci_crds::{MemoryRelease, MemoryRun};

use super::{Shared, one_pipeline};
use crate::output::{self, Output, age, count};

/// `loci runs`.
#[derive(Debug, Args)]
pub struct Runs {
    /// A run to show with its steps
    name: Option<String>,
    /// The pipeline; needed when there are several
    #[arg(long)]
    pipeline: Option<String>,
}

/// `loci releases`.
#[derive(Debug, Args)]
pub struct Releases {
    #[command(subcommand)]
    command: Option<ReleasesCommand>,
    /// The pipeline; needed when there are several
    #[arg(long, global = true)]
    pipeline: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ReleasesCommand {
    /// Shows one release with what its gates said
    Show {
        /// Its number, or its name
        release: String,
    },
}

impl Runs {
    /// Prints them.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (pipeline, state) = one_pipeline(shared, self.pipeline.as_deref())?;
        let mut runs = state.runs().list()?;
        runs.sort_by_key(|r| std::cmp::Reverse(created(r.metadata.creation_timestamp.as_ref())));
        if let Some(name) = &self.name {
            let run = runs.iter().find(|r| r.name_any() == *name);
            let run = run
                .with_context(|| format!("{pipeline} has no run {name}: `loci runs` lists them"))?;
            return match shared.output {
                Output::Json => output::json(run),
                Output::Table => {
                    show_run(run);
                    Ok(())
                }
            };
        }
        if shared.output == Output::Json {
            return output::json(&runs);
        }
        let now = Timestamp::now();
        let mut table = output::table(&["run", "trigger", "phase", "release", "age", "message"]);
        for run in &runs {
            let status = run.status.clone().unwrap_or_default();
            table.add_row([
                run.name_any(),
                format!("{:?}", run.spec.trigger),
                format!("{:?}", status.phase),
                status.release.unwrap_or_default(),
                created(run.metadata.creation_timestamp.as_ref())
                    .map(|t| age(t, now))
                    .unwrap_or_default(),
                status.message.unwrap_or_default(),
            ]);
        }
        output::print(&table, "No runs yet.");
        Ok(())
    }
}

fn show_run(run: &MemoryRun) {
    let status = run.status.clone().unwrap_or_default();
    println!(
        "{}  {:?}  {:?}",
        run.name_any(),
        run.spec.trigger,
        status.phase
    );
    if let Some(message) = &status.message {
        println!("{message}");
    }
    let mut table = output::table(&["step", "took", "what it did"]);
    for step in &status.steps {
        let took = step.completion_time.as_ref().map(|end| {
            let seconds = end.0.duration_since(step.start_time.0).as_secs_f64();
            format!("{seconds:.1}s")
        });
        table.add_row([
            step.name.as_str().to_owned(),
            took.unwrap_or_default(),
            step.summary.clone().unwrap_or_default(),
        ]);
    }
    output::print(&table, "No step has begun.");
}

impl Releases {
    /// Prints them.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (pipeline, state) = one_pipeline(shared, self.pipeline.as_deref())?;
        let mut releases = state.releases().list()?;
        releases.sort_by_key(|r| std::cmp::Reverse(r.spec.number));
        if let Some(ReleasesCommand::Show { release }) = &self.command {
            let is = |r: &&MemoryRelease| {
                r.name_any() == *release || r.spec.number.to_string() == *release
            };
            let found = releases.iter().find(is);
            let found = found.with_context(|| {
                format!("{pipeline} has no release {release}: `loci releases` lists them")
            })?;
            return match shared.output {
                Output::Json => output::json(found),
                Output::Table => {
                    show_release(found);
                    Ok(())
                }
            };
        }
        if shared.output == Output::Json {
            return output::json(&releases);
        }
        let now = Timestamp::now();
        let mut table = output::table(&[
            "release",
            "phase",
            "gates",
            "documents",
            "passages",
            "content",
            "age",
        ]);
        for release in &releases {
            let status = release.status.clone().unwrap_or_default();
            table.add_row([
                release.name_any(),
                format!("{:?}", status.phase),
                status
                    .verdict
                    .map(|v| format!("{:?}", v.outcome))
                    .unwrap_or_default(),
                count(release.spec.index.documents.unsigned_abs()),
                count(release.spec.index.passages.unsigned_abs()),
                short(&release.spec.index.content_id),
                created(release.metadata.creation_timestamp.as_ref())
                    .map(|t| age(t, now))
                    .unwrap_or_default(),
            ]);
        }
        output::print(&table, "No releases yet.");
        Ok(())
    }
}

fn show_release(release: &MemoryRelease) {
    let status = release.status.clone().unwrap_or_default();
    let index = &release.spec.index;
    println!(
        "{}  {:?}  built by {}",
        release.name_any(),
        status.phase,
        release.spec.run
    );
    println!(
        "{} documents, {} passages, content {}",
        index.documents,
        index.passages,
        short(&index.content_id)
    );
    println!(
        "embedder {} ({})",
        release.spec.embedder.model,
        short(&release.spec.embedder.identity)
    );
    if let Some(message) = &status.message {
        println!("{message}");
    }
    let Some(verdict) = status.verdict else {
        return;
    };
    println!(
        "\ngates: {:?}{}",
        verdict.outcome,
        verdict
            .baseline
            .map(|b| format!(", compared with {b}"))
            .unwrap_or_default()
    );
    let mut table = output::table(&[
        "suite",
        "metric",
        "gate",
        "candidate",
        "serving",
        "anchor",
        "bound",
        "n",
        "why",
    ]);
    for gate in verdict.gates {
        table.add_row([
            gate.suite,
            gate.metric,
            format!("{:?}", gate.outcome),
            gate.candidate,
            gate.serving.unwrap_or_default(),
            gate.anchor.unwrap_or_default(),
            gate.bound.unwrap_or_default(),
            gate.questions.to_string(),
            gate.message,
        ]);
    }
    output::print(&table, "The pipeline has no gates.");
}

fn created(
    time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
) -> Option<Timestamp> {
    time.map(|t| t.0)
}

fn short(digest: &str) -> String {
    digest
        .strip_prefix("sha256:")
        .unwrap_or(digest)
        .chars()
        .take(12)
        .collect()
}
