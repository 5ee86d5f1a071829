//! A set of rows.

/// A fixed-size bit set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn new(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    pub(crate) fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    pub(crate) fn contains(&self, i: usize) -> bool {
        self.0
            .get(i / 64)
            .is_some_and(|word| word & (1 << (i % 64)) != 0)
    }

    /// The members from `start` to before `end`, ascending.
    pub(crate) fn range(&self, start: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        self.words(start, end).flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(at + bit)
            })
        })
    }

    /// How many members lie from `start` to before `end`.
    pub(crate) fn count(&self, start: usize, end: usize) -> usize {
        self.words(start, end)
            .map(|(_, word)| word.count_ones() as usize)
            .sum()
    }

    /// Words that overlap the range, each with its first position, cut to the range.
    fn words(&self, start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        (start / 64..end.div_ceil(64)).map(move |i| {
            let (at, mut word) = (i * 64, self.0.get(i).copied().unwrap_or(0));
            if start > at {
                word &= u64::MAX << (start - at);
            }
            if end < at + 64 {
                word &= !(u64::MAX << (end - at));
            }
            (at, word)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_agree_with_single_look_ups() {
        let mut bits = Bits::new(300);
        (0..300)
            .filter(|i| i % 7 == 0 || (100..170).contains(i))
            .for_each(|i| bits.insert(i));
        for (start, end) in [
            (0, 300),
            (1, 64),
            (63, 65),
            (64, 128),
            (105, 106),
            (130, 130),
            (0, 0),
            (290, 300),
        ] {
            let expected: Vec<_> = (start..end).filter(|&i| bits.contains(i)).collect();
            assert_eq!(bits.range(start, end).collect::<Vec<_>>(), expected);
            assert_eq!(bits.count(start, end), expected.len());
        }
        assert!(!bits.contains(1000));
    }
}
