//! What a BERT layer computes besides matrix products, fused, over packed sequences: texts one after another
//! without padding, `lengths` telling where each ends. Registered as operations of burn's Flex backend.

mod attend;
pub(crate) mod causal;
pub(crate) mod decoder;
pub(crate) mod lora;
pub(crate) mod product;
mod rows;
pub(crate) mod train;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, DispatchTensor, Flex, backend_extension};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use crate::encoder::Pooling;
pub(crate) use rows::Isa;
use rows::Norm;

/// Below this many elements an operation stays on its thread: handing it out costs more than it saves.
const PARALLEL: usize = 32 * 1024;

#[backend_extension(Flex)]
pub(crate) trait EncoderOps: burn::backend::Backend {
    /// `layer_norm(words[ids] + positions)`: `[tokens, hidden]`, positions counted from 0 in each sequence.
    fn embed_tokens(
        words: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        ids: Arc<[u32]>,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self>;
    /// `gelu(x + bias)`, exact.
    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `layer_norm(x + bias + residual)`.
    fn bias_residual_norm(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    /// Attention within each sequence: `[tokens, 3 hidden]` of queries, keys and values, to which `bias` is
    /// added first, to `[tokens, hidden]`.
    fn attention(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self>;
    /// One vector for each sequence, `[sequences, hidden]`, of unit length when `unit`.
    fn pool(
        x: FloatTensor<Self>,
        pooling: Pooling,
        unit: bool,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self>;
}

impl EncoderOps for Flex {
    fn embed_tokens(
        words: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        ids: Arc<[u32]>,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self> {
        let [words, positions, gamma, beta] = [words, positions, gamma, beta].map(packed);
        let (words, positions): (&[f32], &[f32]) = (words.storage(), positions.storage());
        let norm = Norm {
            gamma: gamma.storage(),
            beta: beta.storage(),
            epsilon,
        };
        let width = norm.gamma.len();
        let isa = Isa::detect();
        let mut out = Vec::with_capacity(ids.len() * width);
        for id in ids.iter() {
            out.extend_from_slice(&words[*id as usize * width..][..width]);
        }
        let at = lengths.iter().flat_map(|&length| 0..length);
        for (row, position) in out.chunks_exact_mut(width).zip(at) {
            rows::add_norm(isa, row, &positions[position * width..][..width], norm);
        }
        tensor(out, [ids.len(), width])
    }

    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let (mut x, bias) = (packed(x), packed(bias));
        let (isa, bias) = (Isa::detect(), bias.storage::<f32>());
        for_rows(x.storage_mut(), bias.len(), |_, part| {
            rows::bias_gelu(isa, part, bias)
        });
        x
    }

    fn bias_residual_norm(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let [mut x, bias, residual, gamma, beta] = [x, bias, residual, gamma, beta].map(packed);
        let (bias, residual): (&[f32], &[f32]) = (bias.storage(), residual.storage());
        let norm = Norm {
            gamma: gamma.storage(),
            beta: beta.storage(),
            epsilon,
        };
        let isa = Isa::detect();
        for_rows(x.storage_mut(), bias.len(), |start, part| {
            rows::bias_residual_norm(isa, part, bias, &residual[start..][..part.len()], norm);
        });
        x
    }

    fn attention(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self> {
        let (mut qkv, bias) = (packed(qkv), packed(bias));
        let (isa, bias) = (Isa::detect(), bias.storage::<f32>());
        let width = bias.len() / 3;
        for_rows(qkv.storage_mut(), bias.len(), |_, part| {
            rows::add_bias(isa, part, bias)
        });
        let qkv: &[f32] = qkv.storage();
        let mut out = vec![0.0; qkv.len() / 3];
        let mut jobs = Vec::with_capacity(lengths.len() * heads);
        let (mut source, mut target) = (qkv, out.as_mut_slice());
        for &length in lengths.iter() {
            let (sequence, rest) = source.split_at(length * 3 * width);
            let (rows, free) = std::mem::take(&mut target).split_at_mut(length * width);
            let rows = Columns {
                start: rows.as_mut_ptr(),
                stride: width,
                rows: length,
            };
            jobs.extend((0..heads).map(|head| Head {
                qkv: sequence,
                out: rows,
                width,
                size: width / heads,
                head,
            }));
            (source, target) = (rest, free);
        }
        let scores: usize = lengths.iter().map(|length| length * length * heads).sum();
        if scores < PARALLEL {
            let mut scratch = Vec::new();
            jobs.iter().for_each(|job| job.run(isa, &mut scratch));
        } else {
            jobs.par_iter()
                .with_min_len(heads.min(4))
                .for_each_init(Vec::new, |scratch, job| job.run(isa, scratch));
        }
        let tokens = out.len() / width;
        tensor(out, [tokens, width])
    }

    fn pool(
        x: FloatTensor<Self>,
        pooling: Pooling,
        unit: bool,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self> {
        let x = packed(x);
        let width = x.layout().shape()[1];
        let mut rest: &[f32] = x.storage();
        let mut out = vec![0.0; lengths.len() * width];
        for (vector, &length) in out.chunks_exact_mut(width).zip(lengths.iter()) {
            let (sequence, next) = rest.split_at(length * width);
            pool_sequence(vector, sequence, pooling);
            if unit {
                // torch.nn.functional.normalize's epsilon.
                let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
                vector.iter_mut().for_each(|v| *v /= norm);
            }
            rest = next;
        }
        tensor(out, [lengths.len(), width])
    }
}

fn pool_sequence(vector: &mut [f32], sequence: &[f32], pooling: Pooling) {
    let mut rows = sequence.chunks_exact(vector.len());
    vector.copy_from_slice(rows.next().unwrap_or_default());
    match pooling {
        Pooling::Cls => {}
        Pooling::Max => {
            rows.for_each(|row| vector.iter_mut().zip(row).for_each(|(v, r)| *v = v.max(*r)))
        }
        Pooling::Mean => {
            let count = sequence.len() / vector.len();
            rows.for_each(|row| vector.iter_mut().zip(row).for_each(|(v, r)| *v += r));
            vector.iter_mut().for_each(|v| *v /= count as f32);
        }
    }
}

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

/// One attention head over one sequence.
struct Head<'a> {
    /// Queries, keys and values of the sequence: `[rows, 3 width]`.
    qkv: &'a [f32],
    out: Columns,
    width: usize,
    /// Columns of a head.
    size: usize,
    head: usize,
}

impl Head<'_> {
    /// `softmax(q kᵀ / √size) v`, with the scores in `scratch`.
    fn run(&self, isa: Isa, scratch: &mut Vec<f32>) {
        let (rows, size, stride) = (self.out.rows, self.size, (3 * self.width) as isize);
        assert!(self.qkv.len() == rows * 3 * self.width && (self.head + 1) * size <= self.width);
        scratch.resize(rows * rows, 0.0);
        let scale = 1.0 / (size as f32).sqrt();
        let serial = gemm::Parallelism::None;
        // SAFETY: the three blocks of `size` columns lie inside the `rows` rows of `qkv` and of `out` by the
        // assertion; `scratch` has rows x rows elements; strides are those of row-major matrices.
        unsafe {
            let q = self.qkv.as_ptr().add(self.head * size);
            let (k, v) = (q.add(self.width), q.add(2 * self.width));
            let scores = scratch.as_mut_ptr();
            let across = rows as isize;
            gemm::gemm(
                rows, rows, size, scores, 1, across, false, q, 1, stride, k, stride, 1, 0.0, scale,
                false, false, false, serial,
            );
            rows::softmax(isa, scratch, rows);
            let out = self.out.start.add(self.head * size);
            gemm::gemm(
                rows,
                size,
                rows,
                out,
                1,
                self.out.stride as isize,
                false,
                scratch.as_ptr(),
                1,
                across,
                v,
                1,
                stride,
                0.0,
                1.0,
                false,
                false,
                false,
                serial,
            );
        }
    }
}

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

/// [`EncoderOps::embed_tokens`].
pub(crate) fn embed_tokens(
    words: &Tensor<2>,
    positions: &Tensor<2>,
    norm: &LayerNorm,
    ids: Arc<[u32]>,
    lengths: Arc<[usize]>,
) -> Tensor<2> {
    let (gamma, beta) = (down(&norm.gamma), down(&norm.beta));
    Tensor::from_dispatch(Dispatch::embed_tokens(
        down(words),
        down(positions),
        gamma,
        beta,
        norm.epsilon,
        ids,
        lengths,
    ))
}

/// [`EncoderOps::bias_gelu`].
pub(crate) fn bias_gelu(x: Tensor<2>, bias: &Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::bias_gelu(x.into_dispatch(), down(bias)))
}

/// [`EncoderOps::bias_residual_norm`].
pub(crate) fn bias_residual_norm(
    x: Tensor<2>,
    bias: &Tensor<1>,
    residual: Tensor<2>,
    norm: &LayerNorm,
) -> Tensor<2> {
    let (gamma, beta) = (down(&norm.gamma), down(&norm.beta));
    let (x, residual) = (x.into_dispatch(), residual.into_dispatch());
    Tensor::from_dispatch(Dispatch::bias_residual_norm(
        x,
        down(bias),
        residual,
        gamma,
        beta,
        norm.epsilon,
    ))
}

/// [`EncoderOps::attention`].
pub(crate) fn attention(
    qkv: Tensor<2>,
    bias: &Tensor<1>,
    heads: usize,
    lengths: Arc<[usize]>,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::attention(
        qkv.into_dispatch(),
        down(bias),
        heads,
        lengths,
    ))
}

/// [`EncoderOps::pool`].
pub(crate) fn pool(x: Tensor<2>, pooling: Pooling, unit: bool, lengths: Arc<[usize]>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::pool(x.into_dispatch(), pooling, unit, lengths))
}

/// Scale, shift and epsilon of a layer norm.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub gamma: Tensor<1>,
    pub beta: Tensor<1>,
    pub epsilon: f32,
}
