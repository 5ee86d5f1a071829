use std::fmt;
use std::sync::Arc;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use super::adamw::{Moments, clipping, norm};
use super::batch::{Batch, dropout_seed, passes};
use super::checkpoint::{Checkpoint, Position};
use super::example::digest;
use super::layer::{Adapters, Pass};
use super::network::Network;
use super::parameters::{Layout, uses};
use super::pass::Workspace;
use super::{Example, TrainingRecord, TrainingSettings};
use crate::random::{Draws, derived};
use crate::{Adapter, Decoder, LoraConfig, ModelError};

/// A training on its way. Between any two steps it can be written out and continued elsewhere, to the same adapter.
///
/// Memory needed besides the decoder: for each number of the adapter 16 bytes; for each token of a pass and layer what
/// [`Self::recomputing`] says; 64 MiB of logits, or one row of them.
pub struct Trainer {
    decoder: Arc<Decoder>,
    network: Network,
    pub(super) lora: LoraConfig,
    pub(super) settings: TrainingSettings,
    pub(super) examples: Vec<Example>,
    pub(super) data: Digest,
    pub(super) start: Option<Digest>,
    pub(super) layout: Layout,
    pub(super) values: Vec<f32>,
    pub(super) moments: Moments,
    gradients: Vec<f32>,
    space: Workspace,
    recompute: bool,
    /// Steps that were made.
    pub(super) done: usize,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingStep {
    /// Which it was, the first being 1.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// In which pass over the examples it was, the first being 1.
    pub epoch: usize,
    /// Its examples.
    pub examples: usize,
    /// Their tokens, up to the last target of each.
    pub tokens: usize,
    /// Their targets.
    pub targets: usize,
    /// The mean cross entropy of the targets before the step, in nats.
    pub loss: f64,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// The norm of all gradients together, before it was limited.
    pub gradient_norm: f64,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("lora", &self.lora)
            .field("settings", &self.settings)
            .field("data", &self.data)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A training from the base: an adapter that adds nothing at first.
    ///
    /// # Errors
    /// [`ModelError::Setting`] and [`ModelError::Target`] for settings that mean nothing or do not fit the model;
    /// [`ModelError::Example`] for an example that the model cannot read, with its number; [`ModelError::Device`]
    /// when the model is not on the CPU.
    pub fn new(
        decoder: Arc<Decoder>,
        lora: LoraConfig,
        settings: TrainingSettings,
        examples: Vec<Example>,
    ) -> Result<Self, ModelError> {
        settings.check()?;
        let projections = decoder.projections();
        let chosen = lora.chosen(&projections)?;
        refuse_what_cannot_be_read(&decoder, &examples)?;
        let layout = Layout::new(lora.rank, &projections, &chosen);
        Ok(Self {
            network: Network::of(decoder.llama())?,
            decoder,
            data: digest(&examples),
            start: None,
            values: layout.initial(settings.seed),
            moments: Moments::new(layout.len),
            gradients: vec![0.0; layout.len],
            space: Workspace::default(),
            recompute: false,
            done: 0,
            lora,
            settings,
            examples,
            layout,
        })
    }

    /// A training that starts from an adapter, with new moments and its own schedule: what the adapter learned stays
    /// in it, and [`TrainingRecord::start`] names it.
    ///
    /// # Errors
    /// As [`Self::new`], and [`ModelError::OtherBase`] when the adapter is another model's.
    pub fn warm(
        decoder: Arc<Decoder>,
        adapter: &Adapter,
        settings: TrainingSettings,
        examples: Vec<Example>,
    ) -> Result<Self, ModelError> {
        adapter.check(&decoder)?;
        let mut trainer = Self::new(decoder, adapter.config().clone(), settings, examples)?;
        trainer.start = Some(adapter.digest());
        for (slot, delta) in trainer.layout.slots.iter().zip(adapter.deltas()) {
            trainer.values[slot.a()].copy_from_slice(&delta.a);
            trainer.values[slot.b()].copy_from_slice(&delta.b);
        }
        Ok(trainer)
    }

    /// Continues a training from what [`Self::checkpoint`] gave, with the same model and the same examples, wherever
    /// that was. With the same build, processor features and threads, all further steps are the same to the bit.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when the bytes are no checkpoint, or one of other examples;
    /// [`ModelError::OtherBase`] when it is one of another model.
    pub fn resume(
        decoder: Arc<Decoder>,
        examples: Vec<Example>,
        checkpoint: &[u8],
    ) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::read(checkpoint)?;
        let state = &checkpoint.state;
        state.base.check(decoder.identity(), "the checkpoint")?;
        let (lora, settings) = (state.lora.clone(), state.settings.clone());
        let mut trainer = Self::new(decoder, lora, settings, examples)?;
        checkpoint.restore(&mut trainer)?;
        Ok(trainer)
    }

    /// Whether each layer is computed again on the way back instead of keeping what it computed (Chen et al., 2016); it
    /// is not, unless told. That is a third more work; kept are, as f32 for each token and layer, its input, of the hidden
    /// size, instead of that and queries, keys, values, what was attended, what the MLP got, its gate and its other half.
    /// All steps are the same to the bit, so neither a checkpoint nor an adapter says it.
    pub fn recomputing(mut self, recompute: bool) -> Self {
        self.recompute = recompute;
        self
    }

    /// Where the training is, for [`Self::resume`]: a safetensors file with the adapter's weights and the optimiser's
    /// moments, and settings, position and seed as JSON in its metadata. The same position gives the same bytes.
    ///
    /// # Errors
    /// [`ModelError::Compute`] when it cannot be written.
    pub fn checkpoint(&self) -> Result<Vec<u8>, ModelError> {
        Checkpoint::write(self, self.decoder.identity())
    }

    /// Makes the next step; none when all are made. After an error the training is where it was before the step.
    ///
    /// # Errors
    /// [`ModelError::Training`] with the step, the example and the cause, when a loss or a gradient is not finite.
    pub fn step(&mut self) -> Result<Option<TrainingStep>, ModelError> {
        let (step, steps) = (self.done, self.steps());
        if step == steps {
            return Ok(None);
        }
        let position = self.position();
        let chosen = self.chosen(&position);
        let examples = chosen.iter().map(|&i| &self.examples[i]);
        let tokens: usize = examples.clone().map(|e| e.tokens().len()).sum();
        let targets: usize = examples.map(Example::count).sum();
        let losses = self.accumulate(&chosen, 1.0 / targets as f32);
        if let Some(at) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(self.diverged(chosen[at], losses[at]));
        }
        let gradient_norm = norm(&self.gradients);
        if !gradient_norm.is_finite() {
            let reason = format!("the gradients are not finite; {LOWER}");
            return Err(self.stopped(reason));
        }
        let learning_rate = self.settings.rate(step, steps);
        let scale = clipping(gradient_norm, self.settings.max_norm);
        self.moments.step(
            &mut self.values,
            &self.gradients,
            scale,
            &self.settings,
            learning_rate,
            step,
        );
        self.done += 1;
        Ok(Some(TrainingStep {
            step: self.done,
            steps,
            epoch: position.epoch + 1,
            examples: chosen.len(),
            tokens,
            targets,
            loss: losses.iter().sum::<f64>() / targets as f64,
            learning_rate,
            gradient_norm,
        }))
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// [`ModelError::Compute`] when it cannot be written.
    pub fn adapter(&self) -> Result<Adapter, ModelError> {
        let deltas = self.layout.deltas(&self.lora, &self.values);
        let record = TrainingRecord {
            settings: self.settings.clone(),
            dropout: self.lora.dropout,
            data: self.data,
            examples: self.examples.len(),
            steps: self.done,
            start: self.start,
        };
        let base = self.decoder.identity().into();
        Adapter::new(self.lora.clone(), base, deltas, Some(record))
    }

    /// Steps that were made.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.settings.epochs * self.steps_of_epoch()
    }

    /// The adapter's shape.
    pub fn config(&self) -> &LoraConfig {
        &self.lora
    }

    /// How it is trained.
    pub fn settings(&self) -> &TrainingSettings {
        &self.settings
    }

    fn steps_of_epoch(&self) -> usize {
        self.examples.len().div_ceil(self.settings.batch)
    }

    /// Where the training is.
    pub(super) fn position(&self) -> Position {
        let epoch = self.done / self.steps_of_epoch();
        Position {
            step: self.done,
            epoch,
            taken: self.done % self.steps_of_epoch() * self.settings.batch,
        }
    }

    /// The examples of the step at a position, in the order of its epoch.
    fn chosen(&self, position: &Position) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let seed = derived(self.settings.seed, &[uses::ORDER, position.epoch as u64]);
        Draws::new(seed).shuffle(&mut order);
        let rest = order.into_iter().skip(position.taken);
        rest.take(self.settings.batch).collect()
    }

    /// The losses of examples, and in `gradients` `weight` times the gradients of all of them together. Ends at the
    /// first loss that is not finite.
    fn accumulate(&mut self, chosen: &[usize], weight: f32) -> Vec<f64> {
        self.gradients.fill(0.0);
        let adapters = Adapters {
            layout: &self.layout,
            values: &self.values,
            scale: self.lora.scale(),
            dropout: self.lora.dropout,
        };
        let examples: Vec<&Example> = chosen.iter().map(|&i| &self.examples[i]).collect();
        let seed = |place| dropout_seed(self.settings.seed, self.done, place);
        let seeds: Vec<u64> = (0..examples.len()).map(seed).collect();
        let recompute = self.recompute;
        let (gradients, space) = (&mut self.gradients, &mut self.space);
        let mut losses: Vec<f64> = Vec::with_capacity(examples.len());
        for count in passes(&examples, self.settings.pass_tokens) {
            let own = losses.len()..losses.len() + count;
            let rope = &self.decoder.llama().rope;
            let pass = Pass {
                network: &self.network,
                batch: &Batch::new(&examples[own.clone()], &seeds[own], rope),
                adapters,
            };
            // On a thread of the pool, so that its many small operations do not each wait for one.
            let more = rayon::scope(|_| pass.run(weight, recompute, gradients, space));
            losses.extend(more);
            if !losses.iter().all(|loss| loss.is_finite()) {
                break;
            }
        }
        losses
    }

    /// Tells whose fault a loss is that is not finite: computes the example without the adapter.
    fn diverged(&mut self, example: usize, loss: f64) -> ModelError {
        let none = vec![0.0; self.values.len()];
        let values = std::mem::replace(&mut self.values, none);
        let finite = self
            .accumulate(&[example], 1.0)
            .iter()
            .all(|l| l.is_finite());
        self.values = values;
        let cause = if finite {
            format!("without the adapter it is finite, so the adapter has diverged; {LOWER}")
        } else {
            "without the adapter too, so the model's own weights cannot compute this text; leave the example out, or take whole weights".to_owned()
        };
        self.stopped(format!("the loss of example {example} is {loss}; {cause}"))
    }

    fn stopped(&self, reason: String) -> ModelError {
        let step = self.done + 1;
        ModelError::Training { step, reason }
    }
}

const LOWER: &str = "lower learningRate or maxNorm, or lengthen warmup";

fn refuse_what_cannot_be_read(decoder: &Decoder, examples: &[Example]) -> Result<(), ModelError> {
    if examples.is_empty() {
        return Err(ModelError::Setting {
            field: "examples",
            value: "of none".to_owned(),
            expected: "at least one",
        });
    }
    for (i, example) in examples.iter().enumerate() {
        let read = decoder.check(example.tokens());
        read.map_err(|e| ModelError::Example(format!("example {i}: {e}")))?;
    }
    Ok(())
}
