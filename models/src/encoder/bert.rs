//! The BERT encoder (Devlin et al., 2018) over packed sequences.

use std::ops::Range;
use std::sync::Mutex;

use super::Pooling;
use super::config::BertConfig;
use super::load::load;
use crate::ModelError;
use crate::kernels::Isa;
use crate::kernels::encoder::{
    Attention, Finish, LINE, Line, Linear, Matrix, Norm, Scratch, Team, add_norm, embed,
};
use crate::weights::Weights;

/// Rows that go through the layers between two attentions together: few enough that what they become (half a megabyte
/// for MiniLM) stays in the second cache, enough that reading the weights takes less time than computing with them.
const BLOCK: usize = 72;

/// The network with its weights, packed for this processor.
#[derive(Debug)]
pub(super) struct Bert {
    pub isa: Isa,
    /// Panels of all linear layers, in the order in which they are read.
    pub weights: Vec<Line>,
    /// A row of whole lines for each token, as those of the activations.
    pub words: Vec<Line>,
    /// A row for each token type and position, the sum of the embeddings of both: row `type x longest + position`.
    pub positions: Vec<Line>,
    /// Positions that there are.
    pub longest: usize,
    pub norm: LayerNorm,
    pub layers: Vec<Layer>,
    pub heads: usize,
    pub width: usize,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub qkv: Linear,
    pub attended: Linear,
    pub attention_norm: LayerNorm,
    pub widen: Linear,
    pub narrow: Linear,
    pub output_norm: LayerNorm,
}

/// Scale, shift and epsilon of a layer norm.
#[derive(Debug)]
pub(super) struct LayerNorm {
    pub gamma: Vec<Line>,
    pub beta: Vec<Line>,
    pub epsilon: f32,
}

/// Sequences of tokens, which follow one another without padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequences<'a> {
    pub ids: &'a [u32],
    /// The type of each token, 0 where none is given.
    pub types: &'a [u32],
    /// Tokens of each sequence.
    pub lengths: &'a [usize],
}

/// Memory that one batch after another is computed in.
#[derive(Debug)]
pub(super) struct Work {
    /// The hidden states.
    x: Matrix,
    qkv: Matrix,
    mixed: Matrix,
    /// Of a block: what is added to the hidden states, and the widened ones.
    added: Matrix,
    wide: Matrix,
    scratch: Vec<Mutex<Scratch>>,
}

impl Bert {
    /// The network for tokens of so many types.
    pub fn load(
        config: &BertConfig,
        types: usize,
        weights: &mut Weights,
    ) -> Result<Self, ModelError> {
        load(config, types, weights, Isa::detect())
    }

    /// Lines of a row of hidden states.
    fn lines(&self) -> usize {
        self.width.div_ceil(LINE)
    }

    /// Multiplications that so many tokens take, about.
    pub fn products(&self, tokens: usize) -> usize {
        tokens * self.weights.len() * LINE
    }

    /// Memory for batches of this network.
    pub fn work(&self) -> Work {
        let (shape, lines) = (self.isa.shape(), self.lines());
        let widest = |of: fn(&Layer) -> &Linear| {
            let each = self.layers.iter().map(|layer| of(layer).lines());
            each.max().unwrap_or(0)
        };
        let attended = widest(|layer| &layer.attended);
        Work {
            x: Matrix::tiled(shape, lines),
            qkv: Matrix::plain(shape, widest(|layer| &layer.qkv)),
            mixed: Matrix::tiled(shape, lines),
            added: Matrix::tiled(shape, widest(|layer| &layer.narrow).max(attended)),
            wide: Matrix::tiled(shape, widest(|layer| &layer.widen)),
            scratch: Vec::new(),
        }
    }

    /// One vector for each sequence: `[sequences, hidden]`.
    pub fn forward(
        &self,
        sequences: Sequences<'_>,
        (pooling, unit): (Pooling, bool),
        team: &Team,
        work: &mut Work,
    ) -> Vec<f32> {
        self.run(sequences, team, work);
        let lengths = sequences.lengths;
        let mut out = vec![0.0; lengths.len() * self.width];
        let mut start = 0;
        for (vector, length) in out.chunks_exact_mut(self.width).zip(lengths) {
            pool(&work.x, start..start + length, pooling, vector);
            if unit {
                to_unit(vector);
            }
            start += length;
        }
        out
    }

    /// The final hidden state of each token: `[tokens, hidden]`.
    pub fn hidden(&self, sequences: Sequences<'_>, team: &Team, work: &mut Work) -> Vec<f32> {
        self.run(sequences, team, work);
        let mut out = vec![0.0; sequences.ids.len() * self.width];
        for (row, state) in out.chunks_exact_mut(self.width).enumerate() {
            for (line, part) in state.chunks_mut(LINE).enumerate() {
                part.copy_from_slice(&work.x.data[work.x.at(row, line)].0[..part.len()]);
            }
        }
        out
    }

    /// Sequences through all layers: their final hidden states are in `work.x` then.
    fn run(&self, sequences: Sequences<'_>, team: &Team, work: &mut Work) {
        let Sequences { ids, lengths, .. } = sequences;
        self.fit(work, ids.len(), team);
        self.embed(sequences, &mut work.x);
        let blocks = self.blocks(ids.len());
        if let Some(first) = self.layers.first() {
            for block in &blocks {
                self.project(first, block, team, work);
            }
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let attention = Attention {
                isa: self.isa,
                qkv: &work.qkv,
                lengths,
                width: self.width,
                heads: self.heads,
            };
            attention.run(team, &work.scratch, &mut work.mixed);
            for block in &blocks {
                self.mix(layer, block, team, work);
                if let Some(next) = self.layers.get(i + 1) {
                    self.project(next, block, team, work);
                }
            }
        }
    }

    fn fit(&self, work: &mut Work, tokens: usize, team: &Team) {
        for matrix in [&mut work.x, &mut work.qkv, &mut work.mixed] {
            matrix.fit(tokens);
        }
        for matrix in [&mut work.added, &mut work.wide] {
            matrix.fit(tokens.min(BLOCK));
        }
        let threads = work.scratch.len().max(team.threads());
        work.scratch.resize_with(threads, Mutex::default);
    }

    /// Rows in blocks of like size, each of whole tiles but for the end.
    fn blocks(&self, rows: usize) -> Vec<Range<usize>> {
        let height = self.isa.shape().rows;
        let tiles = rows.div_ceil(height);
        let count = tiles.div_ceil(BLOCK / height);
        let start = |i: usize| (tiles * i / count * height).min(rows);
        (0..count).map(|i| start(i)..start(i + 1)).collect()
    }

    fn embed(&self, sequences: Sequences<'_>, x: &mut Matrix) {
        let Sequences {
            ids,
            types,
            lengths,
        } = sequences;
        let (lines, norm) = (self.lines(), self.norm.of(self.width));
        let (_, step) = x.steps();
        let positions = lengths.iter().flat_map(|&length| 0..length);
        for (row, (id, position)) in ids.iter().zip(positions).enumerate() {
            let word = &self.words[*id as usize * lines..][..lines];
            let of_type = types
                .get(row)
                .map_or(0, |&kind| kind as usize * self.longest);
            let position = &self.positions[(of_type + position) * lines..][..lines];
            let at = x.at(row, 0);
            embed(self.isa, &mut x.data[at..], step, word, position, norm);
        }
    }

    /// Queries, keys and values of a block.
    fn project(&self, layer: &Layer, block: &Range<usize>, team: &Team, work: &mut Work) {
        let first = block.start / work.x.height;
        let (x, qkv) = ((&work.x, first), (&mut work.qkv, first));
        let finish = Finish::Nothing;
        layer
            .qkv
            .apply(&self.weights, team, x, block.len(), qkv, finish);
    }

    /// What follows a block's attention.
    fn mix(&self, layer: &Layer, block: &Range<usize>, team: &Team, work: &mut Work) {
        let (weights, rows) = (self.weights.as_slice(), block.len());
        let first = block.start / work.x.height;
        let Work {
            x,
            mixed,
            added,
            wide,
            ..
        } = work;
        let (of, nothing) = ((&*mixed, first), Finish::Nothing);
        layer
            .attended
            .apply(weights, team, of, rows, (&mut *added, 0), nothing);
        self.add(added, &layer.attention_norm, block, x);
        let (of, gelu) = ((&*x, first), Finish::Gelu);
        layer
            .widen
            .apply(weights, team, of, rows, (&mut *wide, 0), gelu);
        layer
            .narrow
            .apply(weights, team, (&*wide, 0), rows, (&mut *added, 0), nothing);
        self.add(added, &layer.output_norm, block, x);
    }

    /// Adds to a block of the hidden states, and normalises.
    fn add(&self, added: &Matrix, norm: &LayerNorm, block: &Range<usize>, x: &mut Matrix) {
        let (height, size) = (x.height, x.tile());
        let norm = norm.of(self.width);
        for (i, row) in block.clone().step_by(height).enumerate() {
            let tile = &mut x.data[row / height * size..][..size];
            let rows = height.min(block.end - row);
            add_norm(self.isa, tile, added.tiles(i..i + 1), height, rows, norm);
        }
    }
}

impl LayerNorm {
    fn of(&self, width: usize) -> Norm<'_> {
        Norm {
            gamma: &self.gamma,
            beta: &self.beta,
            epsilon: self.epsilon,
            width,
        }
    }
}

/// Scales a vector to unit length.
pub(super) fn to_unit(vector: &mut [f32]) {
    // torch.nn.functional.normalize's epsilon.
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|v| *v /= norm);
}

/// One vector of the rows of a sequence.
fn pool(x: &Matrix, rows: Range<usize>, pooling: Pooling, vector: &mut [f32]) {
    let count = rows.len() as f32;
    for (line, part) in vector.chunks_mut(LINE).enumerate() {
        let mut lines = rows.clone().map(|row| &x.data[x.at(row, line)].0);
        let mut pooled = lines.next().copied().unwrap_or_default();
        match pooling {
            Pooling::Cls => {}
            Pooling::Max => {
                lines.for_each(|row| pooled.iter_mut().zip(row).for_each(|(v, r)| *v = v.max(*r)));
            }
            Pooling::Mean => {
                lines.for_each(|row| pooled.iter_mut().zip(row).for_each(|(v, r)| *v += r));
                pooled.iter_mut().for_each(|v| *v /= count);
            }
        }
        part.copy_from_slice(&pooled[..part.len()]);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernels::levels;

    /// The tiny model of the references, for one instruction set.
    fn tiny(isa: Isa) -> Bert {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny");
        let config = BertConfig::read(&dir.join("config.json")).unwrap();
        let mut weights = Weights::open(&dir.join("model.safetensors")).unwrap();
        load(&config, 1, &mut weights, isa).unwrap()
    }

    #[test]
    fn every_instruction_set_computes_the_same_vectors() {
        // More rows than a block has, the last tile not full; the same memory for all, in turns.
        let lengths = [1, 40, 2, 37, 13, 29];
        let ids: Vec<u32> = (0..122).map(|i| i * 31 % 196).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in levels() {
            let bert = tiny(isa);
            let mut work = bert.work();
            for team in [Team::alone(), Team::gather()] {
                let mut run = |ids: &[u32], lengths: &[usize]| {
                    let sequences = Sequences {
                        ids,
                        types: &[],
                        lengths,
                    };
                    bert.forward(sequences, (Pooling::Mean, true), &team, &mut work)
                };
                let got = run(&ids, &lengths);
                let want = first.get_or_insert_with(|| got.clone());
                for (got, want) in got.iter().zip(want.iter()) {
                    assert!((got - want).abs() < 1e-5, "{isa}: {got} against {want}");
                }
                let mut start = 0;
                for (i, length) in lengths.iter().enumerate() {
                    let alone = run(&ids[start..start + length], &[*length]);
                    assert_eq!(alone, got[i * bert.width..][..bert.width], "{isa}");
                    start += length;
                }
            }
        }
    }

    #[test]
    fn blocks_are_all_rows_in_whole_tiles() {
        for isa in levels() {
            let bert = tiny(isa);
            for rows in [1, 12, 13, 72, 73, 128, 500] {
                let blocks = bert.blocks(rows);
                assert_eq!(blocks[0].start, 0);
                assert_eq!(blocks[blocks.len() - 1].end, rows);
                assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start));
                for block in blocks {
                    assert!((1..=BLOCK).contains(&block.len()));
                    assert!(block.start.is_multiple_of(isa.shape().rows));
                }
            }
        }
    }
}
