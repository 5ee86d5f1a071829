//! A linear layer with its adapter, forward and backward.

use super::layer::{Adapters, Pass};
use super::parameters::Slot;
use crate::decoder::llama::Part;
use crate::kernels::product::{View, product, product_with_rows};
use crate::kernels::train::{self as kernels, Mask};
use crate::random::mix;

/// A linear layer: which layer's, and which.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub layer: usize,
    pub part: Part,
}

impl Site {
    fn place(self) -> usize {
        self.layer * Part::COUNT + self.part as usize
    }
}

/// What goes through an adapter: its input, `x Aᵀ`, and the gradient of its product.
#[derive(Clone, Copy)]
pub(super) struct Through<'a> {
    pub x: &'a [f32],
    pub low: &'a [f32],
    pub gradient: &'a [f32],
}

/// What adapters use.
#[derive(Default)]
pub(super) struct Small {
    low: Vec<f32>,
    dropped: Vec<f32>,
}

/// The buffer with `len` numbers, of which it may still hold any.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

impl Pass<'_> {
    pub fn slot(&self, site: Site) -> Option<&Slot> {
        self.adapters.layout.slot(site.place())
    }

    /// Whether one of these linear layers is adapted.
    pub fn any(&self, layer: usize, parts: &[Part]) -> bool {
        let mut parts = parts.iter();
        parts.any(|&part| self.slot(Site { layer, part }).is_some())
    }

    /// `A` and `B`.
    fn matrices(&self, slot: &Slot) -> [View<'_>; 2] {
        let Adapters { layout, values, .. } = self.adapters;
        let (inputs, outputs) = (slot.projection.inputs, slot.projection.outputs);
        [
            View::new(&values[slot.a()], layout.rank, inputs),
            View::new(&values[slot.b()], outputs, layout.rank),
        ]
    }

    fn mask(&self, site: Site) -> Option<Mask<'_>> {
        let dropout = self.adapters.dropout;
        (dropout > 0.0).then(|| Mask {
            rows: &self.batch.seeds,
            salt: mix(site.place() as u64 + 1),
            limit: (dropout * 2f64.powi(32)) as u32,
            scale: (1.0 / (1.0 - dropout)) as f32,
        })
    }

    /// `x W + scale x Aᵀ Bᵀ`, or with `keep` that added to `out`; `low` becomes `x Aᵀ`.
    pub fn project(
        &self,
        site: Site,
        x: &[f32],
        out: &mut [f32],
        keep: bool,
        low: &mut Vec<f32>,
        small: &mut Small,
    ) {
        let weight = self.network.layers[site.layer].linear(site.part);
        let (rows, inputs) = (self.rows(), weight.rows());
        product(out, keep, 1.0, View::new(x, rows, inputs), weight.view());
        self.lower(site, x, low, small);
        if let Some(slot) = self.slot(site) {
            let [_, b] = self.matrices(slot);
            let low = View::new(low, rows, self.adapters.layout.rank);
            product(out, true, self.adapters.scale, low, b.transposed());
        }
    }

    /// `x Aᵀ` into `low`, if there is an `A`.
    pub fn lower(&self, site: Site, x: &[f32], low: &mut Vec<f32>, small: &mut Small) {
        let Some(slot) = self.slot(site) else {
            return;
        };
        let (rows, inputs) = (self.rows(), slot.projection.inputs);
        let x = match self.mask(site) {
            Some(mask) => {
                let dropped = sized(&mut small.dropped, x.len());
                kernels::dropped(dropped, x, inputs, mask);
                &*dropped
            }
            None => x,
        };
        let [a, _] = self.matrices(slot);
        let low = sized(low, rows * self.adapters.layout.rank);
        product(low, false, 1.0, View::new(x, rows, inputs), a.transposed());
    }

    /// The gradient of `x` in `x W`, set or with `keep` added.
    pub fn product_back(
        &self,
        site: Site,
        gradient: &[f32],
        of_x: &mut [f32],
        keep: bool,
        turned: &mut Vec<f32>,
    ) {
        let weight = self.network.layers[site.layer].linear(site.part);
        let gradient = View::new(gradient, self.rows(), weight.columns());
        product_with_rows(of_x, keep, gradient, weight.view(), turned);
    }

    /// Adds the gradients of `A` and `B`, if there are such, to `gradients`, and that of their input to `of_x`.
    pub fn adapt_back(
        &self,
        site: Site,
        through: Through<'_>,
        of_x: Option<&mut [f32]>,
        gradients: &mut [f32],
        small: &mut Small,
    ) {
        let Some(slot) = self.slot(site) else {
            return;
        };
        let (rows, rank) = (self.rows(), self.adapters.layout.rank);
        let (inputs, outputs) = (slot.projection.inputs, slot.projection.outputs);
        let ([a, b], scale) = (self.matrices(slot), self.adapters.scale);
        let gradient = View::new(through.gradient, rows, outputs);
        let of_low = sized(&mut small.low, rows * rank);
        product(of_low, false, scale, gradient, b);
        let of_low = View::new(of_low, rows, rank);
        let (of_a, of_b) = slot.both(gradients);
        let low = View::new(through.low, rows, rank);
        product(of_b, true, scale, gradient.transposed(), low);
        let Some(mask) = self.mask(site) else {
            let x = View::new(through.x, rows, inputs);
            product(of_a, true, 1.0, of_low.transposed(), x);
            if let Some(of_x) = of_x {
                product(of_x, true, 1.0, of_low, a);
            }
            return;
        };
        let dropped = sized(&mut small.dropped, rows * inputs);
        kernels::dropped(dropped, through.x, inputs, mask);
        let x = View::new(dropped, rows, inputs);
        product(of_a, true, 1.0, of_low.transposed(), x);
        if let Some(of_x) = of_x {
            product(dropped, false, 1.0, of_low, a);
            kernels::add_dropped(of_x, dropped, inputs, mask);
        }
    }
}
