//! Rotary positions (Su et al., 2021): pairs of elements half a head apart turn by an angle that grows with the
//! position.

use std::fmt;
use std::sync::Arc;

/// How the frequencies are stretched for contexts longer than the first training's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Llama 3.1's: low frequencies are divided by `factor`, high ones kept, with a smooth passage.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: usize,
    },
    /// What each frequency is divided by, as GGUF files store it.
    Divisors(Vec<f32>),
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("default"),
            Self::Llama3 {
                factor,
                low,
                high,
                original,
            } => write!(f, "llama3({factor},{low},{high},{original})"),
            Self::Divisors(divisors) => write!(f, "divisors{divisors:?}"),
        }
    }
}

/// The angle by which each pair turns from one position to the next.
#[derive(Debug)]
pub(crate) struct Rope(Vec<f32>);

/// Cosines and sines for the rows of one call.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// For each row the cosines of the pairs' angles, then their sines.
    pub table: Arc<[f32]>,
    /// Columns of a head, and of the table.
    pub size: usize,
}

impl Rope {
    /// For heads of `size` columns. Rounded to f32 where transformers rounds, because at far positions the rounding
    /// of a frequency is the larger part of an angle's error.
    pub fn new(size: usize, theta: f64, scaling: &Scaling) -> Self {
        let frequencies = (0..size / 2).map(|i| {
            let exponent = (2 * i) as f32 / size as f32;
            let frequency = 1.0 / theta.powf(f64::from(exponent)) as f32;
            match scaling {
                Scaling::None => frequency,
                Scaling::Divisors(divisors) => frequency / divisors[i],
                Scaling::Llama3 {
                    factor,
                    low,
                    high,
                    original,
                } => stretched(
                    frequency,
                    *factor as f32,
                    *low as f32,
                    *high as f32,
                    *original,
                ),
            }
        });
        Self(frequencies.collect())
    }

    pub fn rotation(&self, positions: impl Iterator<Item = usize>) -> Rotation {
        let mut table = Vec::new();
        for position in positions {
            let angles = self.0.iter().map(|frequency| frequency * position as f32);
            let turns: Vec<(f64, f64)> = angles.map(|a| f64::from(a).sin_cos()).collect();
            table.extend(turns.iter().map(|(_, cosine)| *cosine as f32));
            table.extend(turns.iter().map(|(sine, _)| *sine as f32));
        }
        Rotation {
            table: table.into(),
            size: 2 * self.0.len(),
        }
    }
}

fn stretched(frequency: f32, factor: f32, low: f32, high: f32, original: usize) -> f32 {
    let original = original as f32;
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_positions_times_powers_of_the_base() {
        let rope = Rope::new(8, 100.0, &Scaling::None);
        let rotation = rope.rotation([0, 3].into_iter());
        assert_eq!(rotation.size, 8);
        assert_eq!(
            rotation.table[..8],
            [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        );
        for i in 0..4 {
            let angle = 3.0 / 100f64.powf(i as f64 / 4.0);
            let (cosine, sine) = (rotation.table[8 + i], rotation.table[12 + i]);
            assert!((f64::from(cosine) - angle.cos()).abs() < 1e-6, "{i}");
            assert!((f64::from(sine) - angle.sin()).abs() < 1e-6, "{i}");
        }
    }

    /// Llama 3.2 1B's parameters. With a base of 500000 and heads of 64, wavelengths pass 8192/4 and 8192/1 between
    /// the pairs 14 and 18.
    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let scaling = Scaling::Llama3 {
            factor: 32.0,
            low: 1.0,
            high: 4.0,
            original: 8192,
        };
        let plain = Rope::new(64, 500_000.0, &Scaling::None);
        let scaled = Rope::new(64, 500_000.0, &scaling);
        let ratio: Vec<f32> = plain.0.iter().zip(&scaled.0).map(|(p, s)| p / s).collect();
        assert!(ratio[..14].iter().all(|r| *r == 1.0), "{ratio:?}");
        assert!(
            ratio[18..].iter().all(|r| (r - 32.0).abs() < 1e-4),
            "{ratio:?}"
        );
        assert!(ratio.is_sorted(), "{ratio:?}");
        let divided = Rope::new(64, 500_000.0, &Scaling::Divisors(ratio.clone()));
        for (a, b) in divided.0.iter().zip(&scaled.0) {
            assert!((a / b - 1.0).abs() < 1e-6);
        }
    }
}
