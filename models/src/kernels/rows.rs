//! Arithmetic on rows of f32, compiled for AVX-512, AVX2 and the portable baseline; [`Isa`] chooses when it runs.
//! A row's result depends on that row alone, never on how rows are split between calls.

use std::fmt;

/// The instruction sets that this processor has, as far as the kernels care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best of this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
            {
                return Self(Level::Avx512);
            }
            return Self(Level::Avx2);
        }
        Self(Level::Portable)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        })
    }
}

/// Independent sums that keep the adders of two 512-bit registers busy.
const LANES: usize = 32;

/// Whether the baseline has fused multiply-add; where it has not, `mul_add` would be a slow library call.
const BASELINE_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

macro_rules! kernel {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),+ $(,)?) $body:block) => {
        $(#[$doc])*
        pub fn $name(isa: Isa, $($arg: $type),+) {
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $type),+) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512($($arg: $type),+) { body::<true>($($arg),+) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),+) { body::<true>($($arg),+) }
            match isa.0 {
                // SAFETY: `Isa::detect` found every feature that the function is compiled for.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),+) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),+) },
                Level::Portable => body::<BASELINE_FMA>($($arg),+),
            }
        }
    };
}

// Below the macro, which they use.
pub(super) mod decoder;
pub(super) mod encoder;
pub(super) mod tile;
pub(super) mod train;

kernel! {
    /// Softmax of each row of `x`, which is `width` wide.
    pub fn softmax(x: &mut [f32], width: usize) {
        for row in x.chunks_exact_mut(width) {
            let max = max(row);
            let (chunks, rest) = row.as_chunks_mut::<LANES>();
            let mut sums = [0.0; LANES];
            for chunk in chunks {
                for (v, sum) in chunk.iter_mut().zip(&mut sums) {
                    *v = exp::<FMA>(*v - max);
                    *sum += *v;
                }
            }
            let mut sum: f32 = sums.iter().sum();
            for v in rest {
                *v = exp::<FMA>(*v - max);
                sum += *v;
            }
            let scale = 1.0 / sum;
            for v in row {
                *v *= scale;
            }
        }
    }
}

/// The sum of `f` over a row, in an order that fits registers.
#[inline(always)]
fn fold(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += f(*v);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|v| f(*v)).sum::<f32>()
}

#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (m, v) in maxima.iter_mut().zip(chunk) {
            *m = greater(*m, *v);
        }
    }
    maxima
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, greater)
}

#[inline(always)]
fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` to 2 units in the last place, for x in [-87, 88] (clamped): the Cephes polynomial on the remainder
/// after taking out the power of two, which is then added to the exponent.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = madd::<FMA>(n, -LN2_HIGH, x);
    let r = madd::<FMA>(n, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = madd::<FMA>(p, r, c);
    }
    let y = madd::<FMA>(p, r * r, r) + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    f32::from_bits(y.to_bits().wrapping_add(power << 23))
}

/// `x/2 (1 + erf(x/√2))` with erf to 1.5e-7: Abramowitz and Stegun 7.1.26.
#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let a = z.abs();
    let t = 1.0 / madd::<FMA>(a, 0.327_591_1, 1.0);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = madd::<FMA>(p, t, c);
    }
    let erf = (1.0 - p * t * exp::<FMA>(-a * a)).copysign(z);
    0.5 * x * (1.0 + erf)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every level that this machine can run, the portable one always.
    pub(crate) fn levels() -> Vec<Isa> {
        let mut levels = vec![Isa(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        match Isa::detect().0 {
            Level::Avx512 => levels.extend([Isa(Level::Avx2), Isa(Level::Avx512)]),
            Level::Avx2 => levels.push(Isa(Level::Avx2)),
            Level::Portable => {}
        }
        levels
    }

    /// Rows whose width is no multiple of any register.
    fn sample(rows: usize, width: usize) -> Vec<f32> {
        (0..rows * width)
            .map(|i| ((i * 7919 % 1009) as f32 / 100.0) - 5.0)
            .collect()
    }

    fn assert_close(got: &[f32], want: impl Iterator<Item = f64>, tolerance: f64) {
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!(
                (f64::from(*g) - w).abs() <= tolerance,
                "element {i}: {g} against {w}"
            );
        }
    }

    /// erf by its Maclaurin series, which converges everywhere.
    pub(crate) fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn softmax_sums_to_one_even_of_huge_values() {
        for width in [1, 31, 32, 100] {
            let mut x = sample(2, width);
            x[0] = 1e30;
            for isa in levels() {
                let mut got = x.clone();
                softmax(isa, &mut got, width);
                for (row, source) in got.chunks(width).zip(x.chunks(width)) {
                    let max = source.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let exps: Vec<f64> = source.iter().map(|v| f64::from(v - max).exp()).collect();
                    let total: f64 = exps.iter().sum();
                    assert_close(row, exps.into_iter().map(|e| e / total), 1e-6);
                }
            }
        }
    }
}
