use super::super::tests::levels;
use super::*;

fn sample(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(*g) - w).abs() <= tolerance,
            "element {i}: {g} against {w}"
        );
    }
}

/// The gradient of `Σ weight f(x)`, by differences in f64.
fn differences(x: &[f64], weight: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let total = |x: &[f64]| -> f64 { f(x).iter().zip(weight).map(|(y, w)| y * w).sum() };
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let mut moved = x.to_vec();
            moved[i] += step;
            let above = total(&moved);
            moved[i] -= 2.0 * step;
            (above - total(&moved)) / (2.0 * step)
        })
        .collect()
}

#[test]
fn the_gradient_of_a_norm_is_that_of_its_definition() {
    let width = 77;
    let (x, dy, gamma) = (sample(width, 1), sample(width, 2), sample(width, 3));
    let scales = wide(&gamma);
    let norm = |x: &[f64]| {
        let rms = (x.iter().map(|v| v * v).sum::<f64>() / width as f64 + 1e-5).sqrt();
        x.iter().zip(&scales).map(|(v, g)| v / rms * g).collect()
    };
    let want = differences(&wide(&x), &wide(&dy), norm);
    let want: Vec<f64> = want.iter().map(|w| w + 0.5).collect();
    for isa in levels() {
        let mut got = vec![0.5; width];
        rms_norm_gradient(isa, &mut got, &dy, &x, &gamma, 1e-5);
        assert_close(&got, &want, 1e-5);
    }
}

#[test]
fn the_gradients_of_a_gate_are_those_of_its_definition() {
    let (gate, up, d) = (sample(100, 4), sample(100, 5), sample(100, 6));
    let gate: Vec<f32> = gate.iter().map(|v| v * 6.0).collect();
    let silu = |v: f64| v / (1.0 + (-v).exp());
    let (g, u) = (wide(&gate), wide(&up));
    let of_gate = |x: &[f64]| x.iter().zip(&u).map(|(g, u)| silu(*g) * u).collect();
    let of_up = |x: &[f64]| x.iter().zip(&g).map(|(u, g)| silu(*g) * u).collect();
    let want_gate = differences(&g, &wide(&d), of_gate);
    let want_up = differences(&u, &wide(&d), of_up);
    for isa in levels() {
        let (mut dg, mut du) = (d.clone(), vec![9.0; 100]);
        swiglu_gradient(isa, &mut dg, &mut du, &gate, &up);
        assert_close(&dg, &want_gate, 1e-5);
        assert_close(&du, &want_up, 1e-5);
    }
}

#[test]
fn the_gradient_of_a_softmax_is_that_of_its_definition() {
    let (x, d) = (sample(45, 7), sample(45, 8));
    let softmax = |x: &[f64]| -> Vec<f64> {
        let exps: Vec<f64> = x.iter().map(|v| v.exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.iter().map(|e| e / sum).collect()
    };
    let want = differences(&wide(&x), &wide(&d), softmax);
    let probabilities: Vec<f32> = softmax(&wide(&x)).iter().map(|p| *p as f32).collect();
    let sum = wide(&x).iter().map(|v| v.exp()).sum::<f64>().ln();
    let weighted: Vec<f64> = softmax(&wide(&x)).iter().map(|p| p * 0.25).collect();
    for isa in levels() {
        let mut got = d.clone();
        softmax_gradient(isa, &mut got, &probabilities);
        assert_close(&got, &want, 1e-6);
        let mut got = x.clone();
        weighted_softmax(isa, &mut got, sum as f32, 0.25);
        assert_close(&got, &weighted, 1e-7);
    }
}

#[test]
fn a_share_of_elements_is_dropped_and_the_rest_keeps_the_mean() {
    let (rows, width) = (50, 200);
    let seeds: Vec<u64> = (0..rows as u64).collect();
    let mask = Mask {
        rows: &seeds,
        salt: 5,
        limit: (0.25 * 2f64.powi(32)) as u32,
        scale: 1.0 / 0.75,
    };
    let x = vec![3.0; rows * width];
    let mut first = Vec::new();
    for isa in levels() {
        let mut got = vec![0.0; rows * width];
        dropped(isa, &mut got, &x, width, mask);
        let zeros = got.iter().filter(|v| **v == 0.0).count();
        assert!((2200..2800).contains(&zeros), "{zeros}");
        assert!(got.iter().all(|v| *v == 0.0 || (*v - 4.0).abs() < 1e-5));
        let mut added = vec![1.0; rows * width];
        add_dropped(isa, &mut added, &x, width, mask);
        assert!(
            got.iter()
                .zip(&added)
                .all(|(g, a)| (g + 1.0 - a).abs() < 1e-5)
        );
        first = if first.is_empty() { got.clone() } else { first };
        assert_eq!(got, first);
    }
    let other = Mask { salt: 6, ..mask };
    let mut got = vec![0.0; rows * width];
    dropped(Isa::detect(), &mut got, &x, width, other);
    assert_ne!(got, first);
    // A row's elements depend on its seed alone.
    let last = Mask {
        rows: &seeds[49..],
        ..mask
    };
    let mut got = vec![0.0; width];
    dropped(Isa::detect(), &mut got, &x[..width], width, last);
    assert_eq!(got, first[49 * width..]);
}

#[test]
fn columns_become_rows() {
    for (rows, width, stride) in [
        (1, 1, 1),
        (16, 16, 20),
        (33, 50, 33),
        (40, 7, 41),
        (5, 64, 9),
    ] {
        let source = sample(width * stride, 9);
        for isa in levels() {
            let mut got = vec![0.0; rows * width];
            transpose(isa, &mut got, width, &source, stride);
            for (row, values) in got.chunks(width).enumerate() {
                let want: Vec<f32> = (0..width).map(|c| source[c * stride + row]).collect();
                assert_eq!(values, want, "row {row} of {rows} x {width}");
            }
        }
    }
}
