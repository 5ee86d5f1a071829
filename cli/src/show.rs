//! Runs, releases and what serves, as tables for people or JSON for programs: the same whether they come from a state
//! directory or from a cluster.

pub mod cost;
mod find;

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use loci_crds::release::GateResult;
use loci_crds::run::{RunPhase, RunProgress};
use loci_crds::{MemoryRelease, MemoryRun};

use crate::output::{self, Output, age, count, say};
pub use find::{adapter, find_release, find_run, held_run, names, rollback_target};

/// What tables begin with, when they are about several pipelines or namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// All are of one pipeline.
    None,
    /// The pipeline.
    Pipeline,
    /// The namespace, and the pipeline.
    Namespace,
}

impl Lead {
    /// With these headings after it.
    pub fn headings(self, more: &[&'static str]) -> Vec<&'static str> {
        let lead: &[&str] = match self {
            Self::None => &[],
            Self::Pipeline => &["pipeline"],
            Self::Namespace => &["namespace", "pipeline"],
        };
        [lead, more].concat()
    }

    /// With these cells after it.
    pub fn cells(
        self,
        object: &impl ResourceExt,
        pipeline: &str,
        more: Vec<String>,
    ) -> Vec<String> {
        let mut cells = match self {
            Self::None => Vec::new(),
            Self::Pipeline => vec![pipeline.to_owned()],
            Self::Namespace => vec![object.namespace().unwrap_or_default(), pipeline.to_owned()],
        };
        cells.extend(more);
        cells
    }
}

/// Prints runs, the newest first.
pub fn runs(mut runs: Vec<MemoryRun>, lead: Lead, output: Output) -> Result<()> {
    runs.sort_by_key(|r| std::cmp::Reverse((created(r), r.name_any())));
    if output == Output::Json {
        return output::json(&runs);
    }
    let now = Timestamp::now();
    let mut headings = vec!["run", "trigger", "phase", "release", "age", "message"];
    let paid = runs.iter().any(|r| cost::in_short(r).is_some());
    if paid {
        headings.insert(4, "cost");
    }
    let mut table = output::table(&lead.headings(&headings));
    for run in &runs {
        let status = run.status.clone().unwrap_or_default();
        let mut cells = vec![
            run.name_any(),
            format!("{:?}", run.spec.trigger),
            format!("{:?}", status.phase),
            status.release.clone().unwrap_or_default(),
            age_of(run, now),
            doing(run).or(status.message).unwrap_or_default(),
        ];
        if paid {
            cells.insert(4, cost::in_short(run).unwrap_or_default());
        }
        let cells = lead.cells(run, &run.spec.pipeline_ref.name, cells);
        output::line(&mut table, cells);
    }
    output::print(&table, "No runs yet.");
    Ok(())
}

/// Prints one run with its steps.
pub fn run(run: &MemoryRun, output: Output) -> Result<()> {
    if output == Output::Json {
        return output::json(run);
    }
    let status = run.status.clone().unwrap_or_default();
    say!(
        "{}  {:?}  {:?}",
        run.name_any(),
        run.spec.trigger,
        status.phase
    );
    let told = [status.message.clone(), cost::of_run(run)];
    for told in told.into_iter().flatten() {
        say!("{told}");
    }
    let mut table = output::table(&["step", "took", "what it did"]);
    for step in &status.steps {
        let took = step.completion_time.as_ref().map(|end| {
            let seconds = end.0.duration_since(step.start_time.0).as_secs_f64();
            format!("{seconds:.1}s")
        });
        let open = step.completion_time.is_none();
        let progress = status
            .progress
            .as_ref()
            .filter(|p| open && p.step == step.name);
        let far =
            progress.map(|p| format!("{}, {} ago", so_far(p), age(p.time.0, Timestamp::now())));
        table.add_row([
            step.name.as_str().to_owned(),
            took.unwrap_or_default(),
            step.summary.clone().or(far).unwrap_or_default(),
        ]);
    }
    output::print(&table, "No step has begun.");
    Ok(())
}

/// What a run that is under way does: `Embed 65/266 chunks`.
pub fn doing(run: &MemoryRun) -> Option<String> {
    let status = run.status.as_ref()?;
    let open = status.steps.iter().find(|s| s.completion_time.is_none());
    let step = open.filter(|_| status.phase == RunPhase::Running)?.name;
    let progress = status.progress.as_ref().filter(|p| p.step == step);
    let far = progress.map(|p| format!(" {}", so_far(p)));
    let retried = (status.attempt > 1).then(|| format!(", attempt {}", status.attempt));
    Some(
        [Some(step.as_str().to_owned()), far, retried]
            .into_iter()
            .flatten()
            .collect(),
    )
}

fn so_far(progress: &RunProgress) -> String {
    let done = count(progress.done.unsigned_abs());
    let total = progress
        .total
        .map(|t| format!("/{}", count(t.unsigned_abs())));
    format!("{done}{} {}", total.unwrap_or_default(), progress.unit)
}

/// Prints releases, the newest first.
pub fn releases(mut releases: Vec<MemoryRelease>, lead: Lead, output: Output) -> Result<()> {
    let of = |r: &MemoryRelease| (r.namespace(), r.spec.pipeline_ref.name.clone());
    releases.sort_by_key(|r| (of(r), std::cmp::Reverse(r.spec.number)));
    if output == Output::Json {
        return output::json(&releases);
    }
    let now = Timestamp::now();
    let tuned = releases.iter().any(|r| !r.spec.adapters.is_empty());
    let mut headings = vec![
        "release",
        "phase",
        "gates",
        "documents",
        "passages",
        "content",
    ];
    headings.extend(tuned.then_some("adapters"));
    headings.push("age");
    let mut table = output::table(&lead.headings(&headings));
    for release in &releases {
        let status = release.status.clone().unwrap_or_default();
        let gates = status.verdict.map(|v| format!("{:?}", v.outcome));
        let mut cells = vec![
            release.name_any(),
            format!("{:?}", status.phase),
            gates.unwrap_or_default(),
            count(release.spec.index.documents.unsigned_abs()),
            count(release.spec.index.passages.unsigned_abs()),
            short(&release.spec.index.content_id),
        ];
        cells.extend(tuned.then(|| adapters_of(release)));
        cells.push(age_of(release, now));
        let cells = lead.cells(release, &release.spec.pipeline_ref.name, cells);
        output::line(&mut table, cells);
    }
    output::print(&table, "No releases yet.");
    Ok(())
}

/// Its adapters, each by its name and what it holds.
fn adapters_of(release: &MemoryRelease) -> String {
    let adapters = release.spec.adapters.iter();
    names(adapters.map(|a| format!("{} {}", a.name, short(&a.adapter))))
}

/// Prints one release with what its gates said, and what the run that built it cost, if that is among `runs`.
pub fn release(release: &MemoryRelease, runs: &[MemoryRun], output: Output) -> Result<()> {
    if output == Output::Json {
        return output::json(release);
    }
    let status = release.status.clone().unwrap_or_default();
    let index = &release.spec.index;
    let built_by = runs.iter().find(|r| r.name_any() == release.spec.run);
    let cost = built_by.and_then(cost::in_short);
    say!(
        "{}  {:?}  built by {}{}",
        release.name_any(),
        status.phase,
        release.spec.run,
        cost.map(|c| format!(" for {c}")).unwrap_or_default()
    );
    say!(
        "{} documents, {} passages, content {}",
        count(index.documents.unsigned_abs()),
        count(index.passages.unsigned_abs()),
        short(&index.content_id)
    );
    say!(
        "embedder {} ({})",
        release.spec.embedder.model,
        short(&release.spec.embedder.identity)
    );
    if let Some(cross) = &index.cross_encoder {
        say!("cross-encoder {} ({})", cross.model, short(&cross.identity));
    }
    for adapter in &release.spec.adapters {
        let new = release.spec.adapter.as_ref() == Some(&adapter.name);
        say!(
            "adapter {} ({}{}), rank {}, on {}",
            adapter.name,
            short(&adapter.adapter),
            if new { ", new in this release" } else { "" },
            adapter.rank,
            adapter.base
        );
    }
    if let Some(message) = &status.message {
        say!("{message}");
    }
    let Some(verdict) = status.verdict else {
        return Ok(());
    };
    say!(
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
        "base",
        "serving",
        "anchor",
        "candidate",
        "bound",
        "n",
        "why",
    ]);
    for gate in verdict.gates {
        table.add_row(gate_row(gate));
    }
    output::print(&table, "The pipeline has no gates.");
    Ok(())
}

fn gate_row(gate: GateResult) -> [String; 10] {
    // Of a suite that was not asked there is no mean.
    let candidate = Some(gate.candidate).filter(|_| gate.questions > 0);
    let mean = |mean: Option<String>| mean.map_or_else(String::new, |m| shown(&gate.metric, m));
    [
        gate.suite,
        gate.metric.clone(),
        format!("{:?}", gate.outcome),
        mean(gate.base),
        mean(gate.serving),
        mean(gate.anchor),
        mean(candidate),
        gate.bound.unwrap_or_default(),
        gate.questions.to_string(),
        gate.message,
    ]
}

/// A mean as people know it: a perplexity is scored as 1 over itself.
fn shown(metric: &str, mean: String) -> String {
    let score = mean.parse::<f64>().ok();
    match score.filter(|score| metric == "perplexity" && *score > 0.0) {
        Some(score) => format!("{:.2}", 1.0 / score),
        None => mean,
    }
}

/// Prints a sentence.
pub fn say(output: Output, text: &str) -> Result<()> {
    match output {
        Output::Json => output::json(&serde_json::json!({ "message": text })),
        Output::Table => {
            say!("{text}");
            Ok(())
        }
    }
}

/// How long ago an object was made.
pub fn age_of(object: &impl Resource, now: Timestamp) -> String {
    created(object).map(|t| age(t, now)).unwrap_or_default()
}

fn created(object: &impl Resource) -> Option<Timestamp> {
    let time: Option<&Time> = object.meta().creation_timestamp.as_ref();
    time.map(|t| t.0)
}

/// The first digits of a digest.
pub fn short(digest: &str) -> String {
    digest
        .strip_prefix("sha256:")
        .unwrap_or(digest)
        .chars()
        .take(12)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gate_stands_beside_all_that_it_compares() {
        let gate = json!({
            "suite": "prose", "metric": "perplexity", "outcome": "Failed", "message": "it forgot",
            "questions": 200, "stale": 0, "base": "0.050000", "serving": "0.040000", "anchor": "0.100000",
            "candidate": "0.020000", "bound": "0.015000",
        });
        let mut gate: GateResult = serde_json::from_value(gate).unwrap();
        assert_eq!(
            gate_row(gate.clone()),
            [
                "prose",
                "perplexity",
                "Failed",
                "20.00",
                "25.00",
                "10.00",
                "50.00",
                "0.015000",
                "200",
                "it forgot"
            ]
        );
        (gate.questions, gate.base) = (0, None);
        let row = gate_row(gate);
        assert_eq!((&*row[3], &*row[4], &*row[6]), ("", "25.00", ""));
    }

    #[test]
    fn perplexities_are_shown_as_such() {
        let of = |metric, mean: &str| shown(metric, mean.to_owned());
        assert_eq!(of("perplexity", "0.051200"), "19.53");
        assert_eq!(of("perplexity", "0.000000"), "0.000000");
        assert_eq!(of("likelihood", "0.051200"), "0.051200");
    }
}
