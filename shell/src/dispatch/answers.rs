//! Answers: what became of an item, as what the plan goes by.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use loci_bus::Outcome;
use loci_digest::Digest;
use loci_plan::{
    Difference, Evaluated, Look, Pipeline, StepFailure, StepOutcome, StepResult, Subjects,
};
use loci_worker::step::{
    self, ADAPTER, AdapterManifest, BEHAVIOR, BehaviorEvaluation, EVALUATION, ProbeOutput,
    StepOutput, SuiteEvaluation,
};

use super::Dispatch;
use crate::asks::{Ask, Whom};
use crate::live::{Asked, Live};
use crate::news::News;
use crate::results::{assembled, collected, count, embedded, snapshot, trained};

impl Dispatch {
    pub(super) async fn answer(&self, live: Live, outcome: Outcome) {
        let failed = |reason: &str, message: String, retryable| StepFailure {
            reason: reason.to_owned(),
            message,
            retryable,
        };
        let unreadable = |e: anyhow::Error| failed("UnreadableResult", format!("{e:#}"), true);
        let output = match outcome {
            Outcome::Done { output } => {
                serde_json::from_value::<StepOutput>(output).map_err(|e| unreadable(e.into()))
            }
            Outcome::Failed {
                reason,
                message,
                retryable,
            } => Err(failed(&reason, message, retryable)),
            Outcome::Cancelled => match live.asked {
                Asked::Step { .. } => return,
                Asked::Probe { .. } => Err(failed("Cancelled", "nobody looked".to_owned(), true)),
            },
        };
        let news = match live.asked {
            Asked::Probe { probe, time } => {
                let result = match output {
                    Ok(StepOutput::Probe(ProbeOutput { changed: true })) => Ok(Difference::Changed),
                    Ok(StepOutput::Probe(ProbeOutput { changed: false })) => {
                        Ok(Difference::Unchanged)
                    }
                    Ok(_) => Err("a look was answered by a step".to_owned()),
                    Err(failure) => Err(failure.message),
                };
                News::Look(Box::new(Look {
                    probe,
                    time,
                    result,
                }))
            }
            Asked::Step {
                key,
                subjects,
                asks,
                ..
            } => {
                let result = match output {
                    Ok(output) => {
                        let judged = (&subjects, asks.as_deref());
                        let result = self.result(&live.pipeline, judged, output).await;
                        result.map_err(unreadable)
                    }
                    Err(failure) => Err(failure),
                };
                News::Outcome(Box::new(StepOutcome {
                    key,
                    time: Timestamp::now(),
                    result,
                }))
            }
        };
        // A closed channel is a controller that has ended.
        let _ = live.reply.send(news);
    }

    async fn result(
        &self,
        pipeline: &Pipeline,
        judged: (&Subjects, Option<&[Ask]>),
        output: StepOutput,
    ) -> Result<StepResult> {
        Ok(match output {
            StepOutput::Probe(_) => bail!("a step was answered by a look"),
            StepOutput::Snapshot(o) => StepResult::Snapshot(snapshot(o)),
            StepOutput::Embed(o) => StepResult::Embed(embedded(o)?),
            StepOutput::Assemble(o) => StepResult::Assemble(assembled(o)),
            StepOutput::Collect(o) => StepResult::Collect(collected(o)),
            StepOutput::Train(o) => StepResult::Train(trained(o)),
            StepOutput::Evaluate(o) => {
                StepResult::Evaluate(self.evaluated(pipeline, judged, o).await?)
            }
        })
    }

    /// Scores of retrieval come in the order of the dispatch: candidate, baseline, anchor; those of behaviour in the order
    /// in which it was asked.
    async fn evaluated(
        &self,
        pipeline: &Pipeline,
        (subjects, asks): (&Subjects, Option<&[Ask]>),
        output: step::EvaluateOutput,
    ) -> Result<Evaluated> {
        let mut rows = Vec::new();
        for row in &output.evaluations {
            let mut scores = Vec::new();
            for digest in row {
                let evaluation: SuiteEvaluation =
                    self.store.get_manifest(EVALUATION, digest).await?;
                scores.push(evaluation.scores(&pipeline.metrics_of(&evaluation.suite)));
            }
            rows.push(scores);
        }
        let mut rows = rows.into_iter();
        let summary = format!("{} questions asked", count(output.asked));
        let mut evaluated = Evaluated {
            output: output.output,
            subjects: subjects.clone(),
            candidate: rows.next().context("an evaluation without candidate")?,
            baseline: subjects.baseline.as_ref().and_then(|_| rows.next()),
            anchor: subjects.anchor.as_ref().and_then(|_| rows.next()),
            base: asks.map(|_| Vec::new()),
            summary,
        };
        let asks = asks.unwrap_or_default();
        let another = "another evaluation was answered: what serves has changed meanwhile";
        if asks.len() != output.behaviors.len() {
            bail!(another);
        }
        for (ask, digest) in asks.iter().zip(&output.behaviors) {
            let evaluation: BehaviorEvaluation = self.store.get_manifest(BEHAVIOR, digest).await?;
            let asked = (&ask.suite, self.content(ask.adapter).await?, ask.revision);
            let answered = (&evaluation.suite, evaluation.adapter, evaluation.revision);
            if answered != asked {
                bail!(another);
            }
            let scores = evaluation.scores(&pipeline.metrics_of(&ask.suite));
            for whom in &ask.of {
                let row = match whom {
                    Whom::Candidate => Some(&mut evaluated.candidate),
                    Whom::Serving => evaluated.baseline.as_mut(),
                    Whom::Anchor => evaluated.anchor.as_mut(),
                    Whom::Base => evaluated.base.as_mut(),
                };
                row.into_iter().for_each(|row| row.push(scores.clone()));
            }
        }
        Ok(evaluated)
    }

    /// The digest of an adapter by that of its manifest.
    async fn content(&self, adapter: Option<Digest>) -> Result<Option<Digest>> {
        let Some(manifest) = adapter else {
            return Ok(None);
        };
        let manifest: AdapterManifest = self.store.get_manifest(ADAPTER, &manifest).await?;
        Ok(Some(manifest.content))
    }
}
