//! A training on its way, in a thread that may block. One step of the optimiser is the unit of everything: between two of
//! them it pauses, makes way, ends or goes on elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loci_bus::Unit;
use loci_models::{Adapter, Continuation, Decoder, Example, ModelError, Trainer, arithmetic};
use tokio_util::sync::CancellationToken;

use super::checkpoint::{Left, Stretch, stretched};
use super::curve::{Curve, CurvePoint, HIGH, IN_A_ROW};
use super::error::TrainError;
use crate::step::context::Halt;
use crate::step::{Reporter, StepError};

/// Held-out examples that are read between two looks at whether to stop.
const READ: usize = 8;

/// Why a training stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It is time to write down where it is.
    Due,
    /// Another goes on with it.
    Way,
    /// All steps are made and measured.
    Over,
}

/// What the run has used of the device: in its earlier attempts, and since this one began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    before: f64,
    since: Instant,
    limit: Option<u64>,
}

/// What a training needs besides its trainer.
pub(super) struct Surroundings {
    pub decoder: Arc<Decoder>,
    pub held_out: Vec<Example>,
    pub clock: Clock,
    pub pace: Arc<dyn Fn() + Send + Sync>,
    pub reporter: Reporter,
    /// Fires when nobody waits for it any more.
    pub gone: CancellationToken,
}

pub(super) struct Course {
    trainer: Trainer,
    around: Surroundings,
    pub curve: Curve,
    pub computed: Vec<Stretch>,
    /// Steps of an epoch.
    epoch: usize,
    /// The curve's length when it was last written down.
    kept: usize,
    /// Tokens of all steps before this attempt.
    tokens: u64,
}

impl Clock {
    /// For a run that has used so many seconds and may use `limit`.
    pub fn new(before: f64, limit: Option<u64>) -> Self {
        Self {
            before,
            since: Instant::now(),
            limit,
        }
    }

    /// Seconds that the run has used.
    pub fn used(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }

    /// The limit, when it is reached.
    fn over(&self) -> Option<(f64, u64)> {
        let (used, limit) = (self.used(), self.limit?);
        (used >= limit as f64).then_some((used, limit))
    }
}

impl Course {
    /// A training that begins, or that goes on with `curve`.
    pub fn new(
        trainer: Trainer,
        around: Surroundings,
        curve: Curve,
        computed: Vec<Stretch>,
    ) -> Self {
        Self {
            epoch: trainer.steps() / trainer.settings().epochs,
            kept: curve.lines().len(),
            tokens: curve.tokens(),
            computed: stretched(computed, trainer.done(), arithmetic()),
            trainer,
            around,
            curve,
        }
    }

    /// Goes on until `until`, by one step at least, unless there is a reason to pause.
    pub fn go(&mut self, until: Instant) -> Result<Pause, StepError> {
        loop {
            match self.halt() {
                Some(Halt::Unwanted) => return Err(StepError::Cancelled),
                Some(Halt::Ending | Halt::Urgent) => return Ok(Pause::Way),
                None => {}
            }
            if let Some(epoch) = self.unmeasured() {
                self.measure(epoch)?;
                continue;
            }
            let (done, steps) = (self.trainer.done(), self.trainer.steps());
            if done == steps {
                return Ok(Pause::Over);
            }
            if let Some((used, limit)) = self.around.clock.over() {
                let step = done;
                return Err(TrainError::Budget {
                    used,
                    limit,
                    step,
                    steps,
                }
                .into());
            }
            (self.around.pace)();
            self.step()?;
            if Instant::now() >= until {
                return Ok(Pause::Due);
            }
        }
    }

    fn halt(&self) -> Option<Halt> {
        if self.around.gone.is_cancelled() {
            return Some(Halt::Unwanted);
        }
        self.around.reporter.halt()
    }

    fn step(&mut self) -> Result<(), StepError> {
        let step = match self.trainer.step() {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(()),
            Err(ModelError::Training { reason, .. }) => {
                return Err(self.diverged(self.trainer.done(), reason));
            }
            Err(error) => return Err(error.into()),
        };
        if self.curve.add(&CurvePoint::from(&step))? {
            let median = self.curve.median().unwrap_or_default();
            let reason = format!(
                "the losses of the last {IN_A_ROW} steps, {:.3} at last, are all above {HIGH} times the median of those before, {median:.3}; lower learningRate, or lengthen warmup",
                step.loss
            );
            return Err(self.diverged(step.step - 1, reason));
        }
        let since = self.around.clock.since.elapsed().as_secs_f64();
        let rate = (self.curve.tokens() - self.tokens) as f64 / since.max(1e-3);
        let message = format!("loss {:.3}, {rate:.0} tokens/s", step.loss);
        let (done, steps) = (step.step as u64, Some(step.steps as u64));
        let used = self.used().ceil() as u64;
        let reporter = self.around.reporter.with_device_seconds(used);
        reporter.report(done, steps, Unit::Steps, Some(message));
        Ok(())
    }

    /// The training ends at its step after `done`.
    fn diverged(&self, done: usize, reason: String) -> StepError {
        let steps = self.trainer.steps();
        TrainError::Diverged {
            step: done + 1,
            steps,
            learning_rate: self.trainer.settings().rate(done, steps),
            reason,
        }
        .into()
    }

    /// The epochs that are over, when what is held out has not been measured since.
    fn unmeasured(&self) -> Option<usize> {
        let done = self.trainer.done();
        let epoch = done / self.epoch;
        let due = done.is_multiple_of(self.epoch) && !self.around.held_out.is_empty();
        (due && self.curve.held_out(epoch).is_none()).then_some(epoch)
    }

    /// Measures what is held out, unless it is to halt meanwhile.
    fn measure(&mut self, epoch: usize) -> Result<(), StepError> {
        let adapter = self.trainer.adapter()?;
        let (mut sum, mut targets) = (0.0, 0);
        for part in self.around.held_out.chunks(READ) {
            if self.halt().is_some() {
                return Ok(());
            }
            (self.around.pace)();
            let logs = match losses(&self.around.decoder, &adapter, part) {
                Err(ModelError::Compute(reason)) => {
                    let done = self.trainer.done().saturating_sub(1);
                    let reason = format!("what is held out cannot be computed: {reason}");
                    return Err(self.diverged(done, reason));
                }
                logs => logs?,
            };
            sum += logs.iter().sum::<f64>();
            targets += logs.len();
        }
        let held_out_loss = sum / targets as f64;
        self.curve.add(&CurvePoint::HeldOut {
            epoch,
            held_out_loss,
            targets,
        })?;
        Ok(())
    }

    /// What is left for who goes on; none when nothing was done since the last time.
    pub fn left(&mut self) -> Result<Option<Left>, StepError> {
        let lines = self.curve.lines();
        if lines.len() == self.kept {
            return Ok(None);
        }
        self.kept = lines.len();
        Ok(Some(Left {
            step: self.trainer.done(),
            trainer: self.trainer.checkpoint()?.into(),
            curve: lines.to_vec().into(),
            computed: self.computed.clone(),
        }))
    }

    /// Seconds that the run has used.
    pub fn used(&self) -> f64 {
        self.around.clock.used()
    }

    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    pub fn decoder(&self) -> &Decoder {
        &self.around.decoder
    }

    /// Examples that it is measured on.
    pub fn held_out(&self) -> usize {
        self.around.held_out.len()
    }
}

/// When to pause, for a training that writes down where it is every so often.
pub(super) fn after(every: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(every).unwrap_or(now)
}

/// The cross entropy of each target of some examples, in nats.
fn losses(
    decoder: &Decoder,
    adapter: &Adapter,
    examples: &[Example],
) -> Result<Vec<f64>, ModelError> {
    let all: Vec<Continuation<'_>> = examples
        .iter()
        .map(|example| {
            // The first token is never a target.
            let (prompt, tokens) = example.tokens().split_at(1);
            Continuation {
                prompt,
                tokens,
                adapter: Some(adapter),
            }
        })
        .collect();
    let said = decoder.log_probabilities(&all)?;
    let of_targets = examples.iter().zip(&said).flat_map(|(example, said)| {
        let targets = &example.targets()[1..];
        let learned = said.iter().zip(targets).filter(|(_, target)| **target);
        learned.map(|(log, _)| -f64::from(*log))
    });
    Ok(of_targets.collect())
}
