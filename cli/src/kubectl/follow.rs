//! Follows runs: bars for what is at work, a line for each transition.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use loci_crds::run::RunPhase;
use loci_crds::{MemoryRun, MemoryRunStatus};

use super::cluster::{Cluster, Scope};
use crate::output::Output;
use crate::screen::{Lines, Screen};
use crate::up;

/// Which runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that there are.
    All,
    /// Those of this pipeline.
    Pipeline(String),
    /// This one.
    Run(String),
}

impl Wanted {
    fn has(&self, run: &MemoryRun) -> bool {
        match self {
            Self::All => true,
            Self::Pipeline(name) => run.spec.pipeline_ref.name == *name,
            Self::Run(name) => run.name_any() == *name,
        }
    }
}

/// `namespace, name`.
type Key = (String, String);

/// What was seen of the runs.
pub struct Follow {
    screen: Screen,
    output: Output,
    /// Ends when nothing is under way.
    until_done: bool,
    /// Tells of what had ended before it was followed, too.
    whole: bool,
    seen: BTreeMap<Key, MemoryRun>,
    /// Runs that failed while they were followed.
    failed: Vec<String>,
}

impl Follow {
    /// Nothing was seen yet.
    pub fn new(output: Output, until_done: bool) -> Self {
        Self {
            screen: Screen::new(Lines::Stdout),
            output,
            until_done,
            whole: false,
            seen: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    /// Follows until interrupted, or until all is done.
    pub async fn run(mut self, cluster: &Cluster, scope: Scope, wanted: &Wanted) -> Result<()> {
        self.whole = matches!(wanted, Wanted::Run(_));
        let config = match wanted {
            Wanted::Run(name) => {
                watcher::Config::default().fields(&format!("metadata.name={name}"))
            }
            _ => watcher::Config::default(),
        };
        let events = watcher(cluster.scoped::<MemoryRun>(scope), config).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut interrupted = std::pin::pin!(up::terminated());
        let mut listed = false;
        loop {
            let event = tokio::select! {
                ended = &mut interrupted => return ended,
                event = events.next() => event,
            };
            match event {
                None => return Ok(()),
                Some(Ok(Event::Init)) => {}
                Some(Ok(Event::InitDone)) => listed = true,
                Some(Ok(Event::InitApply(run) | Event::Apply(run))) if wanted.has(&run) => {
                    self.see(run, listed)?;
                }
                Some(Ok(Event::Delete(run))) if wanted.has(&run) => self.lose(&run),
                Some(Ok(_)) => {}
                Some(Err(watcher::Error::InitialListFailed(error))) if !listed => {
                    return Err(cluster.explain(error));
                }
                Some(Err(error)) => self.screen.line(format!("tried again: {error}")),
            }
            if listed && self.until_done && !self.seen.values().any(is_live) {
                break;
            }
        }
        match &self.failed[..] {
            [] => Ok(()),
            failed => bail!("{}", failed.join("; ")),
        }
    }

    /// Takes what a run has come to.
    fn see(&mut self, run: MemoryRun, listed: bool) -> Result<()> {
        let key = (run.namespace().unwrap_or_default(), run.name_any());
        let before = self.seen.get(&key);
        let ended = |r: &MemoryRun| !is_live(r);
        if before.is_none_or(ended) && ended(&run) && !listed && !self.whole {
            self.seen.insert(key, run);
            return Ok(());
        }
        let told = lines(before, &run);
        match self.output {
            Output::Table => told.iter().for_each(|line| self.screen.line(line)),
            Output::Json if told.is_empty() => {}
            Output::Json => self.screen.plain(serde_json::to_string(&run)?),
        }
        let status = run.status.clone().unwrap_or_default();
        if matches!(status.phase, RunPhase::Failed | RunPhase::Cancelled)
            && before.is_none_or(is_live)
        {
            let message = status.message.clone().unwrap_or_default();
            self.failed
                .push(format!("{} {:?}: {message}", key.1, status.phase));
        }
        if let Some((step, _)) = before.and_then(|r| r.status.as_ref()).and_then(at_work) {
            let id = id(&key, step);
            if at_work(&status).is_none_or(|(now, _)| now != step) {
                self.screen.hide(&id);
            }
        }
        if let Some((step, far)) = at_work(&status) {
            let unit = status.progress.as_ref().map_or("", |p| &p.unit);
            self.screen
                .show(&id(&key, step), step, far, format!("{unit} {}", key.1));
        }
        self.seen.insert(key, run);
        Ok(())
    }

    fn lose(&mut self, run: &MemoryRun) {
        let key = (run.namespace().unwrap_or_default(), run.name_any());
        let before = self.seen.remove(&key);
        if let Some((step, _)) = before
            .as_ref()
            .and_then(|r| r.status.as_ref())
            .and_then(at_work)
        {
            self.screen.hide(&id(&key, step));
        }
        if before.as_ref().is_some_and(is_live) {
            let text = format!("{} was deleted", key.1);
            self.screen.line(&text);
            self.failed.push(text);
        }
    }
}

fn id((namespace, name): &Key, step: &str) -> String {
    format!("{namespace}/{name}/{step}")
}

fn is_live(run: &MemoryRun) -> bool {
    !run.status
        .as_ref()
        .map(|s| s.phase)
        .unwrap_or_default()
        .is_terminal()
}

/// The step that is at work, and how far it is.
fn at_work(status: &MemoryRunStatus) -> Option<(&'static str, (u64, Option<u64>))> {
    let open = status.steps.iter().find(|s| s.completion_time.is_none());
    let step = open.filter(|_| status.phase == RunPhase::Running)?.name;
    let progress = status.progress.as_ref().filter(|p| p.step == step);
    let far = progress.map(|p| (p.done.unsigned_abs(), p.total.map(i64::unsigned_abs)));
    Some((step.as_str(), far.unwrap_or((0, None))))
}

/// What is to be told of a run that was as `before` and is so now.
fn lines(before: Option<&MemoryRun>, run: &MemoryRun) -> Vec<String> {
    let name = run.name_any();
    let then = before.and_then(|r| r.status.clone()).unwrap_or_default();
    let now = run.status.clone().unwrap_or_default();
    let mut lines = Vec::new();
    if before.is_none() {
        lines.push(format!("{name}  {:?}", run.spec.trigger));
    }
    for step in now.steps.iter().filter(|s| s.completion_time.is_some()) {
        let known =
            |s: &&loci_crds::run::StepStatus| s.name == step.name && s.completion_time.is_some();
        if then.steps.iter().find(known).is_none() {
            let summary = step.summary.as_deref().unwrap_or_default();
            lines.push(format!("{name}  {:<9} {summary}", step.name.as_str()));
        }
    }
    let message = now.message.clone().unwrap_or_default();
    if then.phase != now.phase && now.phase != RunPhase::Pending {
        lines.push(
            format!("{name}  {:?} {message}", now.phase)
                .trim_end()
                .to_owned(),
        );
    } else if now.attempt > then.attempt && now.attempt > 1 {
        lines.push(format!("{name}  attempt {}: {message}", now.attempt));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(status: Value) -> MemoryRun {
        serde_json::from_value(json!({
            "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRun", "metadata": {"name": "shop-1", "namespace": "agents"},
            "spec": {"pipelineRef": {"name": "shop"}, "kind": "Refresh", "trigger": "Requested"}, "status": status,
        }))
        .unwrap()
    }

    fn step(name: &str, summary: Option<&str>) -> Value {
        let ended = summary.map(|_| "2026-11-27T08:00:10Z");
        json!({"name": name, "startTime": "2026-11-27T08:00:00Z", "completionTime": ended, "summary": summary})
    }

    #[test]
    fn each_transition_is_told_once() {
        let pending = run(json!({}));
        assert_eq!(lines(None, &pending), ["shop-1  Requested"]);
        let began =
            run(json!({"phase": "Running", "attempt": 1, "steps": [step("Snapshot", None)]}));
        assert_eq!(lines(Some(&pending), &began), ["shop-1  Running"]);
        let mut further = began.clone();
        further.status.as_mut().unwrap().attempt = 1;
        assert!(lines(Some(&began), &further).is_empty());
        let steps = [step("Snapshot", Some("2 files")), step("Embed", None)];
        let next = run(json!({"phase": "Running", "attempt": 1, "steps": steps}));
        assert_eq!(lines(Some(&began), &next), ["shop-1  Snapshot  2 files"]);
        let mut again = next.clone();
        let status = again.status.as_mut().unwrap();
        (status.attempt, status.message) = (2, Some("no memory".to_owned()));
        assert_eq!(lines(Some(&next), &again), ["shop-1  attempt 2: no memory"]);
        let ended = run(
            json!({"phase": "Succeeded", "message": "shop-1 passed", "attempt": 2, "steps": [
                step("Snapshot", Some("2 files")), step("Embed", Some("2 embedded")),
            ]}),
        );
        let told = lines(Some(&again), &ended);
        assert_eq!(
            told,
            [
                "shop-1  Embed     2 embedded",
                "shop-1  Succeeded shop-1 passed"
            ]
        );
    }

    #[test]
    fn the_open_step_is_at_work_only_while_the_run_runs() {
        let mut status = run(json!({"phase": "Running", "steps": [step("Snapshot", Some("")), step("Embed", None)],
            "progress": {"step": "Embed", "done": 3, "total": 9, "unit": "chunks", "time": "2026-11-27T08:00:00Z"}}))
        .status
        .unwrap();
        assert_eq!(at_work(&status), Some(("Embed", (3, Some(9)))));
        status.phase = RunPhase::Held;
        assert_eq!(at_work(&status), None);
    }
}
