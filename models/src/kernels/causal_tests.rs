use super::*;

fn sample(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

const LENGTHS: [usize; 4] = [5, 70, 1, 66];
const TOKENS: usize = 142;
const SIZE: usize = 6;
const WIDTH: usize = 4 * SIZE;
const KEPT: usize = 2 * SIZE;

/// What a head of one query gives, in f64: `token` sees from `start` on.
fn head(q: &[f64], k: &[f64], v: &[f64], start: usize, token: usize, head: usize) -> Vec<f64> {
    let shared = head / 2 * SIZE;
    let query = &q[token * WIDTH + head * SIZE..][..SIZE];
    let dot = |j: usize| -> f64 {
        let key = &k[j * KEPT + shared..][..SIZE];
        query.iter().zip(key).map(|(a, b)| a * b).sum()
    };
    let scores = (start..=token).map(|j| (dot(j) / (SIZE as f64).sqrt()).exp());
    let scores: Vec<f64> = scores.collect();
    let total: f64 = scores.iter().sum();
    let column = |i: usize| -> f64 {
        let pairs = scores.iter().zip(start..);
        pairs
            .map(|(s, j)| s / total * v[j * KEPT + shared + i])
            .sum()
    };
    (0..SIZE).map(column).collect()
}

/// All of it, packed by the given lengths.
fn by_definition(q: &[f64], k: &[f64], v: &[f64], lengths: &[usize]) -> Vec<f64> {
    let mut out = Vec::new();
    let mut start = 0;
    for length in lengths {
        for token in start..start + length {
            out.extend((0..4).flat_map(|h| head(q, k, v, start, token, h)));
        }
        start += length;
    }
    out
}

fn causal<'a>(q: &'a [f32], k: &'a [f32], v: &'a [f32], lengths: &'a [usize]) -> Causal<'a> {
    Causal {
        queries: q,
        keys: k,
        values: v,
        width: WIDTH,
        kept: KEPT,
        size: SIZE,
        lengths,
    }
}

fn inputs() -> [Vec<f32>; 3] {
    [
        sample(TOKENS * WIDTH, 1),
        sample(TOKENS * KEPT, 2),
        sample(TOKENS * KEPT, 3),
    ]
}

/// Gradients of queries, keys and values.
fn gradients(causal: &Causal<'_>, d: &[f32]) -> [Vec<f32>; 3] {
    let mut q = vec![9.0; causal.queries.len()];
    let (mut k, mut v) = (vec![9.0; causal.keys.len()], vec![9.0; causal.keys.len()]);
    causal.gradients(d, &mut q, &mut k, &mut v);
    [q, k, v]
}

#[test]
fn each_sequence_attends_to_itself() {
    let [q, k, v] = inputs();
    let mut got = vec![9.0; TOKENS * WIDTH];
    causal(&q, &k, &v, &LENGTHS).run(&mut got);
    let want = by_definition(&wide(&q), &wide(&k), &wide(&v), &LENGTHS);
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!(
            (f64::from(*g) - w).abs() < 1e-5,
            "element {i}: {g} against {w}"
        );
    }
}

#[test]
fn gradients_are_differences() {
    let [q, k, v] = inputs();
    let d = sample(TOKENS * WIDTH, 4);
    let got = gradients(&causal(&q, &k, &v, &LENGTHS), &d);
    let whole = [wide(&q), wide(&k), wide(&v)];
    let total = |[q, k, v]: &[Vec<f64>; 3]| -> f64 {
        let out = by_definition(q, k, v, &LENGTHS);
        out.iter().zip(&d).map(|(o, d)| o * f64::from(*d)).sum()
    };
    let step = 1e-4;
    for (which, got) in got.iter().enumerate() {
        for i in (0..got.len()).step_by(97) {
            let mut moved = whole.clone();
            moved[which][i] += step;
            let above = total(&moved);
            moved[which][i] -= 2.0 * step;
            let want = (above - total(&moved)) / (2.0 * step);
            let off = (f64::from(got[i]) - want).abs();
            assert!(off < 1e-4, "{which} {i}: {} against {want}", got[i]);
        }
    }
}

#[test]
fn nothing_passes_from_one_sequence_to_another() {
    let [q, k, v] = inputs();
    let mut d = vec![0.0; TOKENS * WIDTH];
    // Of the second sequence only.
    let own = 5..75;
    let some = sample(70 * WIDTH, 5);
    d[own.start * WIDTH..own.end * WIDTH].copy_from_slice(&some);
    let packed = gradients(&causal(&q, &k, &v, &LENGTHS), &d);
    let rows = |x: &[f32], width: usize| x[own.start * width..own.end * width].to_vec();
    let [q, k, v] = [rows(&q, WIDTH), rows(&k, KEPT), rows(&v, KEPT)];
    let alone = gradients(&causal(&q, &k, &v, &[70]), &some);
    for ((packed, alone), width) in packed.iter().zip(&alone).zip([WIDTH, KEPT, KEPT]) {
        assert_eq!(rows(packed, width), *alone);
        let (before, after) = (&packed[..own.start * width], &packed[own.end * width..]);
        assert!(before.iter().chain(after).all(|g| *g == 0.0));
    }
}
