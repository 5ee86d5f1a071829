//! When segments merge.
//!
//! Segments stand oldest (or largest) first. A new segment merges with those before it that
//! are less than twice its size, as carries run through a binary counter: there are about
//! log2(n) segments and each passage is rewritten about log2(n) times in its life. A segment
//! of which more than a third is dead is rewritten, so that a revision takes at most about
//! one and a half times the space of a fresh one.

use std::ops::Range;

/// Live and dead entries of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) live: u64,
    pub(crate) dead: u64,
}

/// Which segments merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merging {
    /// Those that are due.
    Tiers,
    /// All, into one without anything dead.
    All,
}

impl Merging {
    /// The runs of adjacent segments (as ranges of positions) that become one segment each.
    pub(crate) fn runs(self, sizes: &[Size]) -> Vec<Range<usize>> {
        match self {
            Self::Tiers => merges(sizes),
            Self::All if sizes.len() > 1 || sizes.iter().any(|size| size.dead > 0) => {
                std::iter::once(0..sizes.len()).collect()
            }
            Self::All => Vec::new(),
        }
    }
}

fn merges(sizes: &[Size]) -> Vec<Range<usize>> {
    let mut tail = sizes.len();
    let mut merged = 0;
    while tail > 0 && (tail == sizes.len() || sizes[tail - 1].live < 2 * merged) {
        tail -= 1;
        merged += sizes[tail].live.max(1);
    }
    let stale = |size: &Size| size.dead > 0 && size.dead * 2 > size.live;
    let mut runs: Vec<_> = (0..tail)
        .filter(|&i| stale(&sizes[i]))
        .map(|i| i..i + 1)
        .collect();
    if sizes.len() - tail > 1 || sizes[tail..].iter().any(stale) {
        runs.push(tail..sizes.len());
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(live: u64) -> Size {
        Size { live, dead: 0 }
    }

    #[test]
    fn segments_stay_few_and_rewrites_rare() {
        let mut sizes: Vec<Size> = vec![live(100_000)];
        let mut rewritten = 0;
        for _ in 0..1000 {
            sizes.push(live(100));
            for run in merges(&sizes).into_iter().rev() {
                let sum: u64 = sizes[run.clone()].iter().map(|s| s.live).sum();
                rewritten += sum;
                sizes.splice(run, [live(sum)]);
            }
            assert!(sizes.len() <= 12, "{sizes:?}");
        }
        assert_eq!(sizes.iter().map(|s| s.live).sum::<u64>(), 200_000);
        assert!(rewritten < 1_500_000, "{rewritten}");
    }

    #[test]
    fn stale_segments_are_rewritten_where_they_stand() {
        let runs = |sizes: &[Size]| -> Vec<(usize, usize)> {
            merges(sizes)
                .into_iter()
                .map(|run| (run.start, run.end))
                .collect()
        };
        let dying = |live, dead| Size { live, dead };
        assert!(runs(&[]).is_empty());
        assert!(runs(&[live(5)]).is_empty());
        assert_eq!(runs(&[dying(5, 3)]), [(0, 1)]);
        assert_eq!(runs(&[dying(900, 600), live(80), live(20)]), [(0, 1)]);
        assert_eq!(runs(&[live(900), dying(0, 10), live(20)]), [(1, 3)]);
        assert_eq!(runs(&[live(900), live(1), live(1), live(1)]), [(1, 4)]);
    }

    #[test]
    fn all_become_one_unless_they_are() {
        let dying = Size { live: 5, dead: 1 };
        let runs = |sizes: &[Size]| -> Vec<(usize, usize)> {
            let runs = Merging::All.runs(sizes).into_iter();
            runs.map(|run| (run.start, run.end)).collect()
        };
        assert!(runs(&[]).is_empty() && runs(&[live(5)]).is_empty());
        assert_eq!(runs(&[dying]), [(0, 1)]);
        assert_eq!(runs(&[live(900), live(1), dying]), [(0, 3)]);
    }
}
