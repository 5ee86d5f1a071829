//! Keys and values of the tokens that were computed already.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::LlamaConfig;
use crate::kernels::decoder::{self as kernels, Places};

/// The cache of some sequences, each of its own length.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<Layer>,
    lengths: Vec<usize>,
    /// Tokens for which each sequence has room.
    room: usize,
}

#[derive(Debug)]
struct Layer {
    /// `[sequences * room, kept]`.
    keys: Tensor<2>,
    values: Tensor<2>,
}

impl Cache {
    /// An empty cache. It grows by itself; `room` spares that.
    pub fn new(config: &LlamaConfig, sequences: usize, room: usize, device: &Device) -> Self {
        let room = room.max(1);
        let empty = || Tensor::zeros([sequences * room, config.kept()], device);
        let layer = |_| Layer {
            keys: empty(),
            values: empty(),
        };
        Self {
            layers: (0..config.layers).map(layer).collect(),
            lengths: vec![0; sequences],
            room,
        }
    }

    /// Places for the tokens of a call, which brings `new` tokens to each sequence. The call ends with
    /// [`Self::advance`].
    pub fn place(&mut self, new: &[usize]) -> Arc<Places> {
        let needed = self.lengths.iter().zip(new).map(|(past, new)| past + new);
        let needed = needed.max().unwrap_or(0);
        if needed > self.room {
            self.room = needed.max(2 * self.room);
        }
        Arc::new(Places {
            past: self.lengths.clone(),
            new: new.to_vec(),
            room: self.room,
        })
    }

    /// Stores the keys and values of new tokens in a layer, and attends to all that it holds in heads of `size`
    /// columns.
    pub fn attend(
        &mut self,
        layer: usize,
        queries: Tensor<2>,
        keys: Tensor<2>,
        values: Tensor<2>,
        size: usize,
        places: &Arc<Places>,
    ) -> Tensor<2> {
        let layer = &mut self.layers[layer];
        layer
            .keys
            .inplace(|cache| kernels::store(cache, keys, places.clone()));
        layer
            .values
            .inplace(|cache| kernels::store(cache, values, places.clone()));
        kernels::attend(queries, &layer.keys, &layer.values, size, places.clone())
    }

    /// Counts the new tokens in, when all layers hold them.
    pub fn advance(&mut self, new: &[usize]) {
        for (length, new) in self.lengths.iter_mut().zip(new) {
            *length += new;
        }
    }

    /// Forgets what a sequence holds.
    pub fn clear(&mut self, sequence: usize) {
        self.lengths[sequence] = 0;
    }

    /// Makes room for so many tokens of each sequence when the next ones come.
    pub fn reserve(&mut self, room: usize) {
        self.room = self.room.max(room);
    }

    /// A cache whose sequence `i` continues sequence `of[i]` of this one.
    pub fn fork(&self, of: &[usize]) -> Self {
        let layer = |layer: &Layer| Layer {
            keys: self.chosen(&layer.keys, of),
            values: self.chosen(&layer.values, of),
        };
        Self {
            layers: self.layers.iter().map(layer).collect(),
            lengths: of.iter().map(|&i| self.lengths[i]).collect(),
            room: self.room,
        }
    }

    fn chosen(&self, cache: &Tensor<2>, of: &[usize]) -> Tensor<2> {
        let [_, kept] = cache.dims();
        let sequences: Vec<i32> = of.iter().map(|&i| i as i32).collect();
        let data = TensorData::new(sequences, [of.len()]);
        let sequences = Tensor::<1, Int>::from_data(data, &cache.device());
        let width = self.room * kept;
        let by_sequence: Tensor<2> = cache.clone().reshape([self.lengths.len(), width]);
        let chosen = by_sequence.select(0, sequences);
        chosen.reshape([of.len() * self.room, kept])
    }
}
