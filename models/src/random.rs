//! Numbers drawn by SplitMix64 (Steele et al., 2014), so that a seed means the same in every version.

/// What the state grows by with each draw: 2^64 divided by the golden ratio.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is drawn at a state.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One seed out of a seed and what it is used for, so that no two uses draw the same numbers.
pub(crate) fn derived(seed: u64, uses: &[u64]) -> u64 {
    let both = |seed: u64, part: &u64| mix(seed.wrapping_add(STEP) ^ *part);
    uses.iter().fold(mix(seed), both)
}

/// The numbers of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// From [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to `count - 1`. Some come up more often than others by one part in 2^64 / count.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.draw()) * count as u128) >> 64) as usize
    }

    /// Puts `items` into an order in which every one is as likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the authors' own code for the seed 1234567.
    #[test]
    fn draws_are_those_of_the_published_generator() {
        let mut draws = Draws::new(1_234_567);
        let want = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([draws.draw(), draws.draw(), draws.draw()], want);
    }

    #[test]
    fn orders_are_whole_and_every_place_is_as_likely() {
        let mut draws = Draws::new(3);
        let mut counts = [[0u32; 5]; 5];
        for _ in 0..5000 {
            let mut items = [0, 1, 2, 3, 4];
            draws.shuffle(&mut items);
            for (place, item) in items.into_iter().enumerate() {
                counts[item][place] += 1;
            }
        }
        for row in counts {
            assert_eq!(row.iter().sum::<u32>(), 5000);
            assert!(row.iter().all(|count| (850..1150).contains(count)));
        }
        draws.shuffle::<u8>(&mut []);
        assert_eq!(draws.below(1), 0);
    }

    #[test]
    fn seeds_of_different_uses_differ() {
        let seeds = [
            derived(0, &[]),
            derived(0, &[0]),
            derived(0, &[0, 0]),
            derived(0, &[1]),
            derived(1, &[0]),
            derived(1, &[0, 1]),
            derived(1, &[1, 0]),
        ];
        for (i, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..i].contains(seed), "{i}");
        }
    }
}
