//! Linear layers, packed.

use std::ops::Range;

use super::buffer::Matrix;
use super::team::Team;
use crate::kernels::rows::Isa;
use crate::kernels::rows::encoder::gelu_lines;
use crate::kernels::rows::tile::{LINE, Line, Target};

/// What is done with a product while it is in the first cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Nothing,
    Gelu,
}

/// `x weight + bias`. The weight lies in panels of as many columns as the product kernel takes at once, each read from
/// its beginning to its end.
#[derive(Debug)]
pub(crate) struct Linear {
    isa: Isa,
    /// Its panels among the lines of all weights.
    own: Range<usize>,
    /// Lines of a row of `x`.
    depth: usize,
    /// With zeros for the columns that fill the last panel, whose weights are zeros, too.
    bias: Vec<Line>,
}

impl Linear {
    /// Lines that a weight takes.
    fn size(isa: Isa, inputs: usize, outputs: usize) -> usize {
        let shape = isa.shape();
        let panel = inputs.next_multiple_of(LINE) * shape.lines;
        outputs.div_ceil(shape.columns()) * panel
    }

    /// Packs weights, row-major `[outputs, inputs]` as in models' files, and biases, side by side, to the end of `weights`.
    pub fn pack(
        isa: Isa,
        weights: &mut Vec<Line>,
        parts: &[(Vec<f32>, Vec<f32>)],
        inputs: usize,
    ) -> Self {
        let shape = isa.shape();
        let outputs = parts.iter().map(|(_, bias)| bias.len()).sum();
        let start = weights.len();
        let own = start..start + Self::size(isa, inputs, outputs);
        weights.resize(own.end, Line::ZERO);
        let panels = outputs.div_ceil(shape.columns());
        let mut linear = Self {
            isa,
            own,
            depth: inputs.div_ceil(LINE),
            bias: vec![Line::ZERO; panels * shape.lines],
        };
        let panel = linear.panel();
        let rows = parts.iter().flat_map(|(weight, bias)| {
            assert_eq!(weight.len(), bias.len() * inputs);
            weight.chunks_exact(inputs).zip(bias)
        });
        for (column, (row, bias)) in rows.enumerate() {
            linear.bias[column / LINE].0[column % LINE] = *bias;
            let first = start + column / shape.columns() * panel;
            let (line, lane) = (column % shape.columns() / LINE, column % LINE);
            for (k, value) in row.iter().enumerate() {
                weights[first + k * shape.lines + line].0[lane] = *value;
            }
        }
        linear
    }

    /// Lines of a panel.
    fn panel(&self) -> usize {
        self.depth * LINE * self.isa.shape().lines
    }

    /// Lines of a row of the result.
    pub fn lines(&self) -> usize {
        self.bias.len()
    }

    /// The layer on `rows` rows of `x` from a tile on, into `out` from a tile on. The columns that fill the last panel
    /// become 0.
    pub fn apply(
        &self,
        weights: &[Line],
        team: &Team,
        (x, from): (&Matrix, usize),
        rows: usize,
        (out, to): (&mut Matrix, usize),
        finish: Finish,
    ) {
        let (shape, panel) = (self.isa.shape(), self.panel());
        let tiles = rows.div_ceil(shape.rows);
        assert!(out.lines >= self.lines() && out.height == shape.rows && x.height == shape.rows);
        assert!(out.data.len() >= (to + tiles) * out.tile() && x.steps() == (1, shape.rows));
        assert!(finish == Finish::Nothing || out.steps() == (1, shape.rows));
        let weights = &weights[self.own.clone()];
        let target = out.shared();
        team.each(self.lines() / shape.lines, |panels, _| {
            for (at, tile) in panels.flat_map(|at| (0..tiles).map(move |tile| (at, tile))) {
                let count = shape.rows.min(rows - tile * shape.rows);
                let a = x.tiles(from + tile..from + tile + 1);
                let b = &weights[at * panel..(at + 1) * panel];
                let bias = &self.bias[at * shape.lines..(at + 1) * shape.lines];
                let start = target.line((to + tile) * shape.rows, at * shape.lines);
                let (row, line) = (target.across, target.along);
                // SAFETY: `out` has the lines of this panel in the rows of this tile, by the assertions; nobody else has
                // this panel. With GELU, the lines of a tile's rows follow one another.
                unsafe {
                    self.isa
                        .product(count, a, b, bias, Target { start, row, line });
                    if finish == Finish::Gelu {
                        for i in 0..shape.lines {
                            let lines = std::slice::from_raw_parts_mut(start.add(i * line), count);
                            gelu_lines(self.isa, lines);
                        }
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::buffer::flat;
    use super::*;
    use crate::kernels::rows::tests::{erf, levels};
    use crate::random::Draws;

    fn sample(count: usize, draws: &mut Draws) -> Vec<f32> {
        (0..count)
            .map(|_| draws.uniform() as f32 * 2.0 - 1.0)
            .collect()
    }

    /// A tiled matrix with rows of `width` columns, the first one in the second tile.
    fn tiled(isa: Isa, values: &[f32], width: usize) -> Matrix {
        let mut matrix = Matrix::tiled(isa.shape(), width.div_ceil(LINE));
        let first = isa.shape().rows;
        matrix.fit(first + values.len() / width);
        for (i, row) in values.chunks(width).enumerate() {
            for (line, part) in row.chunks(LINE).enumerate() {
                let at = matrix.at(first + i, line);
                matrix.data[at].0[..part.len()].copy_from_slice(part);
            }
        }
        matrix
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Off by no more than a unit of roundoff for each of the products, all of magnitude 1 at most; GELU adds 1e-6 of
        /// the sum's magnitude.
        #[test]
        fn layers_are_those_of_the_definition(
            inputs in 1usize..70,
            outputs in prop::collection::vec(1usize..50, 1..4),
            rows in 1usize..30,
            seed in any::<u64>(),
        ) {
            let mut draws = Draws::new(seed);
            let x = sample(rows * inputs, &mut draws);
            let parts: Vec<_> = outputs
                .iter()
                .map(|n| (sample(n * inputs, &mut draws), sample(*n, &mut draws)))
                .collect();
            let width: usize = outputs.iter().sum();
            let mut want = Vec::new();
            for row in x.chunks(inputs) {
                for (weight, bias) in &parts {
                    for (weights, bias) in weight.chunks(inputs).zip(bias) {
                        let products = row.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
                        want.push(products.sum::<f64>() + f64::from(*bias));
                    }
                }
            }
            let bound = (inputs + 1) as f64 * (inputs + 1) as f64 * f64::from(f32::EPSILON);
            for (isa, team) in levels().into_iter().flat_map(|isa| [(isa, Team::alone()), (isa, Team::gather())]) {
                let mut weights = vec![Line([5.0; LINE]); 3];
                let linear = Linear::pack(isa, &mut weights, &parts, inputs);
                prop_assert_eq!(weights.len(), 3 + Linear::size(isa, inputs, width));
                let x = tiled(isa, &x, inputs);
                let mut plain = Matrix::plain(isa.shape(), linear.lines());
                plain.fit(rows);
                linear.apply(&weights, &team, (&x, 1), rows, (&mut plain, 0), Finish::Nothing);
                let mut wide = Matrix::tiled(isa.shape(), linear.lines() + 1);
                wide.fit(rows);
                linear.apply(&weights, &team, (&x, 1), rows, (&mut wide, 0), Finish::Gelu);
                for (i, want) in want.chunks(width).enumerate() {
                    let row = plain.row(i);
                    prop_assert!(row[width..].iter().all(|v| *v == 0.0));
                    for (j, (got, want)) in row.iter().zip(want).enumerate() {
                        prop_assert!((f64::from(*got) - want).abs() <= bound, "{} against {}", got, want);
                        let gelu = want / 2.0 * (1.0 + erf((want * 0.5f64.sqrt()).clamp(-4.0, 4.0)));
                        let line = wide.at(i, j / LINE);
                        let got = flat(&wide.data[line..=line])[j % LINE];
                        let bound = 1.2 * bound + 1e-6 * want.abs().max(1.0);
                        prop_assert!((f64::from(got) - gelu).abs() <= bound, "{} against {}", got, gelu);
                    }
                }
            }
        }
    }
}
