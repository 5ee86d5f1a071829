//! Examples of a step, packed: one after another without padding, each attending to itself from position 0 on.

use super::Example;
use super::parameters::uses;
use crate::decoder::rope::Rope;
use crate::random::{derived, mix};

/// What one pass computes.
#[derive(Debug)]
pub(super) struct Batch {
    /// The tokens that are read: of each example all but the last, after which nothing is learned.
    pub ids: Vec<u32>,
    /// How many of them each example has.
    pub lengths: Vec<usize>,
    /// Cosines and sines of each row's angles, and the same of the angles turned back.
    pub turns: Vec<f32>,
    pub back: Vec<f32>,
    pub targets: Vec<Target>,
    /// A seed for each row, for dropout.
    pub seeds: Vec<u64>,
}

/// A token that is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The row of the token before it.
    pub row: usize,
    pub token: u32,
    /// Which example it is of, in the order of the pass.
    pub example: usize,
}

impl Batch {
    /// `seeds[i]` is that of example `i`.
    pub fn new(examples: &[&Example], seeds: &[u64], rope: &Rope) -> Self {
        let (mut ids, mut lengths) = (Vec::new(), Vec::with_capacity(examples.len()));
        let (mut targets, mut rows) = (Vec::new(), Vec::new());
        for (i, (example, seed)) in examples.iter().zip(seeds).enumerate() {
            let pairs = example.tokens().iter().zip(example.targets()).enumerate();
            let learned = pairs.filter(|(_, (_, target))| **target);
            targets.extend(learned.map(|(at, (token, _))| Target {
                row: ids.len() + at - 1,
                token: *token,
                example: i,
            }));
            let read = example.tokens().len() - 1;
            ids.extend_from_slice(&example.tokens()[..read]);
            lengths.push(read);
            rows.extend((0..read as u64).map(|at| mix(seed ^ at)));
        }
        let positions = lengths.iter().flat_map(|&length| 0..length);
        let rotation = rope.rotation(positions);
        let mut back = rotation.table.to_vec();
        for row in back.chunks_exact_mut(rotation.size) {
            row[rotation.size / 2..].iter_mut().for_each(|v| *v = -*v);
        }
        Self {
            ids,
            lengths,
            turns: rotation.table.to_vec(),
            back,
            targets,
            seeds: rows,
        }
    }

    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}

/// The seed by which dropout leaves out elements of an example that is the `place`-th of a step. It does not depend
/// on how the step is split into passes.
pub(super) fn dropout_seed(seed: u64, step: usize, place: usize) -> u64 {
    derived(seed, &[uses::DROPOUT, step as u64, place as u64])
}

/// How many of the examples go into each pass: as many as have `limit` tokens together, or one that has more.
pub(super) fn passes(examples: &[&Example], limit: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = Vec::new();
    let mut tokens = 0;
    for example in examples {
        let more = example.tokens().len();
        match counts.last_mut() {
            Some(count) if tokens + more <= limit => {
                *count += 1;
                tokens += more;
            }
            _ => {
                counts.push(1);
                tokens = more;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::rope::Scaling;

    fn example(tokens: &[u32], learned: &[usize]) -> Example {
        let targets = (0..tokens.len()).map(|i| learned.contains(&i)).collect();
        Example::new(tokens.to_vec(), targets).unwrap()
    }

    #[test]
    fn examples_are_packed_with_positions_of_their_own() {
        let (first, second) = (example(&[4, 5, 6], &[2]), example(&[7, 8, 9, 3], &[1, 3]));
        let rope = Rope::new(4, 100.0, &Scaling::None);
        let batch = Batch::new(&[&first, &second], &[1, 2], &rope);
        assert_eq!(
            (batch.ids.as_slice(), batch.rows()),
            ([4, 5, 7, 8, 9].as_slice(), 5)
        );
        assert_eq!(batch.lengths, [2, 3]);
        let target = |row, token, example| Target {
            row,
            token,
            example,
        };
        assert_eq!(
            batch.targets,
            [target(1, 6, 0), target(2, 8, 1), target(4, 3, 1)]
        );
        assert_eq!(batch.turns[..8], batch.turns[8..16]);
        assert_eq!(batch.turns[..2], [1.0, 1.0]);
        for (turn, back) in batch.turns.chunks(4).zip(batch.back.chunks(4)) {
            assert_eq!(
                (&turn[..2], turn[2], turn[3]),
                (&back[..2], -back[2], -back[3])
            );
        }
        let alone = Batch::new(&[&second], &[2], &rope);
        assert_eq!(batch.seeds[2..], alone.seeds);
        assert_ne!(batch.seeds[..2], batch.seeds[2..4]);
    }

    #[test]
    fn passes_hold_as_many_tokens_as_allowed() {
        let of = |length: usize| example(&vec![1; length], &[length - 1]);
        let examples = [of(4), of(5), of(2), of(20), of(3), of(6)];
        let examples: Vec<&Example> = examples.iter().collect();
        assert_eq!(passes(&examples, 9), [2, 1, 1, 2]);
        assert_eq!(passes(&examples, 1000), [6]);
        assert_eq!(passes(&examples, 1), [1; 6]);
        assert!(passes(&[], 9).is_empty());
    }
}
