//! Packing texts into batches of about equal work, without padding.

use super::bert::Sequences;
use crate::tokenizer::Tokens;

/// Tokens of a batch, which one thread computes. Enough to read the weights in less time than computing with them
/// takes, few enough that all threads end at about the same time and what they hold stays in their caches.
pub(super) const TOKENS: usize = 160;

/// Sequences computed together.
pub(super) struct Batch {
    /// Which texts, by their place among the tokenized ones.
    pub texts: Vec<usize>,
    /// Their token ids, one sequence after another.
    pub ids: Vec<u32>,
    /// Their lengths in tokens.
    pub lengths: Vec<usize>,
}

impl Batch {
    /// Its tokens, all of type 0.
    pub fn sequences(&self) -> Sequences<'_> {
        Sequences {
            ids: &self.ids,
            types: &[],
            lengths: &self.lengths,
        }
    }
}

/// Batches of at most [`TOKENS`] tokens (or of one longer text), the longest texts first, so that what is
/// left to the end is short.
pub(super) fn pack(texts: &[Tokens]) -> Vec<Batch> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(texts[i].ids.len()));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fitting = rest.iter().take_while(|&&i| {
            tokens += texts[i].ids.len();
            tokens <= TOKENS
        });
        let count = fitting.count().max(1);
        let (texts_of_batch, remaining) = rest.split_at(count);
        batches.push(Batch {
            texts: texts_of_batch.to_vec(),
            ids: texts_of_batch
                .iter()
                .flat_map(|&i| &texts[i].ids)
                .copied()
                .collect(),
            lengths: texts_of_batch.iter().map(|&i| texts[i].ids.len()).collect(),
        });
        rest = remaining;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_packed_once_within_the_budget() {
        let lengths = [2, 300, 60, 60, 50, 2, 160, 1];
        let texts: Vec<Tokens> = lengths
            .iter()
            .map(|&n| Tokens {
                ids: vec![n as u32; n],
                truncated: false,
            })
            .collect();
        let batches = pack(&texts);
        let mut seen: Vec<usize> = batches
            .iter()
            .flat_map(|batch| batch.texts.clone())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        for batch in &batches {
            assert!(batch.ids.len() <= TOKENS || batch.texts.len() == 1);
            let expected: Vec<u32> = batch
                .texts
                .iter()
                .flat_map(|&i| texts[i].ids.clone())
                .collect();
            assert_eq!(batch.ids, expected);
            let lengths: Vec<usize> = batch.texts.iter().map(|&i| lengths[i]).collect();
            assert_eq!(batch.lengths, lengths);
        }
        assert_eq!(batches.len(), 4);
    }
}
