//! What models compute on the CPU, fused, over packed sequences: texts one after another without padding. Those of
//! decoders are registered as operations of burn's Flex backend; those of encoders and of training work on slices.

mod attend;
pub(crate) mod causal;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod lora;
pub(crate) mod product;
mod rows;
pub(crate) mod train;

use burn::backend::DispatchTensor;
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

pub(crate) use rows::Isa;
#[cfg(test)]
pub(crate) use rows::tests::levels;

/// Below this many elements an operation stays on its thread: handing it out costs more than it saves.
const PARALLEL: usize = 32 * 1024;

/// Rows of a result of which each job writes its own columns.
#[derive(Clone, Copy)]
struct Columns {
    start: *mut f32,
    stride: usize,
    rows: usize,
}

// SAFETY: jobs write disjoint columns, or disjoint rows.
unsafe impl Send for Columns {}
// SAFETY: as above, and what a job has written it alone reads.
unsafe impl Sync for Columns {}

/// Runs `f` over all rows, on several threads when that pays; it gets the offset of its part.
fn for_rows(x: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if x.len() < PARALLEL {
        return f(0, x);
    }
    let part = (x.len() / width).div_ceil(4 * rayon::current_num_threads()) * width;
    x.par_chunks_mut(part)
        .enumerate()
        .for_each(|(i, rows)| f(i * part, rows));
}

/// The tensor with its elements in row-major order and nothing else in its storage.
fn packed(x: FlexTensor) -> FlexTensor {
    let whole = x.layout().num_elements() * size_of::<f32>() == x.bytes().len();
    if whole && x.is_contiguous() && x.layout().start_offset() == 0 {
        x
    } else {
        x.to_contiguous()
    }
}

fn tensor(data: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(data),
        Layout::contiguous(Shape::from(shape.to_vec())),
        DType::F32,
    )
}

fn down<const D: usize>(x: &Tensor<D>) -> DispatchTensor {
    x.clone().into_dispatch()
}
