//! The loss of a batch, and its gradients.

use super::layer::{Kept, Pass, Scratch};
use super::linear::sized;
use crate::decoder::llama::Part;
use crate::kernels::product::{View, product, product_with_rows};
use crate::kernels::train as kernels;

/// Logits held at once: 64 MiB. They are computed for targets only.
const LOGITS: usize = 1 << 24;

/// Memory of a pass, used again by the next.
#[derive(Default)]
pub(super) struct Workspace {
    /// The input of each layer, and the output of the last.
    inputs: Vec<Vec<f32>>,
    kept: Vec<Kept>,
    /// The gradient on its way back, `[rows, hidden]`.
    pub flow: Vec<f32>,
    head: Head,
    scratch: Scratch,
}

/// What the last norm and the logits use, for some targets at a time.
#[derive(Default)]
struct Head {
    rows: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
    of_normed: Vec<f32>,
    of_rows: Vec<f32>,
}

impl Pass<'_> {
    /// The cross entropies of each example's targets, added up, in nats. `weight` times the gradients of all together
    /// are added to `gradients`, unless the losses are not finite. With `recompute`, layers are computed again on the
    /// way back.
    pub fn run(
        &self,
        weight: f32,
        recompute: bool,
        gradients: &mut [f32],
        space: &mut Workspace,
    ) -> Vec<f64> {
        let Workspace {
            inputs,
            kept,
            flow,
            head,
            scratch,
        } = space;
        let count = self.network.layers.len();
        let place = |layer: usize| if recompute { 0 } else { layer };
        inputs.resize_with(count + 1, Vec::new);
        kept.resize_with(place(count - 1) + 1, Kept::default);
        self.embed(&mut inputs[0]);
        for layer in 0..count {
            let (before, after) = inputs.split_at_mut(layer + 1);
            let (x, out) = (&before[layer], Some(&mut after[0]));
            self.forward(layer, x, out, &mut kept[place(layer)], scratch);
        }
        let losses = self.loss(&inputs[count], weight, flow, head, scratch);
        if !losses.iter().all(|loss| loss.is_finite()) {
            return losses;
        }
        let lowest = self.adapters.layout.first() / Part::COUNT;
        for layer in (lowest..count).rev() {
            let (x, kept) = (&inputs[layer], &mut kept[place(layer)]);
            // What the last layer kept is still there.
            if recompute && layer + 1 < count {
                self.forward(layer, x, None, kept, scratch);
            }
            self.backward(layer, x, kept, flow, gradients, scratch);
        }
        losses
    }

    fn embed(&self, out: &mut Vec<f32>) {
        let (words, hidden) = (self.network.words.values(), self.network.hidden());
        out.clear();
        for id in &self.batch.ids {
            out.extend_from_slice(&words[*id as usize * hidden..][..hidden]);
        }
    }

    /// The losses, given the output of the last layer; `flow` becomes its gradient.
    fn loss(
        &self,
        last: &[f32],
        weight: f32,
        flow: &mut Vec<f32>,
        head: &mut Head,
        scratch: &mut Scratch,
    ) -> Vec<f64> {
        let (hidden, vocabulary) = (self.network.hidden(), self.network.vocabulary());
        flow.clear();
        flow.resize(last.len(), 0.0);
        let mut losses = vec![0.0; self.batch.lengths.len()];
        for targets in self.batch.targets.chunks((LOGITS / vocabulary).max(1)) {
            head.rows.clear();
            for target in targets {
                let row = &last[target.row * hidden..][..hidden];
                head.rows.extend_from_slice(row);
            }
            let normed = self.network.norm.apply(&head.rows, &mut head.normed);
            let logits = sized(&mut head.logits, targets.len() * vocabulary);
            self.logits(normed, logits, &mut scratch.turned);
            let tokens: Vec<u32> = targets.iter().map(|target| target.token).collect();
            let each = kernels::cross_entropy(logits, vocabulary, &tokens, weight);
            for (target, loss) in targets.iter().zip(each) {
                losses[target.example] += f64::from(loss);
            }
            let of_normed = sized(&mut head.of_normed, head.rows.len());
            self.logits_back(logits, of_normed, &mut scratch.turned);
            head.of_rows.clear();
            head.of_rows.resize(head.rows.len(), 0.0);
            let norm = &self.network.norm;
            norm.apply_back(&mut head.of_rows, of_normed, &head.rows);
            for (target, own) in targets.iter().zip(head.of_rows.chunks_exact(hidden)) {
                flow[target.row * hidden..][..hidden].copy_from_slice(own);
            }
        }
        losses
    }

    fn logits(&self, normed: &[f32], logits: &mut [f32], turned: &mut Vec<f32>) {
        let hidden = self.network.hidden();
        let normed = View::new(normed, normed.len() / hidden, hidden);
        match &self.network.head {
            Some(head) => product(logits, false, 1.0, normed, head.view()),
            None => product_with_rows(logits, false, normed, self.network.words.view(), turned),
        }
    }

    fn logits_back(&self, gradient: &[f32], of_normed: &mut [f32], turned: &mut Vec<f32>) {
        let vocabulary = self.network.vocabulary();
        let gradient = View::new(gradient, gradient.len() / vocabulary, vocabulary);
        match &self.network.head {
            Some(head) => product_with_rows(of_normed, false, gradient, head.view(), turned),
            None => product(of_normed, false, 1.0, gradient, self.network.words.view()),
        }
    }
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
