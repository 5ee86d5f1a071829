//! ggml's element types, to f32.

use std::fmt;

use crate::weights::half_to_f32;

/// The types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    /// Blocks of 32: a scale in half precision, then 32 signed bytes.
    Q8_0,
    /// Blocks of 32: a scale and a minimum in half precision, then 32 numbers of four bits; the low halves of the 16
    /// bytes come first.
    Q4_1,
}

pub(super) const SUPPORTED: &str = "F32, F16, BF16, Q8_0, Q4_1";

/// Elements that share a scale.
const BLOCK: usize = 32;

impl Kind {
    /// The type with this number in ggml, or its name, if it is not read.
    pub fn of(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::Bf16,
            _ => return Err(name(number)),
        })
    }

    /// The bytes that `count` elements take in rows of `columns`; none if there are no such rows.
    pub fn bytes(self, count: usize, columns: usize) -> Option<usize> {
        match self {
            Self::F32 => count.checked_mul(4),
            Self::F16 | Self::Bf16 => count.checked_mul(2),
            _ if !columns.is_multiple_of(BLOCK) => None,
            Self::Q8_0 => (count / BLOCK).checked_mul(2 + BLOCK),
            Self::Q4_1 => (count / BLOCK).checked_mul(4 + BLOCK / 2),
        }
    }

    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let pairs = || bytes.as_chunks::<2>().0.iter().copied();
        match self {
            Self::F32 => {
                let quads = bytes.as_chunks::<4>().0.iter().copied();
                quads.map(f32::from_le_bytes).collect()
            }
            Self::F16 => pairs().map(half).collect(),
            Self::Bf16 => pairs()
                .map(|pair| f32::from_bits(u32::from(u16::from_le_bytes(pair)) << 16))
                .collect(),
            Self::Q8_0 => blocks::<34>(bytes, |block, out| {
                let scale = half([block[0], block[1]]);
                for (v, b) in out.iter_mut().zip(&block[2..]) {
                    *v = f32::from(*b as i8) * scale;
                }
            }),
            Self::Q4_1 => blocks::<20>(bytes, |block, out| {
                let (scale, min) = (half([block[0], block[1]]), half([block[2], block[3]]));
                let (low, high) = out.split_at_mut(BLOCK / 2);
                for ((l, h), b) in low.iter_mut().zip(high).zip(&block[4..]) {
                    *l = f32::from(b & 15) * scale + min;
                    *h = f32::from(b >> 4) * scale + min;
                }
            }),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_1 => "Q4_1",
        })
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    half_to_f32(u16::from_le_bytes(bytes))
}

fn blocks<const N: usize>(bytes: &[u8], decode: impl Fn(&[u8; N], &mut [f32])) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<N>();
    let mut out = vec![0.0; blocks.len() * BLOCK];
    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
        decode(block, out);
    }
    out
}

/// The names that ggml gives the types that are not read.
fn name(number: u32) -> String {
    let name = match number {
        2 => "Q4_0",
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("(type {number})"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_half_numbers_are_what_they_are() {
        // 1, -2 and 0.5, by their numbers in ggml.
        for (number, bytes) in [
            (0, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f][..]),
            (1, &[0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38]),
            (30, &[0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f]),
        ] {
            let kind = Kind::of(number).unwrap();
            assert_eq!(kind.decode(bytes), [1.0, -2.0, 0.5], "{kind}");
            assert_eq!(kind.bytes(3, 3), Some(bytes.len()), "{kind}");
        }
        assert_eq!(Kind::of(2), Err("Q4_0".to_owned()));
    }

    #[test]
    fn q8_0_is_a_byte_times_the_scale() {
        let mut block = vec![0x00, 0x38]; // 0.5
        block.extend((0..32u8).map(|i| i.wrapping_mul(8)));
        block.extend([0x00, 0xc0]); // -2
        block.extend([0x80; 32]);
        let got = Kind::Q8_0.decode(&block);
        assert_eq!(got.len(), 64);
        assert_eq!(got[..4], [0.0, 4.0, 8.0, 12.0]);
        assert_eq!((got[15], got[16], got[31]), (60.0, -64.0, -4.0));
        assert!(got[32..].iter().all(|v| *v == 256.0));
        assert_eq!(Kind::Q8_0.bytes(64, 32), Some(68));
        assert_eq!(Kind::Q8_0.bytes(66, 33), None);
    }

    #[test]
    fn q4_1_is_four_bits_times_the_scale_plus_the_minimum() {
        let mut block = vec![0x00, 0x34, 0x00, 0xbc]; // 0.25 and -1
        block.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let got = Kind::Q4_1.decode(&block);
        assert_eq!(got.len(), 32);
        let low = (0..16).map(|i| i as f32 * 0.25 - 1.0);
        let want: Vec<f32> = low.clone().chain(low.rev()).collect();
        assert_eq!(got, want);
        assert_eq!(Kind::Q4_1.bytes(64, 64), Some(40));
    }
}
