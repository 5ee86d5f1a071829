//! Products of a few rows of activations with a panel of packed weights, in registers: the innermost loop of the
//! encoder. Every element is its bias plus its products in the order of the weight's rows, one fused multiply-add
//! after another, whatever the number of rows; so a row's result does not depend on its neighbours.

use super::{BASELINE_FMA, Isa, Level, madd};

/// Elements of a [`Line`].
pub(crate) const LINE: usize = 16;

/// A cache line of f32: one AVX-512 register, or two of AVX2.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [f32; LINE]);

impl Line {
    pub const ZERO: Self = Self([0.0; LINE]);
}

/// What the registers hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Rows of a tile of activations.
    pub rows: usize,
    /// Lines of a row of a panel of weights.
    pub lines: usize,
}

impl Shape {
    /// Columns of a panel.
    pub fn columns(self) -> usize {
        self.lines * LINE
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub start: *mut Line,
    /// From one row to the next, in lines.
    pub row: usize,
    /// From one line of a row to the next, in lines.
    pub line: usize,
}

/// What a kernel gets; all sizes are in lines.
#[derive(Clone, Copy)]
struct Task {
    a: *const f32,
    b: *const f32,
    bias: *const f32,
    depth: usize,
    target: Target,
}

impl Isa {
    /// What the product kernel of this level computes at once.
    pub fn shape(self) -> Shape {
        match self.0 {
            // 24 sums, 2 registers of weights and 1 of activations, of 32.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Shape { rows: 12, lines: 2 },
            // 12 sums of half a line, 2 and 1, of 16.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Shape { rows: 6, lines: 1 },
            Level::Portable => Shape { rows: 4, lines: 1 },
        }
    }

    /// `bias + a b` for the first `rows` rows of a tile. In `a`, line by line of its columns, the lines of all rows of
    /// the tile follow one another; `b` has [`Shape::lines`] lines for each of as many rows as `a` has columns.
    ///
    /// # Safety
    /// `target` must have `rows` rows of [`Shape::lines`] lines, which nothing else uses meanwhile.
    pub unsafe fn product(
        self,
        rows: usize,
        a: &[Line],
        b: &[Line],
        bias: &[Line],
        target: Target,
    ) {
        let shape = self.shape();
        let depth = b.len() / (LINE * shape.lines);
        assert!(b.len() == depth * LINE * shape.lines && bias.len() == shape.lines);
        assert!(a.len() >= depth * shape.rows && (1..=shape.rows).contains(&rows));
        let task = Task {
            a: a.as_ptr().cast(),
            b: b.as_ptr().cast(),
            bias: bias.as_ptr().cast(),
            depth,
            target,
        };
        // SAFETY: the slices are as long as the kernels read, by the assertions; `Isa::detect` found the features
        // of the level; the caller answers for the target.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::avx512(rows, &task),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::avx2(rows, &task),
                Level::Portable => match rows {
                    1 => portable::<1>(&task),
                    2 => portable::<2>(&task),
                    3 => portable::<3>(&task),
                    _ => portable::<4>(&task),
                },
            }
        }
    }
}

/// # Safety
/// As for [`Isa::product`], with a tile of four rows and a panel of one line.
unsafe fn portable<const ROWS: usize>(task: &Task) {
    // SAFETY: `b` has LINE rows of one line for each line of a row of `a`, whose tile has four rows.
    unsafe {
        let (a, b) = (task.a.cast::<[Line; 4]>(), task.b.cast::<Line>());
        let mut sums = [*task.bias.cast::<Line>(); ROWS];
        for at in 0..task.depth {
            let tile = &*a.add(at);
            for k in 0..LINE {
                let weights = &(*b.add(at * LINE + k)).0;
                for (sum, row) in sums.iter_mut().zip(tile) {
                    for (s, w) in sum.0.iter_mut().zip(weights) {
                        *s = madd::<BASELINE_FMA>(row.0[k], *w, *s);
                    }
                }
            }
        }
        for (row, sum) in sums.iter().enumerate() {
            *task.target.start.add(row * task.target.row) = *sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LINE, Task};

    /// Elements of the panel that are asked for before they are needed: 16 rows, for as long as the third cache takes.
    const AHEAD: usize = 16 * 2 * LINE;

    /// A kernel for each number of rows, so that the sums have their registers and no row is computed in vain.
    macro_rules! avx512 {
        ($($name:ident $rows:literal: $($r:literal)+;)+) => {
            /// # Safety
            /// As for `Isa::product`, with a tile of 12 rows and a panel of two lines.
            #[target_feature(enable = "avx512f")]
            pub unsafe fn avx512(rows: usize, task: &Task) {
                // SAFETY: the caller's.
                unsafe {
                    match rows {
                        $($rows => $name(task),)+
                        _ => {}
                    }
                }
            }

            $(
                #[target_feature(enable = "avx512f")]
                unsafe fn $name(task: &Task) {
                    // SAFETY: `b` has LINE rows of two lines for each line of a row of `a`, whose tile has 12 rows. What
                    // is prefetched need not exist.
                    unsafe {
                        let (mut a, mut b) = (task.a, task.b);
                        let first = _mm512_load_ps(task.bias);
                        let second = _mm512_load_ps(task.bias.add(LINE));
                        let mut sums = [[first, second]; $rows];
                        for _ in 0..task.depth {
                            for k in 0..LINE {
                                let ahead = b.wrapping_add(AHEAD);
                                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(LINE).cast());
                                let (p, q) = (_mm512_load_ps(b), _mm512_load_ps(b.add(LINE)));
                                $(
                                    let v = _mm512_set1_ps(*a.add($r * LINE + k));
                                    sums[$r][0] = _mm512_fmadd_ps(v, p, sums[$r][0]);
                                    sums[$r][1] = _mm512_fmadd_ps(v, q, sums[$r][1]);
                                )+
                                b = b.add(2 * LINE);
                            }
                            a = a.add(12 * LINE);
                        }
                        let target = task.target;
                        $(
                            let row = target.start.add($r * target.row);
                            _mm512_store_ps(row.cast(), sums[$r][0]);
                            _mm512_store_ps(row.add(target.line).cast(), sums[$r][1]);
                        )+
                    }
                }
            )+
        };
    }

    avx512! {
        avx512_1 1: 0;
        avx512_2 2: 0 1;
        avx512_3 3: 0 1 2;
        avx512_4 4: 0 1 2 3;
        avx512_5 5: 0 1 2 3 4;
        avx512_6 6: 0 1 2 3 4 5;
        avx512_7 7: 0 1 2 3 4 5 6;
        avx512_8 8: 0 1 2 3 4 5 6 7;
        avx512_9 9: 0 1 2 3 4 5 6 7 8;
        avx512_10 10: 0 1 2 3 4 5 6 7 8 9;
        avx512_11 11: 0 1 2 3 4 5 6 7 8 9 10;
        avx512_12 12: 0 1 2 3 4 5 6 7 8 9 10 11;
    }

    macro_rules! avx2 {
        ($($name:ident $rows:literal: $($r:literal)+;)+) => {
            /// # Safety
            /// As for `Isa::product`, with a tile of 6 rows and a panel of one line.
            #[target_feature(enable = "avx2,fma")]
            pub unsafe fn avx2(rows: usize, task: &Task) {
                // SAFETY: the caller's.
                unsafe {
                    match rows {
                        $($rows => $name(task),)+
                        _ => {}
                    }
                }
            }

            $(
                #[target_feature(enable = "avx2,fma")]
                unsafe fn $name(task: &Task) {
                    // SAFETY: `b` has LINE rows of one line for each line of a row of `a`, whose tile has 6 rows. What is
                    // prefetched need not exist.
                    unsafe {
                        let (mut a, mut b) = (task.a, task.b);
                        let first = _mm256_load_ps(task.bias);
                        let second = _mm256_load_ps(task.bias.add(LINE / 2));
                        let mut sums = [[first, second]; $rows];
                        for _ in 0..task.depth {
                            for k in 0..LINE {
                                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD).cast());
                                let (p, q) = (_mm256_load_ps(b), _mm256_load_ps(b.add(LINE / 2)));
                                $(
                                    let v = _mm256_set1_ps(*a.add($r * LINE + k));
                                    sums[$r][0] = _mm256_fmadd_ps(v, p, sums[$r][0]);
                                    sums[$r][1] = _mm256_fmadd_ps(v, q, sums[$r][1]);
                                )+
                                b = b.add(LINE);
                            }
                            a = a.add(6 * LINE);
                        }
                        $(
                            let row: *mut f32 = task.target.start.add($r * task.target.row).cast();
                            _mm256_store_ps(row, sums[$r][0]);
                            _mm256_store_ps(row.add(LINE / 2), sums[$r][1]);
                        )+
                    }
                }
            )+
        };
    }

    avx2! {
        avx2_1 1: 0;
        avx2_2 2: 0 1;
        avx2_3 3: 0 1 2;
        avx2_4 4: 0 1 2 3;
        avx2_5 5: 0 1 2 3 4;
        avx2_6 6: 0 1 2 3 4 5;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::levels;
    use super::*;

    fn lines(count: usize, draw: &mut impl FnMut() -> f32) -> Vec<Line> {
        (0..count)
            .map(|_| Line(std::array::from_fn(|_| draw())))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Each sum of n products is off by no more than n units of roundoff of the sum of their magnitudes (Higham,
        /// Accuracy and Stability of Numerical Algorithms, 3.1), and a row's bits are the same with any other rows.
        #[test]
        fn products_are_those_of_the_definition(
            depth in 0usize..5,
            seed in any::<u64>(),
            magnitude in prop::sample::select(vec![1e-30f32, 1.0, 1e15]),
        ) {
            let mut draws = crate::random::Draws::new(seed);
            let mut draw = || (draws.uniform() as f32 - 0.5) * magnitude;
            for isa in levels() {
                let shape = isa.shape();
                let a = lines(depth * shape.rows, &mut draw);
                let b = lines(depth * LINE * shape.lines, &mut draw);
                let bias = lines(shape.lines, &mut draw);
                let mut whole = Vec::new();
                for rows in (1..=shape.rows).rev() {
                    let mut out = vec![Line([7.0; LINE]); shape.rows * shape.lines];
                    let target = Target { start: out.as_mut_ptr(), row: 1, line: shape.rows };
                    // SAFETY: `out` has a line for each row and line of the product.
                    unsafe { isa.product(rows, &a, &b, &bias, target) };
                    if rows == shape.rows {
                        whole = out.clone();
                    }
                    for (i, (got, all)) in out.iter().zip(&whole).enumerate() {
                        let (row, line) = (i % shape.rows, i / shape.rows);
                        if row >= rows {
                            prop_assert_eq!(got.0, [7.0; LINE]);
                            continue;
                        }
                        prop_assert_eq!(got.0.map(f32::to_bits), all.0.map(f32::to_bits));
                        for (lane, value) in got.0.iter().enumerate() {
                            let products = (0..depth * LINE).map(|k| {
                                let x = a[k / LINE * shape.rows + row].0[k % LINE];
                                f64::from(x) * f64::from(b[k * shape.lines + line].0[lane])
                            });
                            let bias = f64::from(bias[line].0[lane]);
                            let (sum, magnitude) = products.fold((bias, bias.abs()), |(s, m), p| (s + p, m + p.abs()));
                            let bound = (depth * LINE + 1) as f64 * f64::from(f32::EPSILON) * magnitude;
                            prop_assert!((f64::from(*value) - sum).abs() <= bound + 1e-37);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_stay_in_their_row() {
        for isa in levels() {
            let shape = isa.shape();
            let mut a = vec![Line([1.0; LINE]); shape.rows];
            (a[0].0[3], a[1].0[5]) = (f32::NAN, f32::INFINITY);
            let b = vec![Line([2.0; LINE]); LINE * shape.lines];
            let bias = vec![Line::ZERO; shape.lines];
            let mut out = vec![Line::ZERO; shape.rows * shape.lines];
            let target = Target {
                start: out.as_mut_ptr(),
                row: shape.lines,
                line: 1,
            };
            // SAFETY: `out` has a line for each row and line of the product.
            unsafe { isa.product(shape.rows, &a, &b, &bias, target) };
            let (first, rest) = out.split_at(shape.lines);
            let (second, rest) = rest.split_at(shape.lines);
            assert!(first.iter().all(|line| line.0.iter().all(|v| v.is_nan())));
            assert!(
                second
                    .iter()
                    .all(|line| line.0.iter().all(|v| *v == f32::INFINITY))
            );
            assert!(rest.iter().all(|line| *line == Line([32.0; LINE])));
        }
    }
}
