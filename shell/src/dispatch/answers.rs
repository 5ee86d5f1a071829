//! Answers: what became of an item, as what the plan goes by.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use loci_bus::Outcome;
use loci_plan::{
    Difference, Evaluated, Look, Pipeline, StepFailure, StepOutcome, StepResult, Subjects,
};
use loci_worker::step::{self, EVALUATION, ProbeOutput, StepOutput, SuiteEvaluation};

use super::Dispatch;
use crate::live::{Asked, Live};
use crate::news::News;
use crate::results::{assembled, collected, count, embedded, snapshot};

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
            Asked::Step { key, subjects } => {
                let result = match output {
                    Ok(output) => {
                        let result = self.result(&live.pipeline, &subjects, output).await;
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
        subjects: &Subjects,
        output: StepOutput,
    ) -> Result<StepResult> {
        Ok(match output {
            StepOutput::Probe(_) => bail!("a step was answered by a look"),
            StepOutput::Snapshot(o) => StepResult::Snapshot(snapshot(o)),
            StepOutput::Embed(o) => StepResult::Embed(embedded(o)?),
            StepOutput::Assemble(o) => StepResult::Assemble(assembled(o)),
            StepOutput::Collect(o) => StepResult::Collect(collected(o)),
            StepOutput::Train(_) => bail!("a step was answered by an adapter"),
            StepOutput::Evaluate(o) => {
                StepResult::Evaluate(self.evaluated(pipeline, subjects, o).await?)
            }
        })
    }

    /// Scores come in the order of the dispatch: candidate, baseline, anchor.
    async fn evaluated(
        &self,
        pipeline: &Pipeline,
        subjects: &Subjects,
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
        let candidate = rows.next().context("an evaluation without candidate")?;
        let baseline = subjects.baseline.as_ref().and_then(|_| rows.next());
        let anchor = subjects.anchor.as_ref().and_then(|_| rows.next());
        let summary = format!("{} questions asked", count(output.asked));
        Ok(Evaluated {
            output: output.output,
            subjects: subjects.clone(),
            candidate,
            baseline,
            anchor,
            base: None,
            summary,
        })
    }
}
