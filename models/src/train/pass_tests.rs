use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::*;
use crate::decoder::llama::Llama;
use crate::decoder::math::Math;
use crate::decoder::plain::{self, Plain};
use crate::decoder::testing;
use crate::random::Draws;
use crate::train::batch::{Batch, dropout_seed};
use crate::train::layer::Adapters;
use crate::train::network::Network;
use crate::train::parameters::Layout;
use crate::{Example, LoraConfig, Projection};

const ALL: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// A small network with adapters that add something.
struct Setup {
    llama: Llama,
    network: Network,
    config: LoraConfig,
    layout: Layout,
    values: Vec<f32>,
}

fn setup(tied: bool, targets: &[&str], dropout: f64) -> Setup {
    let llama = testing::llama(tied, &Device::flex());
    let projection = |linear: &crate::decoder::llama::Linear| {
        let [inputs, outputs] = linear.weight.dims();
        let name = linear.name.clone();
        Projection {
            name,
            inputs,
            outputs,
        }
    };
    let projections: Vec<Projection> = llama.linears().map(projection).collect();
    let config = LoraConfig {
        rank: 3,
        alpha: 5.0,
        dropout,
        targets: targets.iter().map(|t| (*t).to_owned()).collect(),
    };
    let chosen = config.chosen(&projections).unwrap();
    let layout = Layout::new(config.rank, &projections, &chosen);
    let mut draws = Draws::new(3);
    let values = (0..layout.len).map(|_| draws.uniform() as f32 * 0.4 - 0.2);
    Setup {
        network: Network::of(&llama).unwrap(),
        values: values.collect(),
        llama,
        config,
        layout,
    }
}

/// Losses, gradients, and the gradient that is left on the way back.
type Outcome = (Vec<f64>, Vec<f32>, Vec<f32>);

impl Setup {
    fn batch(&self, examples: &[&Example]) -> Batch {
        let seeds: Vec<u64> = (0..examples.len()).map(|i| dropout_seed(9, 4, i)).collect();
        Batch::new(examples, &seeds, &self.llama.rope)
    }

    fn run(&self, batch: &Batch, values: &[f32], recompute: bool) -> Outcome {
        let adapters = Adapters {
            layout: &self.layout,
            values,
            scale: self.config.scale(),
            dropout: self.config.dropout,
        };
        let pass = Pass {
            network: &self.network,
            batch,
            adapters,
        };
        let mut gradients = vec![0.0; values.len()];
        let mut space = Workspace::default();
        let weight = 1.0 / batch.targets.len() as f32;
        let losses = pass.run(weight, recompute, &mut gradients, &mut space);
        (losses, gradients, space.flow)
    }

    /// The mean loss and its gradients in burn's own operations and by its own differentiation.
    fn by_definition(&self, tied: bool, batch: &Batch) -> (f32, Vec<f32>) {
        let device = Device::flex().autodiff();
        let llama = testing::llama(tied, &device);
        let tensor = |values: &[f32], rows: usize| -> Tensor<2> {
            let data = TensorData::new(values.to_vec(), [rows, values.len() / rows]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        let slots = self.layout.slots.iter().map(|slot| {
            let a = tensor(&self.values[slot.a()], self.config.rank);
            (a, tensor(&self.values[slot.b()], slot.projection.outputs))
        });
        let slots: Vec<(Tensor<2>, Tensor<2>)> = slots.collect();
        let slot = |name: &str| {
            let mut names = self.layout.slots.iter().map(|slot| &slot.projection.name);
            names.position(|own| own == name)
        };
        let positions = batch.lengths.iter().flat_map(|&length| 0..length);
        let rotation = llama.rope.rotation(positions);
        let mut x = llama.embed(&batch.ids);
        for layer in &llama.layers {
            let project = |part, x: Tensor<2>| {
                let linear = layer.linear(part);
                let y = linear.forward::<Plain>(x.clone());
                let Some(slot) = slot(&linear.name) else {
                    return y;
                };
                let (a, b) = slots[slot].clone();
                let low = x.matmul(a.transpose());
                y + low.matmul(b.transpose()).mul_scalar(self.config.scale())
            };
            x = layer.forward::<Plain>(x, &rotation, project, |q, k, v| {
                plain::attend(q, k, v, llama.size, &batch.lengths)
            });
        }
        let count = batch.targets.len();
        let integers = |values: Vec<i32>| -> Tensor<1, Int> {
            Tensor::from_data(TensorData::new(values, [count]), &device)
        };
        let rows = integers(batch.targets.iter().map(|t| t.row as i32).collect());
        let tokens = integers(batch.targets.iter().map(|t| t.token as i32).collect());
        let x = Plain::normalize(x, &llama.norm).select(0, rows);
        let head = match &llama.head {
            Some(head) => head.weight.clone(),
            None => llama.words.clone().transpose(),
        };
        let table = activation::log_softmax(x.matmul(head), 1);
        let tokens: Tensor<2, Int> = tokens.reshape([count, 1]);
        let loss = table
            .gather(1, tokens)
            .sum()
            .mul_scalar(-1.0 / count as f32);
        let all = loss.backward();
        let flat = |tensor: Tensor<2>| tensor.into_data().try_into_vec::<f32>().unwrap();
        let gradients = slots.iter().flat_map(|(a, b)| {
            let (a, b) = (a.grad(&all).unwrap(), b.grad(&all).unwrap());
            [flat(a), flat(b)].concat()
        });
        let gradients: Vec<f32> = gradients.collect();
        let loss = loss.into_data().try_into_vec::<f32>().unwrap();
        (loss[0], gradients)
    }
}

fn example(length: usize, seed: usize, learned: impl Fn(usize) -> bool) -> Example {
    let tokens = (0..length).map(|i| ((i * i + 3 * i + seed * 17) % 50) as u32);
    let targets = (0..length).map(|i| i > 0 && learned(i)).collect();
    Example::new(tokens.collect(), targets).unwrap()
}

/// Longer than the blocks of the attention, of few tokens, and of many targets.
fn examples() -> [Example; 3] {
    [
        example(70, 1, |i| i % 3 == 0 || i > 60),
        example(2, 2, |_| true),
        example(31, 3, |i| i > 12),
    ]
}

fn refs(examples: &[Example]) -> Vec<&Example> {
    examples.iter().collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// The largest difference, relative to the largest value.
fn error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    off.fold(0.0, f32::max) / largest(want)
}

#[test]
fn gradients_are_those_of_burns_differentiation() {
    let targets: [&[&str]; 5] = [
        &ALL,
        &["q_proj", "v_proj"],
        &["down_proj", "o_proj"],
        &["1.self_attn.k_proj", "2.mlp.gate_proj"],
        &["model.layers.2.mlp.up_proj"],
    ];
    for (i, targets) in targets.into_iter().enumerate() {
        let tied = i % 2 == 0;
        let setup = setup(tied, targets, 0.0);
        let batch = setup.batch(&refs(&examples()));
        let (losses, got, _) = setup.run(&batch, &setup.values, false);
        let (loss, want) = setup.by_definition(tied, &batch);
        let mean = losses.iter().sum::<f64>() / batch.targets.len() as f64;
        assert!(
            (mean - f64::from(loss)).abs() < 1e-5 * mean,
            "{mean} {loss}"
        );
        assert!(largest(&want) > 1e-3, "{targets:?} have no gradients");
        let error = error(&got, &want);
        assert!(error < 1e-4, "{targets:?}: {error}");
    }
}

#[test]
fn gradients_are_differences_of_losses_with_dropout_too() {
    for (tied, dropout) in [(true, 0.0), (false, 0.3)] {
        let setup = setup(tied, &ALL, dropout);
        let batch = setup.batch(&refs(&examples()));
        let (_, gradients, _) = setup.run(&batch, &setup.values, false);
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let (gradients, mut draws) = (wide(&gradients), Draws::new(5));
        let height = norm(&gradients);
        let mut directions = vec![gradients.clone()];
        for _ in 0..5 {
            let direction = gradients.iter().map(|_| draws.uniform() - 0.5);
            directions.push(direction.collect());
        }
        for direction in directions {
            let length = norm(&direction);
            let along = direction
                .iter()
                .zip(&gradients)
                .map(|(d, g)| d * g / length);
            let want: f64 = along.sum();
            let step = 5e-3;
            let at = |step: f64| -> f64 {
                let moved = setup.values.iter().zip(&direction);
                let moved = moved.map(|(v, d)| (f64::from(*v) + step * d / length) as f32);
                let moved: Vec<f32> = moved.collect();
                let losses = setup.run(&batch, &moved, false).0;
                losses.iter().sum::<f64>() / batch.targets.len() as f64
            };
            let got = (at(step) - at(-step)) / (2.0 * step);
            assert!(
                (got - want).abs() < 0.01 * height,
                "{got} against {want}, of {height}"
            );
        }
    }
}

#[test]
fn computing_again_gives_the_same_bits() {
    for targets in [ALL.as_slice(), &["q_proj", "v_proj"]] {
        let setup = setup(true, targets, 0.1);
        let batch = setup.batch(&refs(&examples()));
        let kept = setup.run(&batch, &setup.values, false);
        assert_eq!(kept, setup.run(&batch, &setup.values, true));
        assert_eq!(kept, setup.run(&batch, &setup.values, false));
    }
}

#[test]
fn examples_packed_are_each_as_alone() {
    let setup = setup(false, &ALL, 0.0);
    let examples = examples();
    let packed = setup.batch(&refs(&examples));
    let whole = setup.run(&packed, &setup.values, false);
    for (i, example) in examples.iter().enumerate() {
        let alone = setup.batch(&[example]);
        let mut own = setup.batch(&refs(&examples));
        own.targets.retain(|target| target.example == i);
        let (losses, gradients, _) = setup.run(&own, &setup.values, false);
        let (want, want_gradients, _) = setup.run(&alone, &setup.values, false);
        assert!((losses[i] / whole.0[i] - 1.0).abs() < 1e-5, "{i}");
        assert!((losses[i] / want[0] - 1.0).abs() < 1e-5, "{i}");
        let error = error(&gradients, &want_gradients);
        assert!(error < 1e-5, "{i}: {error}");
    }
}

#[test]
fn nothing_passes_from_one_example_to_another() {
    let setup = setup(true, &ALL, 0.2);
    let examples = examples();
    let others = [
        example(70, 8, |i| i % 5 == 0 || i > 68),
        examples[1].clone(),
        example(31, 9, |i| i > 20),
    ];
    let run = |examples: &[Example]| {
        let mut batch = setup.batch(&refs(examples));
        batch.targets.retain(|target| target.example == 1);
        setup.run(&batch, &setup.values, false)
    };
    let mixed = [others[0].clone(), examples[1].clone(), others[2].clone()];
    let (losses, gradients, flow) = run(&examples);
    assert_eq!((losses, gradients.clone()), {
        let (losses, gradients, _) = run(&mixed);
        (losses, gradients)
    });
    assert!(largest(&gradients) > 0.0);
    // The example's one row is the one after the first's 69.
    let hidden = setup.network.hidden();
    for (row, flow) in flow.chunks(hidden).enumerate() {
        assert_eq!(flow.iter().all(|v| *v == 0.0), row != 69, "row {row}");
    }
}

#[test]
fn a_text_that_is_not_finite_gives_no_gradients() {
    let setup = setup(true, &["q_proj"], 0.0);
    let batch = setup.batch(&refs(&examples()));
    let values = vec![f32::NAN; setup.values.len()];
    let (losses, gradients, _) = setup.run(&batch, &values, false);
    assert!(losses.iter().any(|loss| !loss.is_finite()));
    assert_eq!(gradients, vec![0.0; values.len()]);
}
