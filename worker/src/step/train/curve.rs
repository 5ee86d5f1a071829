//! How a training went, point by point; and whether it still leads anywhere.

use std::collections::BTreeMap;

use loci_models::TrainingStep;
use serde::{Deserialize, Serialize};
use serde_json::Error;

/// A loss of more than so many times the median of those before counts as too high, and so many in a row end a training.
pub(super) const HIGH: f64 = 10.0;
pub(super) const IN_A_ROW: usize = 50;

/// A line of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum CurvePoint {
    /// A step of the optimiser.
    Step {
        /// Which it was, the first being 1.
        step: usize,
        /// The pass over the examples that it belongs to, the first being 1.
        epoch: usize,
        /// Its examples.
        examples: usize,
        /// Their tokens.
        tokens: usize,
        /// Those of them that were learned.
        targets: usize,
        /// The mean cross entropy of these before the step, in nats.
        loss: f64,
        /// The step's learning rate.
        learning_rate: f64,
        /// The norm of all gradients together, before it was limited.
        gradient_norm: f64,
    },
    /// What is held out, at the end of an epoch.
    HeldOut {
        /// Epochs that were over; 0 before the first step.
        epoch: usize,
        /// The mean cross entropy of the tokens that would be learned, in nats.
        held_out_loss: f64,
        /// How many these are.
        targets: usize,
    },
}

impl From<&TrainingStep> for CurvePoint {
    fn from(step: &TrainingStep) -> Self {
        Self::Step {
            step: step.step,
            epoch: step.epoch,
            examples: step.examples,
            tokens: step.tokens,
            targets: step.targets,
            loss: step.loss,
            learning_rate: step.learning_rate,
            gradient_norm: step.gradient_norm,
        }
    }
}

/// A curve as it is kept: JSON Lines, never written anew, since a reader of JSON may round.
#[derive(Default)]
pub(super) struct Curve {
    lines: Vec<u8>,
    watch: Watch,
    tokens: u64,
    /// Of the newest epoch: which it is, its losses added up and its targets.
    epoch: (usize, f64, usize),
    held_out: BTreeMap<usize, f64>,
}

impl Curve {
    /// The curve of these lines.
    pub fn read(lines: &[u8]) -> Result<Self, Error> {
        let mut curve = Self::default();
        for line in lines.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
            curve.take(line)?;
        }
        Ok(curve)
    }

    /// Adds a point. True when so many losses in a row are too high that the training leads nowhere.
    pub fn add(&mut self, point: &CurvePoint) -> Result<bool, Error> {
        self.take(&serde_json::to_vec(point)?)?;
        Ok(self.watch.diverged())
    }

    /// Takes a point as it is written: a curve that goes on elsewhere has seen the same numbers to the bit.
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        match serde_json::from_slice(line)? {
            CurvePoint::Step {
                epoch,
                tokens,
                targets,
                loss,
                ..
            } => {
                self.watch.see(loss);
                self.tokens += tokens as u64;
                if self.epoch.0 != epoch {
                    self.epoch = (epoch, 0.0, 0);
                }
                self.epoch.1 += loss * targets as f64;
                self.epoch.2 += targets;
            }
            CurvePoint::HeldOut {
                epoch,
                held_out_loss,
                ..
            } => _ = self.held_out.insert(epoch, held_out_loss),
        }
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        Ok(())
    }

    /// The lines.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Tokens of all steps.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The mean loss of the newest epoch's targets.
    pub fn loss(&self) -> Option<f64> {
        let (_, sum, targets) = self.epoch;
        (targets > 0).then(|| sum / targets as f64)
    }

    /// The loss of what is held out, after so many epochs.
    pub fn held_out(&self, epoch: usize) -> Option<f64> {
        self.held_out.get(&epoch).copied()
    }

    /// The median of all losses but those that are too high now.
    pub fn median(&self) -> Option<f64> {
        self.watch.median()
    }
}

/// Losses in their order of size, and those of late that are too high.
#[derive(Default)]
struct Watch {
    sorted: Vec<f64>,
    high: Vec<f64>,
}

impl Watch {
    fn see(&mut self, loss: f64) {
        if self.median().is_some_and(|median| loss > HIGH * median) {
            self.high.push(loss);
            return;
        }
        // It has come back: what was high was a part of the way.
        let high = std::mem::take(&mut self.high);
        for loss in high.into_iter().chain([loss]) {
            let at = self.sorted.partition_point(|other| *other < loss);
            self.sorted.insert(at, loss);
        }
    }

    fn median(&self) -> Option<f64> {
        let middle = self.sorted.len().checked_sub(1)? / 2;
        self.sorted.get(middle).copied()
    }

    fn diverged(&self) -> bool {
        self.high.len() >= IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(step: usize, epoch: usize, loss: f64) -> CurvePoint {
        CurvePoint::Step {
            step,
            epoch,
            examples: 2,
            tokens: 30,
            targets: 10 * step,
            loss,
            learning_rate: 1e-4,
            gradient_norm: 0.5,
        }
    }

    fn held_out(epoch: usize, held_out_loss: f64) -> CurvePoint {
        CurvePoint::HeldOut {
            epoch,
            held_out_loss,
            targets: 7,
        }
    }

    /// After which of these losses a training ends.
    fn ends(losses: impl IntoIterator<Item = f64>) -> Option<usize> {
        let mut curve = Curve::default();
        let mut losses = losses.into_iter().enumerate();
        losses.find_map(|(i, loss)| {
            let diverged = curve.add(&step(i + 1, 1, loss)).unwrap();
            diverged.then_some(i + 1)
        })
    }

    #[test]
    fn fifty_losses_in_a_row_above_ten_times_the_median_end_a_training() {
        let calm = [4.0, 3.0, 2.0, 2.0, 1.0];
        let high = |n: usize| std::iter::repeat_n(20.1, n);
        assert_eq!(ends(calm.into_iter().chain(high(60))), Some(55));
        assert_eq!(ends(calm.into_iter().chain(high(49)).chain(calm)), None);
        // One that comes back is no end, and counts among those that the next are compared with.
        let back = calm.into_iter().chain(high(49)).chain([2.0]);
        assert_eq!(ends(back.chain(high(60))), None);
        let at = std::iter::repeat_n(20.0, 60);
        assert_eq!(ends(calm.into_iter().chain(at)), None);
        // A training that only begins high has nothing to be compared with.
        assert_eq!(ends(std::iter::repeat_n(1e9, 200)), None);
    }

    #[test]
    fn an_epochs_loss_is_that_of_all_its_targets() {
        let mut curve = Curve::default();
        assert_eq!((curve.loss(), curve.median()), (None, None));
        for point in [
            held_out(0, 3.0),
            step(1, 1, 9.0),
            step(2, 1, 3.0),
            held_out(1, 2.0),
            step(3, 2, 2.0),
            step(4, 2, 1.0),
        ] {
            curve.add(&point).unwrap();
        }
        assert_eq!((curve.tokens(), curve.median()), (120, Some(2.0)));
        assert_eq!(curve.loss(), Some((30.0 * 2.0 + 40.0) / 70.0));
        let losses = [0, 1, 2].map(|epoch| curve.held_out(epoch));
        assert_eq!(losses, [Some(3.0), Some(2.0), None]);
        let first: serde_json::Value =
            serde_json::from_slice(curve.lines().split(|b| *b == b'\n').next().unwrap()).unwrap();
        assert_eq!(
            first,
            serde_json::json!({"epoch": 0, "heldOutLoss": 3.0, "targets": 7})
        );
    }

    proptest! {
        #[test]
        fn a_curve_that_is_read_goes_on_as_if_it_had_never_stopped(
            losses in proptest::collection::vec(1e-6_f64..50.0, 1..80),
            cut in 0..80_usize,
        ) {
            let mut whole = Curve::default();
            let mut parted = Curve::default();
            for (i, loss) in losses.iter().enumerate() {
                if i == cut {
                    parted = Curve::read(parted.lines()).unwrap();
                }
                let point = step(i + 1, i / 9 + 1, *loss);
                prop_assert_eq!(whole.add(&point).unwrap(), parted.add(&point).unwrap());
            }
            prop_assert_eq!(whole.lines(), parted.lines());
            prop_assert_eq!(whole.loss().map(f64::to_bits), parted.loss().map(f64::to_bits));
            prop_assert_eq!(whole.median().map(f64::to_bits), parted.median().map(f64::to_bits));
            prop_assert_eq!(whole.tokens(), parted.tokens());
        }
    }
}
