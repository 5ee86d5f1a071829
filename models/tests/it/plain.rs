//! BERT and its classification head once more, in plain f64 and nothing but loops: what the real ones are compared with.

use std::collections::BTreeMap;

/// Tensors by name, each row-major.
pub type Plain = BTreeMap<String, Vec<f64>>;

/// The sizes of the tiny model.
pub const HIDDEN: usize = 36;
const HEADS: usize = 3;
const LAYERS: usize = 2;

/// The error function, by its series of positive terms: exp(-x²) 2/√π Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn linear(weights: &Plain, name: &str, x: &[f64]) -> Vec<f64> {
    let bias = &weights[&format!("{name}.bias")];
    let rows = weights[&format!("{name}.weight")].chunks(x.len());
    rows.zip(bias)
        .map(|(row, bias)| dot(row, x) + bias)
        .collect()
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn norm(weights: &Plain, name: &str, x: &[f64]) -> Vec<f64> {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
    let scale = &weights[&format!("{name}.weight")];
    let shift = &weights[&format!("{name}.bias")];
    let rows = x.iter().zip(scale).zip(shift);
    rows.map(|((v, scale), shift)| (v - mean) / (variance + 1e-12).sqrt() * scale + shift)
        .collect()
}

fn attend(q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let size = HIDDEN / HEADS;
    let mut out = vec![vec![0.0; HIDDEN]; q.len()];
    for (q, out) in q.iter().zip(&mut out) {
        for head in 0..HEADS {
            let columns = head * size..(head + 1) * size;
            let score = |k: &Vec<f64>| dot(&q[columns.clone()], &k[columns.clone()]);
            let scale = (size as f64).sqrt();
            let weights: Vec<f64> = k.iter().map(|k| (score(k) / scale).exp()).collect();
            let total: f64 = weights.iter().sum();
            for column in columns.clone() {
                let values = weights.iter().zip(v);
                out[column] = values.map(|(weight, v)| weight / total * v[column]).sum();
            }
        }
    }
    out
}

/// The final hidden state of each token of one sequence. Names begin with `prefix`.
pub fn hidden(weights: &Plain, prefix: &str, ids: &[u32], types: &[u32]) -> Vec<Vec<f64>> {
    let row = |name: &str, at: usize| {
        let table = &weights[&format!("{prefix}embeddings.{name}_embeddings.weight")];
        table[at * HIDDEN..][..HIDDEN].to_vec()
    };
    let tokens = ids.iter().zip(types).enumerate();
    let embedded = tokens.map(|(position, (&id, &kind))| {
        let word = sum(&row("word", id as usize), &row("position", position));
        let x = sum(&word, &row("token_type", kind as usize));
        norm(weights, &format!("{prefix}embeddings.LayerNorm"), &x)
    });
    let mut x: Vec<Vec<f64>> = embedded.collect();
    for layer in 0..LAYERS {
        let name = |part: &str| format!("{prefix}encoder.layer.{layer}.{part}");
        let all = |part: &str| -> Vec<Vec<f64>> {
            let rows = x.iter().map(|x| linear(weights, &name(part), x));
            rows.collect()
        };
        let [q, k, v] =
            ["query", "key", "value"].map(|part| all(&format!("attention.self.{part}")));
        let rows = attend(&q, &k, &v).into_iter().zip(&x).map(|(mixed, x)| {
            let attended = linear(weights, &name("attention.output.dense"), &mixed);
            let x = norm(
                weights,
                &name("attention.output.LayerNorm"),
                &sum(&attended, x),
            );
            let wide = linear(weights, &name("intermediate.dense"), &x);
            let wide: Vec<f64> = wide.into_iter().map(gelu).collect();
            let narrow = linear(weights, &name("output.dense"), &wide);
            norm(weights, &name("output.LayerNorm"), &sum(&narrow, &x))
        });
        x = rows.collect();
    }
    x
}

/// The logits of the classification head over the first token's final hidden state.
pub fn logits(weights: &Plain, first: &[f64]) -> Vec<f64> {
    let pooled = linear(weights, "bert.pooler.dense", first);
    let pooled: Vec<f64> = pooled.into_iter().map(f64::tanh).collect();
    linear(weights, "classifier", &pooled)
}

/// MaxSim: for each row of `query` the largest inner product with a row of `passage`, added up.
pub fn max_sim(query: &[Vec<f64>], passage: &[Vec<f64>]) -> f64 {
    let best = |q: &Vec<f64>| {
        let products = passage.iter().map(|p| dot(q, p));
        products.fold(f64::NEG_INFINITY, f64::max)
    };
    query.iter().map(best).sum()
}
