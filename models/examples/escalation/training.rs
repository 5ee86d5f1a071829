//! One training.

use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use loci_models::{
    Adapter, Decoder, Example, LoraConfig, ModelError, Trainer, TrainingSettings, TrainingStep,
};

/// An adapter and how it came to be.
#[derive(Debug)]
pub struct Trained {
    /// The adapter.
    pub adapter: Adapter,
    /// All steps.
    pub curve: Vec<TrainingStep>,
    /// How long they took.
    pub seconds: f64,
}

impl Trained {
    /// Tokens that were trained on in a second.
    pub fn tokens_per_second(&self) -> f64 {
        let tokens: usize = self.curve.iter().map(|step| step.tokens).sum();
        tokens as f64 / self.seconds
    }
}

/// The mean loss of a target in each epoch.
pub fn losses(curve: &[TrainingStep]) -> Vec<f64> {
    let epochs = curve.chunk_by(|a, b| a.epoch == b.epoch);
    let mean = |steps: &[TrainingStep]| {
        let targets: usize = steps.iter().map(|step| step.targets).sum();
        let losses = steps.iter().map(|step| step.loss * step.targets as f64);
        losses.sum::<f64>() / targets as f64
    };
    epochs.map(mean).collect()
}

/// Trains an adapter.
pub fn train(
    decoder: Arc<Decoder>,
    lora: LoraConfig,
    settings: TrainingSettings,
    examples: Vec<Example>,
    bar: &ProgressBar,
) -> Result<Trained, ModelError> {
    let mut trainer = Trainer::new(decoder, lora, settings, examples)?;
    bar.set_length(trainer.steps() as u64);
    let start = Instant::now();
    let mut curve = Vec::with_capacity(trainer.steps());
    while let Some(step) = trainer.step()? {
        bar.set_message(format!("loss {:.3}", step.loss));
        bar.inc(1);
        curve.push(step);
    }
    Ok(Trained {
        adapter: trainer.adapter()?,
        curve,
        seconds: start.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_means_over_the_targets_of_an_epoch() {
        let step = |epoch, targets, loss| TrainingStep {
            step: 1,
            steps: 4,
            epoch,
            examples: 1,
            tokens: 10,
            targets,
            loss,
            learning_rate: 0.1,
            gradient_norm: 1.0,
        };
        let curve = [step(1, 1, 4.0), step(1, 3, 2.0), step(2, 5, 1.0)];
        assert_eq!(losses(&curve), [2.5, 1.0]);
        assert!(losses(&[]).is_empty());
    }
}
