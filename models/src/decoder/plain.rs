//! The same computation in burn's own operations, through which gradients flow.

use burn::tensor::{Bool, Tensor, TensorData, activation};

use super::llama::RmsNorm;
use super::math::Math;
use super::rope::Rotation;

pub(crate) enum Plain {}

impl Math for Plain {
    fn product(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        x.matmul(weight.clone())
    }

    fn normalize(x: Tensor<2>, norm: &RmsNorm) -> Tensor<2> {
        let mean = x.clone().square().mean_dim(1);
        let rms = mean.add_scalar(norm.epsilon).sqrt();
        x / rms * norm.gamma.clone().unsqueeze::<2>()
    }

    fn rotate(x: Tensor<2>, rotation: &Rotation) -> Tensor<2> {
        let ([rows, width], size) = (x.dims(), rotation.size);
        let table = TensorData::new(rotation.table.to_vec(), [rows, 1, size]);
        let table = Tensor::<3>::from_data(table, &x.device());
        let halves = |x: Tensor<3>| {
            let low = x.clone().narrow(2, 0, size / 2);
            (low, x.narrow(2, size / 2, size / 2))
        };
        let (cosines, sines) = halves(table);
        let (a, b) = halves(x.reshape([rows, width / size, size]));
        let low = a.clone() * cosines.clone() - b.clone() * sines.clone();
        let high = b * cosines + a * sines;
        Tensor::cat(vec![low, high], 2).reshape([rows, width])
    }

    fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        activation::silu(gate) * up
    }
}

/// Causal attention within each of the packed sequences; nothing passes from one to another.
pub(crate) fn attend(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    size: usize,
    lengths: &[usize],
) -> Tensor<2> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let part = |x: &Tensor<2>| x.clone().narrow(0, start, length);
        let (q, k, v) = (part(&queries), part(&keys), part(&values));
        parts.push(attend_within(q, k, v, size));
        start += length;
    }
    Tensor::cat(parts, 0)
}

fn attend_within(queries: Tensor<2>, keys: Tensor<2>, values: Tensor<2>, size: usize) -> Tensor<2> {
    let ([length, width], [_, kept]) = (queries.dims(), keys.dims());
    let (heads, kept_heads) = (width / size, kept / size);
    let device = queries.device();
    let by_head = |x: Tensor<2>, heads: usize| -> Tensor<3> {
        let x: Tensor<3> = x.reshape([length, heads, size]);
        x.swap_dims(0, 1)
    };
    let shared = |x: Tensor<2>| -> Tensor<3> {
        let x: Tensor<4> = by_head(x, kept_heads).reshape([kept_heads, 1, length, size]);
        let x: Tensor<4> = x.expand([kept_heads, heads / kept_heads, length, size]);
        x.reshape([heads, length, size])
    };
    let scores = by_head(queries, heads).matmul(shared(keys).swap_dims(1, 2));
    let scores = scores.mul_scalar(1.0 / (size as f64).sqrt());
    let future = Tensor::<2, Bool>::tril_mask([length, length], 0, &device);
    let future: Tensor<3, Bool> = future.reshape([1, length, length]);
    let future: Tensor<3, Bool> = future.expand([heads, length, length]);
    let weights = activation::softmax(scores.mask_fill(future, -1e9), 2);
    let mixed = weights.matmul(shared(values)).swap_dims(0, 1);
    mixed.reshape([length, width])
}
