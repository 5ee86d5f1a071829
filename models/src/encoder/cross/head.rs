//! The head: a pooler over the first token, and a linear classifier.

use super::super::config::BertConfig;
use super::super::load::prefix;
use super::description::Labels;
use crate::ModelError;
use crate::weights::Weights;

/// `classifier(tanh(pooler(x)))`. One row a pair: too small for more than a loop.
#[derive(Debug)]
pub(super) struct Head {
    pooler: Linear,
    classifier: Linear,
    labels: Labels,
}

/// `weight x + bias`, the weight as files have it, `[out, in]`.
#[derive(Debug)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Head {
    pub fn load(
        config: &BertConfig,
        labels: Labels,
        weights: &mut Weights,
    ) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let pooler = format!("{}pooler.dense", prefix(weights));
        Ok(Self {
            pooler: Linear::load(&pooler, [hidden, hidden], weights)?,
            classifier: Linear::load("classifier", [labels.count(), hidden], weights)?,
            labels,
        })
    }

    /// The score of the pair whose first token has this final hidden state.
    pub fn score(&self, first: &[f32]) -> Result<f32, ModelError> {
        let mut pooled = self.pooler.apply(first);
        pooled.iter_mut().for_each(|v| *v = v.tanh());
        let logits = self.classifier.apply(&pooled);
        let score = match (self.labels, logits.as_slice()) {
            (Labels::One, [logit]) => *logit,
            (Labels::Two, [not, relevant]) => relevant - not,
            _ => f32::NAN,
        };
        if score.is_finite() {
            return Ok(score);
        }
        let reason = "the weights yield scores that are not finite";
        Err(ModelError::Compute(reason.to_owned()))
    }
}

impl Linear {
    fn load(name: &str, shape: [usize; 2], weights: &mut Weights) -> Result<Self, ModelError> {
        Ok(Self {
            weight: weights.read(&format!("{name}.weight"), &shape)?,
            bias: weights.read(&format!("{name}.bias"), &shape[..1])?,
        })
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(x.len()).zip(&self.bias);
        rows.map(|(row, bias)| row.iter().zip(x).map(|(w, v)| w * v).sum::<f32>() + bias)
            .collect()
    }
}
