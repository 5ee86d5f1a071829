//! Products of matrices that lie in slices.

use super::for_rows;
use super::rows::{self, Isa};

/// Elements of a matrix that are transposed at once, before a product needs them: 8 MiB.
const PART: usize = 1 << 21;

/// For products on many threads at once.
pub(super) const SERIAL: gemm::Parallelism = gemm::Parallelism::None;

/// A matrix that is read: all of a slice, or some columns of it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row to the next.
    across: usize,
    /// From one column to the next.
    along: usize,
}

impl<'a> View<'a> {
    /// All of `data`, row-major.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns);
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that begin `across` apart, the first one at the beginning of `data`.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, across: usize) -> Self {
        assert!(rows > 0 && columns > 0 && data.len() >= (rows - 1) * across + columns);
        Self {
            data,
            rows,
            columns,
            across,
            along: 1,
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            across: self.along,
            along: self.across,
            ..self
        }
    }

    fn rows_from(self, first: usize, rows: usize) -> Self {
        assert!(first + rows <= self.rows);
        let data = &self.data[first * self.across..];
        Self { data, rows, ..self }
    }

    fn columns_from(self, first: usize, columns: usize) -> Self {
        assert!(first + columns <= self.columns);
        let data = &self.data[first * self.along..];
        Self {
            data,
            columns,
            ..self
        }
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub start: *mut f32,
    /// From one row to the next.
    pub stride: usize,
    /// Whether the product is added to what is there.
    pub keep: bool,
}

/// `scale a b`.
///
/// # Safety
/// `target` must have as many rows as `a`, of as many columns as `b`, that nothing else uses meanwhile.
pub(super) unsafe fn multiply(
    target: Target,
    scale: f32,
    a: View<'_>,
    b: View<'_>,
    parallelism: gemm::Parallelism,
) {
    assert_eq!(a.columns, b.rows);
    // SAFETY: views lie inside their slices by their constructors; the caller answers for the target.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target.start,
            1,
            target.stride as isize,
            target.keep,
            a.data.as_ptr(),
            a.along as isize,
            a.across as isize,
            b.data.as_ptr(),
            b.along as isize,
            b.across as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `out = scale a b`, or with `keep` `out += scale a b`. `out` is row-major and has nothing else.
pub(crate) fn product(out: &mut [f32], keep: bool, scale: f32, a: View<'_>, b: View<'_>) {
    // gemm itself sees whether threads pay.
    product_by(out, keep, scale, (a, b), gemm::Parallelism::Rayon(0));
}

/// `out = a b` on the calling thread, which takes up nobody else's work meanwhile.
pub(crate) fn product_alone(out: &mut [f32], a: View<'_>, b: View<'_>) {
    product_by(out, false, 1.0, (a, b), SERIAL);
}

fn product_by(
    out: &mut [f32],
    keep: bool,
    scale: f32,
    (a, b): (View<'_>, View<'_>),
    parallelism: gemm::Parallelism,
) {
    assert_eq!(out.len(), a.rows * b.columns);
    let target = Target {
        start: out.as_mut_ptr(),
        stride: b.columns,
        keep,
    };
    // SAFETY: `out` is borrowed for the call and has the product's size.
    unsafe { multiply(target, scale, a, b, parallelism) };
}

/// `out = a weightᵀ`, or with `keep` `out += a weightᵀ`, for a row-major weight. gemm would read such a weight
/// against its order, element by element on one thread; so it gets transposed parts, from `scratch`.
pub(crate) fn product_with_rows(
    out: &mut [f32],
    keep: bool,
    a: View<'_>,
    weight: View<'_>,
    scratch: &mut Vec<f32>,
) {
    let (outputs, inputs) = (weight.rows, weight.columns);
    assert_eq!(weight.along, 1);
    assert_eq!(out.len(), a.rows * outputs);
    let threads = gemm::Parallelism::Rayon(0);
    let start = out.as_mut_ptr();
    let target = |start, keep| Target {
        start,
        stride: outputs,
        keep,
    };
    if outputs >= inputs {
        let step = (PART / inputs).max(1);
        for first in (0..outputs).step_by(step) {
            let part = weight.rows_from(first, step.min(outputs - first));
            let turned = turned(part, scratch);
            // SAFETY: these are columns of `out`, whose size is asserted, and it is borrowed for the call.
            unsafe { multiply(target(start.add(first), keep), 1.0, a, turned, threads) };
        }
    } else {
        let step = (PART / outputs).max(1);
        for first in (0..inputs).step_by(step) {
            let part = weight.columns_from(first, step.min(inputs - first));
            let a = a.columns_from(first, part.columns);
            let turned = turned(part, scratch);
            // SAFETY: this is all of `out`, whose size is asserted, and it is borrowed for the call.
            unsafe { multiply(target(start, keep || first > 0), 1.0, a, turned, threads) };
        }
    }
}

/// The transpose of a row-major matrix, written out.
fn turned<'a>(matrix: View<'_>, scratch: &'a mut Vec<f32>) -> View<'a> {
    let (width, isa) = (matrix.rows, Isa::detect());
    scratch.resize(matrix.columns * width, 0.0);
    for_rows(scratch, width, |start, part| {
        let source = &matrix.data[start / width..];
        rows::train::transpose(isa, part, width, source, matrix.across);
    });
    View::new(scratch, matrix.columns, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 - 1.0)
            .collect()
    }

    fn by_definition(a: &[f32], weight: &[f32], inputs: usize) -> Vec<f64> {
        let dot = |x: &[f32], y: &[f32]| -> f64 {
            let pairs = x.iter().zip(y);
            pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let rows = a.chunks(inputs);
        rows.flat_map(|row| weight.chunks(inputs).map(move |w| dot(row, w)))
            .collect()
    }

    #[test]
    fn products_are_those_of_the_definition_in_whole_and_in_parts() {
        // The last two weights are transposed in parts: by their rows, and by their columns.
        for (rows, inputs, outputs) in [(3, 5, 7), (20, 33, 18), (2, 50, 50_000), (2, 50_000, 50)] {
            let (a, weight) = (sample(rows * inputs, 1), sample(outputs * inputs, 2));
            let want = by_definition(&a, &weight, inputs);
            let (x, w) = (
                View::new(&a, rows, inputs),
                View::new(&weight, outputs, inputs),
            );
            let check = |got: &[f32], scale: f64, more: f64| {
                for (got, want) in got.iter().zip(&want) {
                    let off = f64::from(*got) - (want * scale + more);
                    assert!(off.abs() < 1e-5 * inputs as f64, "{got} against {want}");
                }
            };
            let mut got = vec![7.0; rows * outputs];
            product_with_rows(&mut got, false, x, w, &mut vec![1.0; 9]);
            check(&got, 1.0, 0.0);
            product_with_rows(&mut got, true, x, w, &mut Vec::new());
            check(&got, 2.0, 0.0);
            let mut got = vec![0.5; rows * outputs];
            product(&mut got, true, 0.5, x, w.transposed());
            check(&got, 0.5, 0.5);
            product(&mut got, false, 1.0, x, w.transposed());
            check(&got, 1.0, 0.0);
        }
    }

    #[test]
    fn some_columns_of_a_matrix_are_read_where_they_lie() {
        let data = sample(40, 3);
        let part = View::strided(&data[2..], 3, 4, 10);
        let mut got = vec![0.0; 16];
        product(&mut got, false, 1.0, part.transposed(), part);
        for (i, got) in got.iter().enumerate() {
            let (a, b) = (2 + i / 4, 2 + i % 4);
            let want: f32 = (0..3).map(|r| data[10 * r + a] * data[10 * r + b]).sum();
            assert!((got - want).abs() < 1e-5, "{i}");
        }
    }
}
