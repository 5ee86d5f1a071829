//! `kubectl loci status`, and what it has in common with `loci status`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use loci_crds::adapter::AdapterStatus;
use loci_crds::run::{RunKind, RunPhase};
use loci_crds::{MemoryPipeline, MemoryPipelineStatus, MemoryRelease, MemoryRun};
use serde::Serialize;

use super::Everywhere;
use super::cluster::{Cluster, lead};
use crate::output::{self, Output, age, count, say};
use crate::show::{self, cost};

/// `kubectl loci status`.
#[derive(Debug, Args)]
pub struct Status {
    /// A pipeline to show with its conditions, its sources and the release that serves
    #[arg(conflicts_with = "all_namespaces")]
    name: Option<String>,
    #[command(flatten)]
    everywhere: Everywhere,
}

/// A pipeline, and what it does now: runs of its index and of each adapter, the oldest first.
#[derive(Serialize)]
pub struct State {
    pipeline: MemoryPipeline,
    runs: Vec<MemoryRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<MemoryRelease>,
    /// All of its runs that are there: one of them built the release.
    #[serde(skip)]
    known: Vec<MemoryRun>,
}

impl State {
    /// Of a pipeline with these runs and releases.
    pub fn of(
        pipeline: MemoryPipeline,
        known: Vec<MemoryRun>,
        releases: Vec<MemoryRelease>,
    ) -> Self {
        let status = pipeline.status.as_ref();
        let serving = status.and_then(|s| s.serving_release.clone());
        let serves = |r: &MemoryRelease| Some(r.name_any()) == serving;
        Self {
            runs: live(&known, &pipeline),
            release: releases.into_iter().find(serves),
            pipeline,
            known,
        }
    }
}

impl Status {
    /// Prints it.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        if let Some(name) = &self.name {
            return one(cluster, name, output).await;
        }
        let scope = self.everywhere.scope();
        let mut pipelines: Vec<MemoryPipeline> = cluster.list(scope).await?;
        pipelines.sort_by_key(|p| (p.namespace(), p.name_any()));
        let runs: Vec<MemoryRun> = cluster.list(scope).await?;
        let state = |pipeline: MemoryPipeline| State {
            runs: live(&runs, &pipeline),
            pipeline,
            release: None,
            known: Vec::new(),
        };
        let states: Vec<State> = pipelines.into_iter().map(state).collect();
        if output == Output::Json {
            return output::json(&states);
        }
        let lead = lead(scope);
        let headings = ["ready", "release", "fresh", "next look", "now"];
        let mut table = output::table(&lead.headings(&headings));
        for state in &states {
            let pipeline = &state.pipeline;
            let cells = lead.cells(
                pipeline,
                &pipeline.name_any(),
                cells(state, Timestamp::now()),
            );
            output::line(&mut table, cells);
        }
        output::print(&table, "No pipelines yet.");
        Ok(())
    }
}

/// The runs of a pipeline that have not ended.
fn live(runs: &[MemoryRun], pipeline: &MemoryPipeline) -> Vec<MemoryRun> {
    let name = pipeline.name_any();
    let of =
        |r: &&MemoryRun| r.spec.pipeline_ref.name == name && r.namespace() == pipeline.namespace();
    let phase = |r: &MemoryRun| r.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let live = runs.iter().filter(of).filter(|r| !phase(r).is_terminal());
    let mut live: Vec<MemoryRun> = live.cloned().collect();
    live.sort_by_key(|r| (r.meta().creation_timestamp.clone(), r.name_any()));
    live
}

fn cells(state: &State, now: Timestamp) -> Vec<String> {
    let status = state.pipeline.status.clone().unwrap_or_default();
    vec![
        ready(&status),
        serving(&status),
        fresh(&status, now),
        next(&state.pipeline, &status, now),
        now_doing(&state.runs),
    ]
}

/// What the index and each adapter do: of each the oldest run, for which the others wait.
fn now_doing(runs: &[MemoryRun]) -> String {
    let mut lanes = BTreeMap::new();
    for run in runs {
        lanes
            .entry((run.spec.kind == RunKind::Rebase, &run.spec.adapter))
            .or_insert(run);
    }
    let lanes = lanes.values();
    let each = lanes.map(|run| match &run.spec.adapter {
        Some(adapter) => format!("{adapter}: {}", busy(run)),
        None if run.spec.kind == RunKind::Rebase => format!("rebase: {}", busy(run)),
        None => busy(run),
    });
    each.collect::<Vec<_>>().join("; ")
}

fn condition<'a>(status: &'a MemoryPipelineStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == kind)
}

/// Whether it is ready, and if not all is well, why.
fn ready(status: &MemoryPipelineStatus) -> String {
    let Some(ready) = condition(status, "Ready") else {
        return "Unknown".to_owned();
    };
    let stalled = condition(status, "Stalled").filter(|c| c.status == "True");
    let why = match (ready.status.as_str(), stalled) {
        ("True", None) => return "True".to_owned(),
        (_, Some(stalled)) => &stalled.reason,
        (_, None) => &ready.reason,
    };
    format!("{}: {why}", ready.status)
}

fn serving(status: &MemoryPipelineStatus) -> String {
    let release = status.serving_release.clone().unwrap_or_default();
    let held = if status.held_on.is_some() {
        " (held)"
    } else {
        ""
    };
    format!("{release}{held}")
}

fn fresh(status: &MemoryPipelineStatus, now: Timestamp) -> String {
    let fresh = condition(status, "IndexFresh").map_or("Unknown", |c| c.status.as_str());
    let read = status
        .last_refresh_time
        .as_ref()
        .map(|t| format!(" ({})", age(t.0, now)));
    format!("{fresh}{}", read.unwrap_or_default())
}

fn next(pipeline: &MemoryPipeline, status: &MemoryPipelineStatus, now: Timestamp) -> String {
    match &status.next_refresh_time {
        _ if pipeline.spec.suspend => "suspended".to_owned(),
        None => String::new(),
        Some(time) if time.0 <= now => "now".to_owned(),
        Some(time) => format!("in {}", age(now, time.0)),
    }
}

/// What a run that has not ended does.
fn busy(run: &MemoryRun) -> String {
    let status = run.status.clone().unwrap_or_default();
    match status.phase {
        RunPhase::Held => format!("held: {}", status.reason.unwrap_or_default()),
        RunPhase::Pending => "waits".to_owned(),
        _ => show::doing(run).unwrap_or_else(|| format!("{:?}", status.phase)),
    }
}

async fn one(cluster: &Cluster, name: &str, output: Output) -> Result<()> {
    let pipeline = cluster.pipeline(Some(name)).await?;
    let serving = pipeline
        .status
        .as_ref()
        .and_then(|s| s.serving_release.clone());
    let release = match serving {
        Some(name) => cluster.api::<MemoryRelease>().get_opt(&name).await,
        None => Ok(None),
    };
    let release = release.map_err(|e| cluster.explain(e))?;
    let runs = cluster.runs_of(name).await?;
    print(&State::of(pipeline, runs, Vec::from_iter(release)), output)
}

/// Prints a pipeline with all that is known of it.
pub fn print(state: &State, output: Output) -> Result<()> {
    if output == Output::Json {
        return output::json(state);
    }
    let now = Timestamp::now();
    let status = state.pipeline.status.clone().unwrap_or_default();
    say!(
        "{}  fresh {}  next look {}",
        state.pipeline.name_any(),
        fresh(&status, now),
        next(&state.pipeline, &status, now)
    );
    for run in &state.runs {
        say!("{}  {}", run.name_any(), busy(run));
        if let Some(cost) = cost::of_run(run) {
            say!("{cost}");
        }
    }
    if let Some(month) = &status.cost {
        let budget = state.pipeline.spec.budget.as_ref();
        say!("{}", cost::of_month(month, budget));
    }
    say!();
    conditions(&status, now);
    say!();
    sources(&status, now);
    if !status.adapters.is_empty() {
        say!();
        adapters(&status, now);
    }
    if let Some(release) = &state.release {
        say!();
        show::release(release, &state.known, output)?;
    }
    Ok(())
}

fn conditions(status: &MemoryPipelineStatus, now: Timestamp) {
    let mut table = output::table(&["condition", "status", "for", "message"]);
    for condition in &status.conditions {
        table.add_row([
            condition.type_.clone(),
            condition.status.clone(),
            age(condition.last_transition_time.0, now),
            condition.message.clone(),
        ]);
    }
    output::print(
        &table,
        "Nobody has looked at it yet: is an operator running, and does it watch this namespace?",
    );
}

fn sources(status: &MemoryPipelineStatus, now: Timestamp) {
    let mut table = output::table(&["source", "documents", "left out", "read", "error"]);
    for source in &status.sources {
        let read = source.last_success_time.as_ref().map(|t| age(t.0, now));
        table.add_row([
            source.name.clone(),
            count(source.documents.unsigned_abs()),
            count(source.skipped.unsigned_abs()),
            read.unwrap_or_default(),
            source.error.clone().unwrap_or_default(),
        ]);
    }
    output::print(&table, "No source was read yet.");
}

fn adapters(status: &MemoryPipelineStatus, now: Timestamp) {
    let mut table = output::table(&["adapter", "serves", "next run", "new examples", "now"]);
    for adapter in &status.adapters {
        table.add_row(adapter_cells(adapter, now));
    }
    output::print(&table, "");
}

fn adapter_cells(adapter: &AdapterStatus, now: Timestamp) -> [String; 5] {
    let serves = adapter.adapter.as_deref().map(show::short);
    let next = adapter.next_time.as_ref().map(|time| match time.0 <= now {
        true => "now".to_owned(),
        false => format!("in {}", age(now, time.0)),
    });
    let new = adapter.new_examples.map(|n| count(n.unsigned_abs()));
    [
        adapter.name.clone(),
        serves.unwrap_or_default(),
        next.unwrap_or_default(),
        new.unwrap_or_default(),
        adapter.message.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests;
