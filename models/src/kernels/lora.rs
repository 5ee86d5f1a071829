//! What adapters add to the products of a decoder's layers, each to the rows of its own sequences.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::rows::{self, Isa};
use super::{for_rows, packed};
use crate::lora::Delta;

/// Rows that one adapter adds to.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub first: usize,
    pub rows: usize,
    pub delta: Arc<Delta>,
}

#[backend_extension(Flex)]
pub(crate) trait LoraOps: burn::backend::Backend {
    /// `y + scale x Aᵀ Bᵀ` in the rows of the stretches. A row's result does not depend on the others.
    fn add_deltas(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        stretches: Arc<[Stretch]>,
    ) -> FloatTensor<Self>;
}

impl LoraOps for Flex {
    fn add_deltas(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        stretches: Arc<[Stretch]>,
    ) -> FloatTensor<Self> {
        let (mut y, x) = (packed(y), packed(x));
        let (isa, x) = (Isa::detect(), x.storage::<f32>());
        let y_all: &mut [f32] = y.storage_mut();
        for Stretch { first, rows, delta } in stretches.iter() {
            let (inputs, outputs) = (delta.inputs, delta.outputs);
            let own = &mut y_all[first * outputs..(first + rows) * outputs];
            let x = &x[first * inputs..(first + rows) * inputs];
            for_rows(own, outputs, |start, part| {
                let mut low = vec![0.0; delta.rank];
                let x = x[start / outputs * inputs..].chunks_exact(inputs);
                for (y, x) in part.chunks_exact_mut(outputs).zip(x) {
                    rows::decoder::dots(isa, &mut low, x, &delta.a);
                    rows::decoder::accumulate(isa, y, &low, &delta.scaled, outputs);
                }
            });
        }
        y
    }
}

/// [`LoraOps::add_deltas`].
pub(crate) fn add_deltas(y: Tensor<2>, x: Tensor<2>, stretches: Arc<[Stretch]>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::add_deltas(
        y.into_dispatch(),
        x.into_dispatch(),
        stretches,
    ))
}
