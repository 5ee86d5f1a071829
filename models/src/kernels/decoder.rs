//! What a decoder layer computes besides large matrix products, fused, over packed sequences: the new tokens of each
//! follow one another without padding.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::attend::Attention;
use super::rows::{self, Isa};
use super::{Columns, PARALLEL, down, for_rows, packed, tensor};

/// Columns of a product that a thread computes at once: few enough to stay in the first cache.
const WIDTH: usize = 1024;

/// Where the tokens of one call belong: each sequence has its own stretch of rows in the cache.
#[derive(Debug)]
pub(crate) struct Places {
    /// Tokens that each sequence has in the cache before the call.
    pub past: Vec<usize>,
    /// Tokens that the call brings to each.
    pub new: Vec<usize>,
    /// Tokens for which each sequence has room after the call.
    pub room: usize,
}

#[backend_extension(Flex)]
pub(crate) trait DecoderOps: burn::backend::Backend {
    /// `x / rms(x) * gamma` on each row.
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;
    /// Rotary positions on heads of `size` columns; `table` has cosines and sines for each row.
    fn rotate(x: FloatTensor<Self>, table: Arc<[f32]>, size: usize) -> FloatTensor<Self>;
    /// `silu(gate) * up`.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `x weight` for a few rows of `x`: the weight is read once, in its order.
    fn product_of_few(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `x weightᵀ` for a few rows of `x`.
    fn product_with_rows(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The cache with the rows of the new tokens in it: in place, if there is room and nobody else holds it.
    fn store(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        places: Arc<Places>,
    ) -> FloatTensor<Self>;
    /// Causal attention of the new tokens over the cache, heads of `size` columns.
    fn attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        size: usize,
        places: Arc<Places>,
    ) -> FloatTensor<Self>;
}

impl DecoderOps for Flex {
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let (mut x, gamma) = (packed(x), packed(gamma));
        let (isa, gamma) = (Isa::detect(), gamma.storage::<f32>());
        for_rows(x.storage_mut(), gamma.len(), |_, part| {
            rows::decoder::rms_norm(isa, part, gamma, epsilon)
        });
        x
    }

    fn rotate(x: FloatTensor<Self>, table: Arc<[f32]>, size: usize) -> FloatTensor<Self> {
        let mut x = packed(x);
        let [_, width] = sides(&x);
        let isa = Isa::detect();
        for_rows(x.storage_mut(), width, |start, part| {
            rows::decoder::rotate(isa, part, width, &table[start / width * size..], size)
        });
        x
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (mut gate, up) = (packed(gate), packed(up));
        let [_, width] = sides(&gate);
        let (isa, up) = (Isa::detect(), up.storage::<f32>());
        for_rows(gate.storage_mut(), width, |start, part| {
            rows::decoder::swiglu(isa, part, &up[start..][..part.len()])
        });
        gate
    }

    fn product_of_few(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let [x, weight] = [x, weight].map(packed);
        let [inputs, outputs] = sides(&weight);
        let (x, weight): (&[f32], &[f32]) = (x.storage(), weight.storage());
        let isa = Isa::detect();
        by_columns(x.len() / inputs, outputs, inputs, |row, start, part| {
            let x = &x[row * inputs..][..inputs];
            rows::decoder::accumulate(isa, part, x, &weight[start..], outputs);
        })
    }

    fn product_with_rows(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let [x, weight] = [x, weight].map(packed);
        let [outputs, inputs] = sides(&weight);
        let (x, weight): (&[f32], &[f32]) = (x.storage(), weight.storage());
        let isa = Isa::detect();
        by_columns(x.len() / inputs, outputs, inputs, |row, start, part| {
            let x = &x[row * inputs..][..inputs];
            rows::decoder::dots(isa, part, x, &weight[start * inputs..]);
        })
    }

    fn store(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        places: Arc<Places>,
    ) -> FloatTensor<Self> {
        let (mut cache, rows) = (with_room(packed(cache), &places), packed(rows));
        let [_, width] = sides(&rows);
        let target: &mut [f32] = cache.storage_mut();
        let mut rest: &[f32] = rows.storage();
        for (sequence, (past, new)) in places.past.iter().zip(&places.new).enumerate() {
            let (own, further) = rest.split_at(new * width);
            let start = (sequence * places.room + past) * width;
            target[start..start + own.len()].copy_from_slice(own);
            rest = further;
        }
        cache
    }

    fn attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        size: usize,
        places: Arc<Places>,
    ) -> FloatTensor<Self> {
        let [queries, keys, values] = [queries, keys, values].map(packed);
        let [tokens, width] = sides(&queries);
        let [_, kept] = sides(&keys);
        let attention = Attention {
            queries: queries.storage(),
            keys: keys.storage(),
            values: values.storage(),
            width,
            kept,
            size,
        };
        tensor(attention.run(&places), [tokens, width])
    }
}

fn sides(x: &FlexTensor) -> [usize; 2] {
    let shape = x.layout().shape();
    [shape[0], shape[1]]
}

/// The cache with the room that the call needs; what it holds is copied if it had less.
fn with_room(cache: FlexTensor, places: &Places) -> FlexTensor {
    let [rows, width] = sides(&cache);
    let sequences = places.past.len();
    let room = rows / sequences;
    if room == places.room {
        return cache;
    }
    let old: &[f32] = cache.storage();
    let mut grown = vec![0.0; sequences * places.room * width];
    for (sequence, past) in places.past.iter().enumerate() {
        let held = &old[sequence * room * width..][..past * width];
        grown[sequence * places.room * width..][..held.len()].copy_from_slice(held);
    }
    tensor(grown, [sequences * places.room, width])
}

/// A product of `rows` rows and `columns` columns, `depth` deep, in parts of some columns, on several threads when that
/// pays. `f` adds to a part of zeros; it gets its row and the column where it starts.
fn by_columns(
    rows: usize,
    columns: usize,
    depth: usize,
    f: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> FlexTensor {
    let mut out = vec![0.0; rows * columns];
    let target = Columns {
        start: out.as_mut_ptr(),
        stride: columns,
        rows,
    };
    let serial = rows * columns * depth < PARALLEL;
    let threads = if serial {
        1
    } else {
        rayon::current_num_threads()
    };
    // As many parts for each thread, of whole cache lines.
    let parts = threads * columns.div_ceil(threads * WIDTH);
    let width = columns.div_ceil(parts).next_multiple_of(16);
    let run = |i: usize| {
        let start = i * width;
        for row in 0..rows {
            // SAFETY: parts of different `i` or `row` do not overlap, and each is handed out once.
            let part = unsafe { target.part(row, start, width.min(columns - start)) };
            f(row, start, part);
        }
    };
    let parts = 0..columns.div_ceil(width);
    if serial {
        parts.for_each(run);
    } else {
        parts.into_par_iter().for_each(run);
    }
    tensor(out, [rows, columns])
}

impl Columns {
    /// `width` columns of a row, from column `start` on.
    ///
    /// # Safety
    /// They must lie inside the matrix, which must outlive them, and nothing else may use them meanwhile.
    unsafe fn part<'a>(self, row: usize, start: usize, width: usize) -> &'a mut [f32] {
        assert!(row < self.rows && start + width <= self.stride);
        // SAFETY: inside the matrix by the assertion; the caller answers for the rest.
        unsafe {
            let first = self.start.add(row * self.stride + start);
            std::slice::from_raw_parts_mut(first, width)
        }
    }
}

/// [`DecoderOps::rms_norm`].
pub(crate) fn rms_norm(x: Tensor<2>, gamma: &Tensor<1>, epsilon: f32) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rms_norm(x.into_dispatch(), down(gamma), epsilon))
}

/// [`DecoderOps::rotate`].
pub(crate) fn rotate(x: Tensor<2>, table: Arc<[f32]>, size: usize) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rotate(x.into_dispatch(), table, size))
}

/// [`DecoderOps::swiglu`].
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// [`DecoderOps::product_of_few`].
pub(crate) fn product_of_few(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::product_of_few(x.into_dispatch(), down(weight)))
}

/// [`DecoderOps::product_with_rows`].
pub(crate) fn product_with_rows(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::product_with_rows(x.into_dispatch(), down(weight)))
}

/// [`DecoderOps::store`].
pub(crate) fn store(cache: Tensor<2>, rows: Tensor<2>, places: Arc<Places>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::store(
        cache.into_dispatch(),
        rows.into_dispatch(),
        places,
    ))
}

/// [`DecoderOps::attend`].
pub(crate) fn attend(
    queries: Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    size: usize,
    places: Arc<Places>,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::attend(
        queries.into_dispatch(),
        down(keys),
        down(values),
        size,
        places,
    ))
}

/// `ln Σ e^x` over a row.
pub(crate) fn log_sum_exp(row: &[f32]) -> f32 {
    let mut sum = 0.0;
    rows::decoder::log_sum_exp(Isa::detect(), row, &mut sum);
    sum
}
