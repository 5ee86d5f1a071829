//! Between plan and bus: steps go out as work items, and come back as outcomes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use jiff::Timestamp;
use loci_bus::{Dispatcher, Event, Events, Outcome, Priority, Progress, WorkItem};
use loci_digest::Digest;
use loci_plan::{
    Assembled, Embedded, Evaluated, Pipeline, Reported, Snapshot, SourceSnapshot, StepFailure,
    StepInput, StepKey, StepOutcome, StepResult, Subjects,
};
use loci_store::Store;
use loci_worker::chunk::ChunkerConfig;
use loci_worker::step::{self, EVALUATION, StepOutput, SuiteEvaluation, SuiteInput};
use tokio::sync::mpsc;

use crate::controller::{Declared, News};

/// The class of workers that compute.
pub const CLASS: &str = "cpu";
/// The class of workers that know sources and their credentials.
pub const FETCH: &str = "fetch";

/// How often a pipeline's loop hears of progress, at most.
const BEAT: Duration = Duration::from_secs(1);

/// Who watches steps at work.
pub trait Progresses: Send + Sync + 'static {
    /// A step has come so far.
    fn progress(&self, step: &str, progress: &Progress);
    /// A work item has ended.
    fn finished(&self, id: &str);
}

/// Sends steps out and hands outcomes back.
#[derive(Clone)]
pub struct Dispatch {
    bus: Arc<dyn Dispatcher>,
    store: Store,
    live: Arc<Mutex<HashMap<String, Live>>>,
    /// Held alone while a pipeline is forgotten: nothing of it is sent out meanwhile.
    forgetting: Arc<tokio::sync::RwLock<()>>,
}

#[derive(Clone)]
struct Live {
    key: StepKey,
    subjects: Subjects,
    pipeline: Arc<Pipeline>,
    reply: mpsc::UnboundedSender<News>,
    /// When the loop last heard of progress.
    heard: Option<Instant>,
}

impl Live {
    /// Tells the loop how far its step is, unless it has just heard of it.
    fn report(&mut self, progress: &Progress) {
        if self.heard.is_some_and(|h| h.elapsed() < BEAT) {
            return;
        }
        self.heard = Some(Instant::now());
        // A closed channel is a controller that has ended.
        let _ = self.reply.send(News::Progress(Reported {
            key: self.key.clone(),
            done: progress.done,
            total: progress.total,
            unit: progress.unit.to_string(),
        }));
    }
}

impl Dispatch {
    /// Over `bus`.
    pub fn new(bus: Arc<dyn Dispatcher>, store: Store) -> Self {
        Self {
            bus,
            store,
            live: Arc::default(),
            forgetting: Arc::default(),
        }
    }

    /// Sends a step out; its outcome comes to `reply`. Sent again while it is under way, its outcome comes once, to
    /// the last `reply`.
    ///
    /// # Errors
    /// When the bus cannot carry it.
    pub async fn send(
        &self,
        declared: &Declared,
        key: &StepKey,
        input: &StepInput,
        reply: mpsc::UnboundedSender<News>,
    ) -> Result<()> {
        let pipeline = &declared.pipeline;
        let name = full_name(pipeline);
        let id = id(&name, key)?;
        let subjects = match input {
            StepInput::Evaluate { subjects, .. } => subjects.clone(),
            _ => Subjects::default(),
        };
        let live = Live {
            key: key.clone(),
            subjects,
            pipeline: pipeline.clone(),
            reply,
            heard: None,
        };
        let _sending = self.forgetting.read().await;
        self.live().insert(id.clone(), live);
        let item = WorkItem {
            id,
            pipeline: name,
            run: key.run.clone(),
            step: key.step.as_str().to_owned(),
            attempt: 1,
            fence: 0,
            priority: Priority::P1,
            class: class(input).to_owned(),
            payload: serde_json::to_value(payload(declared, key, input))?,
            // Who leads says so at the bus.
            term: 0,
            traceparent: None,
        };
        self.bus
            .publish(item)
            .await
            .context("cannot dispatch a step")?;
        Ok(())
    }

    /// Stops what a run has under way.
    pub async fn stop(&self, pipeline: &Pipeline, run: &str) -> Result<()> {
        let ids: Vec<String> = {
            let live = self.live();
            let of_run = live
                .iter()
                .filter(|(_, l)| l.key.run == run && l.pipeline.name == pipeline.name);
            of_run.map(|(id, _)| id.clone()).collect()
        };
        for id in ids {
            self.live().remove(&id);
            self.bus.cancel(&id).await?;
        }
        Ok(())
    }

    /// Stops all that a pipeline (`namespace/name`) that is gone has under way.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    pub async fn abandon(&self, pipeline: &str) -> Result<()> {
        let ids: Vec<String> = {
            let mut live = self.live();
            let of = live.extract_if(|_, l| full_name(&l.pipeline) == pipeline);
            of.map(|(id, _)| id).collect()
        };
        for id in ids {
            self.bus.cancel(&id).await?;
        }
        Ok(())
    }

    /// Removes all that the bus has of a pipeline that is gone. False when there is one of its name again.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    pub async fn forget(&self, pipeline: &str) -> Result<bool> {
        let _alone = self.forgetting.write().await;
        let of = |l: &Live| full_name(&l.pipeline) == pipeline;
        if self.live().values().any(|l| of(l) && !l.reply.is_closed()) {
            return Ok(false);
        }
        self.live().retain(|_, l| !of(l));
        self.bus.forget(pipeline).await?;
        Ok(true)
    }

    /// Everything that happens on the bus from now on.
    pub async fn events(&self) -> Result<Events> {
        Ok(self.bus.events().await?)
    }

    /// Hands on what happens until the bus closes; progress also to who is `watching`.
    pub async fn listen(
        self,
        mut events: Events,
        watching: Option<Arc<dyn Progresses>>,
    ) -> Result<()> {
        while let Some(event) = events.next().await {
            match event {
                Event::Claimed { .. } => {}
                Event::Progress(progress) => {
                    let step = self.live().get_mut(&progress.id).map(|live| {
                        live.report(&progress);
                        live.key.step
                    });
                    if let (Some(step), Some(watching)) = (step, &watching) {
                        watching.progress(step.as_str(), &progress);
                    }
                }
                Event::Finished { id, outcome, .. } => {
                    if let Some(watching) = &watching {
                        watching.finished(&id);
                    }
                    let live = self.live().remove(&id);
                    if let Some(live) = live {
                        self.answer(live, outcome).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn answer(&self, live: Live, outcome: Outcome) {
        let result = match outcome {
            Outcome::Done { output } => self.result(&live, output).await.map_err(|e| StepFailure {
                reason: "UnreadableResult".to_owned(),
                message: format!("{e:#}"),
                retryable: true,
            }),
            Outcome::Failed {
                reason,
                message,
                retryable,
            } => Err(StepFailure {
                reason,
                message,
                retryable,
            }),
            Outcome::Cancelled => return,
        };
        let outcome = StepOutcome {
            key: live.key,
            time: Timestamp::now(),
            result,
        };
        // A closed channel is a controller that has ended.
        let _ = live.reply.send(News::Outcome(Box::new(outcome)));
    }

    async fn result(&self, live: &Live, output: serde_json::Value) -> Result<StepResult> {
        Ok(match serde_json::from_value(output)? {
            StepOutput::Snapshot(o) => StepResult::Snapshot(snapshot(o)),
            StepOutput::Embed(o) => StepResult::Embed(embedded(o)?),
            StepOutput::Assemble(o) => StepResult::Assemble(assembled(o)),
            StepOutput::Evaluate(o) => StepResult::Evaluate(self.evaluated(live, o).await?),
        })
    }

    /// Scores come in the order of the dispatch: candidate, baseline, anchor.
    async fn evaluated(&self, live: &Live, output: step::EvaluateOutput) -> Result<Evaluated> {
        let mut rows = Vec::new();
        for row in &output.evaluations {
            let mut scores = Vec::new();
            for digest in row {
                let evaluation: SuiteEvaluation =
                    self.store.get_manifest(EVALUATION, digest).await?;
                scores.push(evaluation.scores(&live.pipeline.metrics_of(&evaluation.suite)));
            }
            rows.push(scores);
        }
        let mut rows = rows.into_iter();
        let candidate = rows.next().context("an evaluation without candidate")?;
        let baseline = live.subjects.baseline.as_ref().and_then(|_| rows.next());
        let anchor = live.subjects.anchor.as_ref().and_then(|_| rows.next());
        let summary = format!("{} questions asked", count(output.asked));
        Ok(Evaluated {
            output: output.output,
            subjects: live.subjects.clone(),
            candidate,
            baseline,
            anchor,
            summary,
        })
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `namespace/name`.
pub fn full_name(pipeline: &Pipeline) -> String {
    format!(
        "{}/{}",
        pipeline.namespace.as_deref().unwrap_or("default"),
        pipeline.name
    )
}

/// A number with thousands separated: `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn class(input: &StepInput) -> &'static str {
    match input {
        StepInput::Snapshot { .. } => FETCH,
        StepInput::Embed { .. } | StepInput::Assemble { .. } | StepInput::Evaluate { .. } => CLASS,
    }
}

fn id(pipeline: &str, key: &StepKey) -> Result<String> {
    Ok(Digest::of_json(&(pipeline, key))?.to_hex())
}

fn payload(declared: &Declared, key: &StepKey, input: &StepInput) -> step::StepInput {
    let pipeline = &declared.pipeline;
    match input {
        StepInput::Snapshot { previous } => step::StepInput::Snapshot {
            run: key.run.clone(),
            previous: *previous,
        },
        StepInput::Embed { snapshot, previous } => step::StepInput::Embed {
            snapshot: *snapshot,
            previous: *previous,
            model: declared.model.clone(),
            chunking: ChunkerConfig {
                max_tokens: pipeline.chunking.max_tokens,
                overlap_tokens: pipeline.chunking.overlap_tokens,
            },
        },
        StepInput::Assemble { change, .. } => step::StepInput::Assemble { delta: *change },
        StepInput::Evaluate {
            revision,
            baseline,
            anchor,
            ..
        } => step::StepInput::Evaluate {
            revisions: [Some(*revision), *baseline, *anchor]
                .into_iter()
                .flatten()
                .collect(),
            suites: pipeline
                .suites
                .iter()
                .filter_map(|s| {
                    let data = *declared.suites.get(&s.name)?;
                    Some(SuiteInput {
                        name: s.name.clone(),
                        data,
                        depth: pipeline.depth_of(&s.name),
                    })
                })
                .collect(),
        },
    }
}

fn snapshot(output: step::SnapshotOutput) -> Snapshot {
    let documents: u64 = output.sources.values().map(|s| s.documents).sum();
    let skipped: u64 = output.sources.values().map(|s| s.skipped).sum();
    let mut summary = format!("{} files", count(documents));
    if let Some(first) = output
        .sources
        .values()
        .find_map(|s| s.first_skipped.as_deref())
    {
        summary.push_str(&format!("; {skipped} left out, first: {first}"));
    }
    for error in output.sources.values().filter_map(|s| s.error.as_deref()) {
        summary.push_str(&format!("; kept as it was: {error}"));
    }
    let sources = output.sources.into_iter().map(|(name, s)| {
        let source = SourceSnapshot {
            documents: s.documents,
            before: s.before,
            removed: s.removed,
            skipped: s.skipped,
            error: s.error,
        };
        (name, source)
    });
    Snapshot {
        output: output.snapshot,
        sources: sources.collect(),
        summary,
    }
}

fn embedded(output: step::EmbedOutput) -> Result<Embedded> {
    let mut summary = format!(
        "{} documents changed, {} removed; {} of {} passages embedded ({} tokens)",
        count(output.changed),
        count(output.removed),
        count(output.embedded),
        count(output.passages),
        count(output.tokens)
    );
    if let Some(first) = &output.first_problem {
        summary.push_str(&format!("; {} problems, first: {first}", output.problems));
    }
    Ok(Embedded {
        output: output.delta.context("Embed gave no delta")?,
        summary,
    })
}

fn assembled(output: step::AssembleOutput) -> Assembled {
    let summary = format!(
        "{} documents, {} passages, {} new bytes",
        count(output.documents),
        count(output.passages),
        count(output.new_bytes)
    );
    Assembled {
        revision: output.revision,
        content_id: output.content_id,
        embedder: output.embedder,
        documents: output.documents,
        passages: output.passages,
        summary,
    }
}
