use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::json::exact;

/// How the learning rate goes from its height, after the warm-up, to the end of the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls in a line, to 0 after the last step.
    Linear,
    /// It falls as half a cosine, to 0 after the last step (Loshchilov and Hutter, 2017).
    Cosine,
}

/// How an adapter is trained. The learning rate of every step is that of transformers' schedules of the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingSettings {
    /// How often each example is seen.
    pub epochs: usize,
    /// Examples of a step. The last step of an epoch has what is left.
    pub batch: usize,
    /// Tokens that are computed at once, or one longer example: a step whose examples have more of them computes them
    /// in several passes, and adds their gradients. It decides the memory that is needed, and nothing else but
    /// rounding.
    pub pass_tokens: usize,
    /// The learning rate at its height.
    #[serde(with = "exact")]
    pub learning_rate: f64,
    /// What becomes of it.
    pub schedule: Schedule,
    /// The share of steps in which it rises to its height, in a line from 0.
    #[serde(with = "exact")]
    pub warmup: f64,
    /// What AdamW takes off the weights in each step, as a share of the learning rate (Loshchilov and Hutter, 2019).
    #[serde(with = "exact")]
    pub weight_decay: f64,
    /// How much of the mean of gradients AdamW keeps in each step.
    #[serde(with = "exact")]
    pub beta1: f64,
    /// How much of the mean of squared gradients it keeps.
    #[serde(with = "exact")]
    pub beta2: f64,
    /// What it adds to the root of that mean.
    #[serde(with = "exact")]
    pub epsilon: f64,
    /// The norm of all gradients together, to which they are scaled down if they have more (Pascanu et al., 2013).
    #[serde(with = "exact")]
    pub max_norm: f64,
    /// Decides the first weights, the order of examples in each epoch, and what dropout leaves out. With the same
    /// build, processor features and threads, the same seed gives the same adapter to the bit.
    pub seed: u64,
}

impl Default for TrainingSettings {
    /// Three epochs of batches of 8, 2e-4 falling as a cosine after 3 % of the steps; AdamW as in torch.
    fn default() -> Self {
        Self {
            epochs: 3,
            batch: 8,
            pass_tokens: 2048,
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warmup: 0.03,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_norm: 1.0,
            seed: 0,
        }
    }
}

/// How an adapter came to be. Written into its `loci.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingRecord {
    /// How it was trained, with the seed.
    pub settings: TrainingSettings,
    /// The share of its inputs that dropout left out.
    #[serde(with = "exact")]
    pub dropout: f64,
    /// The digest of all examples in their order: tokens, and which of them are targets.
    pub data: Digest,
    /// How many examples there were.
    pub examples: usize,
    /// Steps that were made.
    pub steps: usize,
    /// The adapter that the training started from, if from one.
    pub start: Option<Digest>,
}

impl TrainingSettings {
    /// Refuses settings that mean nothing. It can be asked before any work.
    ///
    /// # Errors
    /// [`ModelError::Setting`] with the field.
    pub fn check(&self) -> Result<(), ModelError> {
        let refuse = |field, value: String, expected| {
            Err(ModelError::Setting {
                field,
                value,
                expected,
            })
        };
        for (field, value) in [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("passTokens", self.pass_tokens),
        ] {
            if value == 0 {
                return refuse(field, "0".to_owned(), "1 or more");
            }
        }
        for (field, value) in [
            ("learningRate", self.learning_rate),
            ("epsilon", self.epsilon),
            ("maxNorm", self.max_norm),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return refuse(field, value.to_string(), "a number above 0");
            }
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return refuse("weightDecay", self.weight_decay.to_string(), "0 or more");
        }
        for (field, value) in [
            ("warmup", self.warmup),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(field, value.to_string(), "0 or more, below 1");
            }
        }
        Ok(())
    }

    /// The learning rate of step `step` of `steps`, the first being 0.
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let warmup = (self.warmup * steps as f64).ceil() as usize;
        if step < warmup {
            return self.learning_rate * step as f64 / warmup as f64;
        }
        let falling = (steps - warmup).max(1) as f64;
        let done = (step - warmup) as f64 / falling;
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - done,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.learning_rate * share.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, warmup: f64) -> Vec<f64> {
        let settings = TrainingSettings {
            learning_rate: 2.0,
            schedule,
            warmup,
            ..TrainingSettings::default()
        };
        (0..8).map(|step| settings.rate(step, 8)).collect()
    }

    fn assert_close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{got} against {want}");
        }
    }

    /// By transformers' get_constant_, get_linear_ and get_cosine_schedule_with_warmup.
    #[test]
    fn rates_are_those_of_transformers() {
        let constant = rates(Schedule::Constant, 0.25);
        assert_close(&constant, &[0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        let mut linear = vec![0.0, 1.0];
        linear.extend((0..6).map(|i| 2.0 * f64::from(6 - i) / 6.0));
        assert_close(&rates(Schedule::Linear, 0.2), &linear);
        let cosine = rates(Schedule::Cosine, 0.0);
        let third = 1.0 + (std::f64::consts::PI * 3.0 / 8.0).cos();
        assert_close(&[cosine[0], cosine[3], cosine[4]], &[2.0, third, 1.0]);
        assert!(cosine.is_sorted_by(|a, b| a > b) && cosine[7] > 0.0);
    }

    type Change = fn(&mut TrainingSettings);

    #[test]
    fn settings_that_mean_nothing_are_refused_by_name() {
        let cases: [(Change, &str); 9] = [
            (|s| s.epochs = 0, "epochs 0"),
            (|s| s.batch = 0, "batch 0"),
            (|s| s.pass_tokens = 0, "passTokens 0"),
            (|s| s.learning_rate = f64::NAN, "learningRate NaN"),
            (|s| s.max_norm = 0.0, "maxNorm 0"),
            (|s| s.weight_decay = -1.0, "weightDecay -1"),
            (|s| s.warmup = 1.0, "warmup 1"),
            (|s| s.beta2 = 1.0, "beta2 1"),
            (|s| s.epsilon = f64::INFINITY, "epsilon inf"),
        ];
        TrainingSettings::default().check().unwrap();
        for (change, part) in cases {
            let mut settings = TrainingSettings::default();
            change(&mut settings);
            let message = settings.check().unwrap_err().to_string();
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }

    #[test]
    fn settings_come_back_from_json_to_the_bit() {
        let settings = TrainingSettings {
            learning_rate: 0.1 + 0.2,
            seed: u64::MAX,
            schedule: Schedule::Linear,
            ..TrainingSettings::default()
        };
        let json = serde_json::to_string(&settings).unwrap();
        let back: TrainingSettings = serde_json::from_str(&json).unwrap();
        assert_eq!(back, settings);
    }
}
