//! What training computes on all rows of a pass besides products and attention, in slices that are used again and
//! again: no tensor is made, and nothing is copied that a later row needs.

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::product::View;
pub(crate) use super::rows::train::Mask;
use super::rows::{self, Isa};
use super::{PARALLEL, for_rows, packed};
use crate::ModelError;

/// A weight of a model, read where it lies.
#[derive(Debug)]
pub(crate) struct Weight {
    tensor: FlexTensor,
    rows: usize,
    columns: usize,
}

impl Weight {
    pub fn of(tensor: &Tensor<2>) -> Result<Self, ModelError> {
        let [rows, columns] = tensor.dims();
        let tensor = flex(tensor)?;
        Ok(Self {
            tensor,
            rows,
            columns,
        })
    }

    /// A row.
    pub fn of_row(tensor: &Tensor<1>) -> Result<Self, ModelError> {
        let [columns] = tensor.dims();
        let (tensor, rows) = (flex(tensor)?, 1);
        Ok(Self {
            tensor,
            rows,
            columns,
        })
    }

    pub fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    pub fn view(&self) -> View<'_> {
        View::new(self.values(), self.rows, self.columns)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }
}

fn flex<const D: usize>(tensor: &Tensor<D>) -> Result<FlexTensor, ModelError> {
    let tensor = tensor.clone().try_into_primitive::<Flex>();
    let tensor = tensor.map_err(|_| ModelError::Device {
        requested: "of the model",
        reason: "adapters are trained on the CPU; load the model with cpu",
    })?;
    Ok(packed(tensor))
}

/// `x / rms(x) * gamma` on each row.
pub(crate) fn rms_norm(out: &mut [f32], x: &[f32], gamma: &[f32], epsilon: f32) {
    assert_eq!(out.len(), x.len());
    let isa = Isa::detect();
    for_rows(out, gamma.len(), |start, part| {
        part.copy_from_slice(&x[start..][..part.len()]);
        rows::decoder::rms_norm(isa, part, gamma, epsilon);
    });
}

/// Adds to `gradient` that of `x`, given `dy`, that of [`rms_norm`].
pub(crate) fn rms_norm_gradient(
    gradient: &mut [f32],
    dy: &[f32],
    x: &[f32],
    gamma: &[f32],
    epsilon: f32,
) {
    assert!(gradient.len() == x.len() && dy.len() == x.len());
    let isa = Isa::detect();
    for_rows(gradient, gamma.len(), |start, part| {
        let own = start..start + part.len();
        rows::train::rms_norm_gradient(isa, part, &dy[own.clone()], &x[own], gamma, epsilon);
    });
}

/// Turns the heads of each row, which is `width` wide; `table` has as many columns as a head, `size`.
pub(crate) fn rotate(x: &mut [f32], width: usize, table: &[f32], size: usize) {
    assert_eq!(x.len() / width, table.len() / size);
    let isa = Isa::detect();
    for_rows(x, width, |start, part| {
        rows::decoder::rotate(isa, part, width, &table[start / width * size..], size);
    });
}

/// `silu(gate) * up` on rows that are `width` wide.
pub(crate) fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32], width: usize) {
    assert!(out.len() == gate.len() && out.len() == up.len());
    let isa = Isa::detect();
    for_rows(out, width, |start, part| {
        let own = start..start + part.len();
        part.copy_from_slice(&gate[own.clone()]);
        rows::decoder::swiglu(isa, part, &up[own]);
    });
}

/// Given in `gate_gradient` the gradient of [`swiglu`]: that of `gate` in its place, and that of `up`.
pub(crate) fn swiglu_gradient(
    gate_gradient: &mut [f32],
    up_gradient: &mut [f32],
    gate: &[f32],
    up: &[f32],
    width: usize,
) {
    assert!(gate.len() == up.len() && gate_gradient.len() == gate.len());
    assert_eq!(up_gradient.len(), up.len());
    let isa = Isa::detect();
    let run = |start: usize, gate_gradient: &mut [f32], up_gradient: &mut [f32]| {
        let own = start..start + gate_gradient.len();
        let (gate, up) = (&gate[own.clone()], &up[own]);
        rows::train::swiglu_gradient(isa, gate_gradient, up_gradient, gate, up);
    };
    if gate.len() < PARALLEL {
        return run(0, gate_gradient, up_gradient);
    }
    let part = (gate.len() / width).div_ceil(4 * rayon::current_num_threads()) * width;
    gate_gradient
        .par_chunks_mut(part)
        .zip(up_gradient.par_chunks_mut(part))
        .enumerate()
        .for_each(|(i, (gate, up))| run(i * part, gate, up));
}

/// `x` without the elements that are dropped, on rows that are `width` wide.
pub(crate) fn dropped(out: &mut [f32], x: &[f32], width: usize, mask: Mask<'_>) {
    assert!(out.len() == x.len() && mask.rows.len() == x.len() / width);
    let isa = Isa::detect();
    for_rows(out, width, |start, part| {
        let (own, mask) = (&x[start..][..part.len()], later(mask, start / width));
        rows::train::dropped(isa, part, own, width, mask);
    });
}

/// Adds `x` without the elements that are dropped.
pub(crate) fn add_dropped(out: &mut [f32], x: &[f32], width: usize, mask: Mask<'_>) {
    assert!(out.len() == x.len() && mask.rows.len() == x.len() / width);
    let isa = Isa::detect();
    for_rows(out, width, |start, part| {
        let (own, mask) = (&x[start..][..part.len()], later(mask, start / width));
        rows::train::add_dropped(isa, part, own, width, mask);
    });
}

/// The mask of the rows from `row` on.
fn later(mask: Mask<'_>, row: usize) -> Mask<'_> {
    let rows = &mask.rows[row..];
    Mask { rows, ..mask }
}

/// The cross entropy of each row of logits with its target, in nats. The logits become `weight` times its gradient.
pub(crate) fn cross_entropy(
    logits: &mut [f32],
    vocabulary: usize,
    targets: &[u32],
    weight: f32,
) -> Vec<f32> {
    assert_eq!(logits.len(), targets.len() * vocabulary);
    let isa = Isa::detect();
    let rows = logits.par_chunks_mut(vocabulary).zip(targets.par_iter());
    rows.map(|(row, target)| {
        let target = *target as usize;
        let mut sum = 0.0;
        rows::decoder::log_sum_exp(isa, row, &mut sum);
        let loss = sum - row[target];
        rows::train::weighted_softmax(isa, row, sum, weight);
        row[target] -= weight;
        loss
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_is_that_of_the_definition_and_its_gradient_sums_to_nothing() {
        let vocabulary = 300;
        let logits: Vec<f32> = (0..4 * vocabulary)
            .map(|i| ((i * 7919) % 1009) as f32 / 100.0 - 5.0)
            .collect();
        let targets = [0, 299, 17, 17];
        let mut gradient = logits.clone();
        let losses = cross_entropy(&mut gradient, vocabulary, &targets, 0.5);
        for (i, row) in logits.chunks(vocabulary).enumerate() {
            let exps: Vec<f64> = row.iter().map(|v| f64::from(*v).exp()).collect();
            let total: f64 = exps.iter().sum();
            let target = targets[i] as usize;
            let want = total.ln() - f64::from(row[target]);
            assert!((f64::from(losses[i]) - want).abs() < 1e-5);
            let own = &gradient[i * vocabulary..][..vocabulary];
            for (j, (got, e)) in own.iter().zip(&exps).enumerate() {
                let hit = if j == target { 1.0 } else { 0.0 };
                let want = 0.5 * (e / total - hit);
                assert!((f64::from(*got) - want).abs() < 1e-6, "{i} {j}");
            }
            assert!(own.iter().sum::<f32>().abs() < 1e-5);
        }
    }

    #[test]
    fn logits_that_are_not_finite_give_a_loss_that_is_not() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = [0.0, bad, 1.0, 0.0, 1.0, 2.0];
            let losses = cross_entropy(&mut logits, 3, &[2, 2], 1.0);
            assert!(!losses[0].is_finite() && losses[1].is_finite(), "{bad}");
        }
    }
}
