//! What a layer computes, apart from how: fused for inference, and in burn's own operations where gradients flow.

use burn::tensor::Tensor;

use super::llama::RmsNorm;
use super::rope::Rotation;
use crate::kernels::decoder as kernels;

/// Rows up to which a product reads the weights once instead of packing them. Each row's result then depends on no
/// other row.
pub(super) const FEW: usize = 8;

pub(crate) trait Math {
    /// `x weight`.
    fn product(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2>;
    /// `x / rms(x) * gamma` on each row.
    fn normalize(x: Tensor<2>, norm: &RmsNorm) -> Tensor<2>;
    /// Rotary positions on each head.
    fn rotate(x: Tensor<2>, rotation: &Rotation) -> Tensor<2>;
    /// `silu(gate) * up`.
    fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2>;
}

/// The kernels of this crate. No gradient flows through them.
pub(crate) enum Fused {}

impl Math for Fused {
    fn product(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        let [rows, _] = x.dims();
        if rows <= FEW {
            kernels::product_of_few(x, weight)
        } else {
            x.matmul(weight.clone())
        }
    }

    fn normalize(x: Tensor<2>, norm: &RmsNorm) -> Tensor<2> {
        kernels::rms_norm(x, &norm.gamma, norm.epsilon)
    }

    fn rotate(x: Tensor<2>, rotation: &Rotation) -> Tensor<2> {
        kernels::rotate(x, rotation.table.clone(), rotation.size)
    }

    fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        kernels::swiglu(gate, up)
    }
}

/// `x weightᵀ`, for a weight that is stored by rows.
pub(super) fn product_with_rows(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let [rows, _] = x.dims();
    if rows <= FEW {
        kernels::product_with_rows(x, weight)
    } else {
        x.matmul(weight.clone().transpose())
    }
}
