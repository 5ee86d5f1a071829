//! A layer forward, and backward by hand: of the frozen weights only what leads on to adapters is computed.

use super::batch::Batch;
use super::linear::{Site, Small, Through, sized};
use super::network::{Network, Norm};
use super::parameters::Layout;
use crate::decoder::llama::Part;
use crate::kernels::causal::Causal;
use crate::kernels::train as kernels;

/// A batch on its way through a network with adapters.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub network: &'a Network,
    pub batch: &'a Batch,
    pub adapters: Adapters<'a>,
}

/// The adapters' matrices.
#[derive(Clone, Copy)]
pub(super) struct Adapters<'a> {
    pub layout: &'a Layout,
    pub values: &'a [f32],
    /// What their products are multiplied by.
    pub scale: f32,
    /// The share of their inputs that is left out.
    pub dropout: f64,
}

/// What a layer keeps for the way back, besides its input: queries and keys turned by their positions.
#[derive(Default)]
pub(super) struct Kept {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// What the attention gives.
    mixed: Vec<f32>,
    /// The input and what was attended.
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// `x Aᵀ` of each adapter.
    low: [Vec<f32>; Part::COUNT],
}

/// Memory that layers use one after another.
#[derive(Default)]
pub(super) struct Scratch {
    normed: Vec<f32>,
    /// As wide as the MLP.
    wide: Vec<f32>,
    other: Vec<f32>,
    /// A gradient of the width of the network.
    flow: Vec<f32>,
    mixed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    small: Small,
    pub turned: Vec<f32>,
}

impl Norm {
    pub(super) fn apply<'a>(&self, x: &[f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        let out = sized(out, x.len());
        kernels::rms_norm(out, x, self.gamma.values(), self.epsilon);
        out
    }

    /// Adds to `gradient` that of `x`.
    pub(super) fn apply_back(&self, gradient: &mut [f32], of_result: &[f32], x: &[f32]) {
        let gamma = self.gamma.values();
        kernels::rms_norm_gradient(gradient, of_result, x, gamma, self.epsilon);
    }
}

impl Pass<'_> {
    /// What the way back needs of the layer for `x`, `[rows, hidden]`, and the layer's output, if it is asked for.
    pub fn forward(
        &self,
        layer: usize,
        x: &[f32],
        out: Option<&mut Vec<f32>>,
        kept: &mut Kept,
        scratch: &mut Scratch,
    ) {
        let own = &self.network.layers[layer];
        let site = |part| Site { layer, part };
        let Scratch {
            normed,
            wide,
            small,
            ..
        } = scratch;
        let h = own.attention_norm.apply(x, normed);
        for (part, to) in [
            (Part::Queries, &mut kept.queries),
            (Part::Keys, &mut kept.keys),
            (Part::Values, &mut kept.values),
        ] {
            let low = &mut kept.low[part as usize];
            let to = sized(to, self.rows() * own.linear(part).columns());
            self.project(site(part), h, to, false, low, small);
        }
        self.turn(&mut kept.queries, &self.batch.turns);
        self.turn(&mut kept.keys, &self.batch.turns);
        let mixed = sized(&mut kept.mixed, kept.queries.len());
        self.attention(&kept.queries, &kept.keys, &kept.values)
            .run(mixed);
        kept.middle.clear();
        kept.middle.extend_from_slice(x);
        let (middle, low) = (&mut kept.middle, &mut kept.low[Part::Attended as usize]);
        self.project(site(Part::Attended), mixed, middle, true, low, small);
        let h = own.mlp_norm.apply(&kept.middle, normed);
        for (part, to) in [(Part::Gate, &mut kept.gate), (Part::Up, &mut kept.up)] {
            let low = &mut kept.low[part as usize];
            let to = sized(to, self.rows() * own.linear(part).columns());
            self.project(site(part), h, to, false, low, small);
        }
        let wide = sized(wide, kept.gate.len());
        kernels::swiglu(wide, &kept.gate, &kept.up, own.linear(Part::Gate).columns());
        let (site, low) = (site(Part::Down), &mut kept.low[Part::Down as usize]);
        let Some(out) = out else {
            return self.lower(site, wide, low, small);
        };
        out.clear();
        out.extend_from_slice(&kept.middle);
        self.project(site, wide, out, true, low, small);
    }

    /// Adds the gradients of the layer's adapters to `gradients`, given in `flow` that of its output. Where adapters
    /// are below, `flow` becomes the gradient of its input `x`.
    pub fn backward(
        &self,
        layer: usize,
        x: &[f32],
        kept: &Kept,
        flow: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut Scratch,
    ) {
        self.mlp_back(layer, kept, flow, gradients, scratch);
        self.attention_back(layer, x, kept, flow, gradients, scratch);
    }

    fn mlp_back(
        &self,
        layer: usize,
        kept: &Kept,
        flow: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let own = &self.network.layers[layer];
        let site = |part| Site { layer, part };
        let Scratch {
            normed,
            wide,
            other,
            flow: of_h,
            small,
            turned,
            ..
        } = scratch;
        let width = own.linear(Part::Gate).columns();
        let of_gate = sized(wide, kept.gate.len());
        self.product_back(site(Part::Down), flow, of_gate, false, turned);
        if self.slot(site(Part::Down)).is_some() {
            let x = sized(other, kept.gate.len());
            kernels::swiglu(x, &kept.gate, &kept.up, width);
            let through = Through {
                x,
                low: &kept.low[Part::Down as usize],
                gradient: flow,
            };
            let of_x = Some(&mut *of_gate);
            self.adapt_back(site(Part::Down), through, of_x, gradients, small);
        }
        let of_up = sized(other, kept.up.len());
        kernels::swiglu_gradient(of_gate, of_up, &kept.gate, &kept.up, width);
        let of_h = sized(of_h, flow.len());
        self.product_back(site(Part::Gate), of_gate, of_h, false, turned);
        self.product_back(site(Part::Up), of_up, of_h, true, turned);
        if self.any(layer, &[Part::Gate, Part::Up]) {
            let x = own.mlp_norm.apply(&kept.middle, normed);
            for (part, gradient) in [(Part::Gate, &*of_gate), (Part::Up, &*of_up)] {
                let low = &kept.low[part as usize];
                let through = Through { x, low, gradient };
                self.adapt_back(site(part), through, Some(&mut *of_h), gradients, small);
            }
        }
        own.mlp_norm.apply_back(flow, of_h, &kept.middle);
    }

    fn attention_back(
        &self,
        layer: usize,
        x: &[f32],
        kept: &Kept,
        flow: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let further = layer > self.adapters.layout.first() / Part::COUNT;
        let parts = [Part::Queries, Part::Keys, Part::Values];
        if !further && !self.any(layer, &parts) && !self.any(layer, &[Part::Attended]) {
            return;
        }
        let own = &self.network.layers[layer];
        let site = |part| Site { layer, part };
        let Scratch {
            normed,
            flow: of_h,
            mixed,
            queries,
            keys,
            values,
            small,
            turned,
            ..
        } = scratch;
        let of_mixed = sized(mixed, kept.mixed.len());
        self.product_back(site(Part::Attended), flow, of_mixed, false, turned);
        let through = Through {
            x: &kept.mixed,
            low: &kept.low[Part::Attended as usize],
            gradient: flow,
        };
        let of_x = Some(&mut *of_mixed);
        self.adapt_back(site(Part::Attended), through, of_x, gradients, small);
        let of_queries = sized(queries, kept.queries.len());
        let (of_keys, of_values) = (
            sized(keys, kept.keys.len()),
            sized(values, kept.values.len()),
        );
        self.attention(&kept.queries, &kept.keys, &kept.values)
            .gradients(of_mixed, of_queries, of_keys, of_values);
        self.turn(of_queries, &self.batch.back);
        self.turn(of_keys, &self.batch.back);
        let three = [
            (Part::Queries, &*of_queries),
            (Part::Keys, &*of_keys),
            (Part::Values, &*of_values),
        ];
        let of_h = sized(of_h, flow.len());
        if further {
            for (part, gradient) in three {
                let keep = part != Part::Queries;
                self.product_back(site(part), gradient, of_h, keep, turned);
            }
        }
        if self.any(layer, &parts) {
            let x = own.attention_norm.apply(x, normed);
            for (part, gradient) in three {
                let low = &kept.low[part as usize];
                let through = Through { x, low, gradient };
                let of_x = further.then_some(&mut *of_h);
                self.adapt_back(site(part), through, of_x, gradients, small);
            }
        }
        if further {
            own.attention_norm.apply_back(flow, of_h, x);
        }
    }

    pub fn rows(&self) -> usize {
        self.batch.rows()
    }

    /// Turns the heads of queries or keys, or of their gradients.
    fn turn(&self, x: &mut [f32], table: &[f32]) {
        let width = x.len() / self.rows();
        kernels::rotate(x, width, table, self.network.size);
    }

    fn attention<'a>(
        &'a self,
        queries: &'a [f32],
        keys: &'a [f32],
        values: &'a [f32],
    ) -> Causal<'a> {
        Causal {
            queries,
            keys,
            values,
            width: queries.len() / self.rows(),
            kept: keys.len() / self.rows(),
            size: self.network.size,
            lengths: &self.batch.lengths,
        }
    }
}
