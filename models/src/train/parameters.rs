//! What is trained: the adapters' matrices, all in one vector.

use std::ops::Range;
use std::sync::Arc;

use crate::lora::{Delta, tensor_a, tensor_b};
use crate::random::{Draws, derived};
use crate::weights::Named;
use crate::{LoraConfig, Projection};

/// What random numbers are used for, so that no two uses draw the same.
pub(super) mod uses {
    pub const WEIGHTS: u64 = 1;
    pub const ORDER: u64 = 2;
    pub const DROPOUT: u64 = 3;
}

/// Where each linear layer's matrices lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub slots: Vec<Slot>,
    /// The slot of each linear layer that is adapted.
    of: Vec<Option<usize>>,
    pub rank: usize,
    /// All numbers together.
    pub len: usize,
}

/// One linear layer's matrices: `A`, `[rank, inputs]`, and after it `B`, `[outputs, rank]`.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub projection: Projection,
    start: usize,
    rank: usize,
}

impl Slot {
    pub fn a(&self) -> Range<usize> {
        self.start..self.start + self.rank * self.projection.inputs
    }

    pub fn b(&self) -> Range<usize> {
        let start = self.a().end;
        start..start + self.rank * self.projection.outputs
    }

    /// `A` and `B` in a vector of all.
    pub fn both<'a>(&self, all: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        let length = self.a().len();
        all[self.start..self.b().end].split_at_mut(length)
    }
}

impl Layout {
    /// For the linear layers in the places `chosen`.
    pub fn new(rank: usize, projections: &[Projection], chosen: &[usize]) -> Self {
        let mut layout = Self {
            slots: Vec::with_capacity(chosen.len()),
            of: vec![None; projections.len()],
            rank,
            len: 0,
        };
        for &place in chosen {
            let slot = Slot {
                projection: projections[place].clone(),
                start: layout.len,
                rank,
            };
            layout.len = slot.b().end;
            layout.of[place] = Some(layout.slots.len());
            layout.slots.push(slot);
        }
        layout
    }

    /// The slot of the linear layer in a place, if it is adapted.
    pub fn slot(&self, place: usize) -> Option<&Slot> {
        self.of.get(place)?.map(|slot| &self.slots[slot])
    }

    /// The first place of a linear layer that is adapted.
    pub fn first(&self) -> usize {
        self.of.iter().position(Option::is_some).unwrap_or(0)
    }

    /// The weights that PEFT starts from, but for its generator: `A` uniform within `1/√inputs`, which is He's bound
    /// with √5 for the slope (He et al., 2015), and `B` zero, so that the adapter adds nothing at first.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        for (i, slot) in self.slots.iter().enumerate() {
            let mut draws = Draws::new(derived(seed, &[uses::WEIGHTS, i as u64]));
            let bound = 1.0 / (slot.projection.inputs as f64).sqrt();
            for value in &mut values[slot.a()] {
                *value = ((2.0 * draws.uniform() - 1.0) * bound) as f32;
            }
        }
        values
    }

    /// The matrices as an adapter holds them.
    pub fn deltas(&self, config: &LoraConfig, values: &[f32]) -> Vec<Option<Arc<Delta>>> {
        let delta = |slot: &usize| {
            let slot = &self.slots[*slot];
            let (a, b) = (values[slot.a()].to_vec(), values[slot.b()].to_vec());
            Arc::new(Delta::new(&slot.projection, config, a, b))
        };
        self.of
            .iter()
            .map(|slot| slot.as_ref().map(delta))
            .collect()
    }

    /// The matrices under the names that PEFT gives them, with something before.
    pub fn named<'a>(&self, before: &str, values: &'a [f32]) -> Vec<Named<'a>> {
        let both = self.slots.iter().flat_map(|slot| {
            let Projection {
                name,
                inputs,
                outputs,
            } = &slot.projection;
            let (a, b) = (
                format!("{before}{}", tensor_a(name)),
                format!("{before}{}", tensor_b(name)),
            );
            [
                Named::new(a, [self.rank, *inputs], &values[slot.a()]),
                Named::new(b, [*outputs, self.rank], &values[slot.b()]),
            ]
        });
        both.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projections() -> Vec<Projection> {
        [(4, 6), (4, 2), (9, 4)]
            .into_iter()
            .enumerate()
            .map(|(i, (inputs, outputs))| Projection {
                name: format!("model.layers.0.p{i}"),
                inputs,
                outputs,
            })
            .collect()
    }

    #[test]
    fn matrices_lie_one_after_another() {
        let layout = Layout::new(2, &projections(), &[0, 2]);
        assert_eq!((layout.len, layout.first()), (2 * 10 + 2 * 13, 0));
        assert!(layout.slot(1).is_none() && layout.slot(9).is_none());
        let last = layout.slot(2).unwrap();
        assert_eq!((last.a(), last.b()), (20..38, 38..46));
        let mut values: Vec<f32> = (0..46).map(|v| v as f32).collect();
        let (a, b) = last.both(&mut values);
        assert_eq!((a[0], a.len(), b[0], b.len()), (20.0, 18, 38.0, 8));
        let config = LoraConfig {
            rank: 2,
            alpha: 4.0,
            ..LoraConfig::default()
        };
        let deltas = layout.deltas(&config, &values);
        assert!(deltas.len() == 3 && deltas[1].is_none());
        let delta = deltas[0].as_ref().unwrap();
        assert_eq!((delta.a[1], delta.b[3]), (1.0, 11.0));
        // Twice the transpose of `b`, [6, 2]: element (1, 1) of b is element (1, 1) of [2, 6].
        assert_eq!(delta.scaled[6 + 1], 22.0);
    }

    #[test]
    fn first_weights_are_uniform_and_add_nothing() {
        let wide = vec![Projection {
            name: "model.layers.0.wide".to_owned(),
            inputs: 100,
            outputs: 3,
        }];
        let layout = Layout::new(50, &wide, &[0]);
        let values = layout.initial(7);
        assert_eq!(values, layout.initial(7));
        assert_ne!(values, layout.initial(8));
        let slot = layout.slot(0).unwrap();
        assert!(values[slot.b()].iter().all(|v| *v == 0.0));
        let a = &values[slot.a()];
        assert!(a.iter().all(|v| v.abs() <= 0.1));
        let variance = a.iter().map(|v| v * v).sum::<f32>() / 5000.0;
        // (0.2)² / 12
        assert!((variance - 0.003_333).abs() < 0.000_2, "{variance}");
    }
}
