//! Memory in cache lines, and matrices in it.

use std::ops::Range;

use crate::kernels::rows::tile::{LINE, Line, Shape};

/// No lines, with room for `count`: on huge pages where the system has some, so that a pass over all weights does not
/// miss a translation at every few of them.
pub(crate) fn reserved(count: usize) -> Vec<Line> {
    let mut lines = Vec::with_capacity(count);
    #[cfg(target_os = "linux")]
    advise(&mut lines);
    lines
}

/// `count` lines of zeros.
pub(crate) fn zeroed(count: usize) -> Vec<Line> {
    let mut lines = reserved(count);
    lines.resize(count, Line::ZERO);
    lines
}

/// Asks for huge pages in the whole ones that the vector's memory has. Systems may decline.
#[cfg(target_os = "linux")]
fn advise(lines: &mut Vec<Line>) {
    /// The size of a huge page; a multiple of it where they are larger.
    const HUGE: usize = 2 << 20;
    let start = lines.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(HUGE);
    let bytes = lines.capacity() * size_of::<Line>();
    let whole = bytes.saturating_sub(skipped) / HUGE * HUGE;
    if whole > 0 {
        use rustix::mm::{Advice, madvise};
        // SAFETY: the pages belong to the vector's allocation alone, and the advice changes nothing in them.
        let _ = unsafe { madvise(start.add(skipped).cast(), whole, Advice::LinuxHugepage) };
    }
}

/// The elements of lines, one after another.
pub(crate) fn flat(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is LINE elements and nothing else.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

/// A matrix in whole lines, whose memory is kept when it gets other rows.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub data: Vec<Line>,
    /// Of a row.
    pub lines: usize,
    /// Rows of a tile.
    pub height: usize,
    /// Whether the rows' lines lie side by side within a tile, as products read them; else row after row.
    tiled: bool,
}

impl Matrix {
    /// In tiles, for rows of `columns` columns.
    pub fn tiled(shape: Shape, lines: usize) -> Self {
        let (data, height) = (Vec::new(), shape.rows);
        Self {
            data,
            lines,
            height,
            tiled: true,
        }
    }

    /// Row after row.
    pub fn plain(shape: Shape, lines: usize) -> Self {
        let tiled = false;
        Self {
            tiled,
            ..Self::tiled(shape, lines)
        }
    }

    /// Makes room for so many rows. What is new is 0; what was there keeps its place.
    pub fn fit(&mut self, rows: usize) {
        let needed = rows.div_ceil(self.height) * self.tile();
        if self.data.len() < needed {
            let mut grown = zeroed(needed);
            grown[..self.data.len()].copy_from_slice(&self.data);
            self.data = grown;
        }
    }

    /// Lines of a tile.
    pub fn tile(&self) -> usize {
        self.height * self.lines
    }

    /// From one row to the next, and from one line of a row to the next.
    pub fn steps(&self) -> (usize, usize) {
        if self.tiled {
            (1, self.height)
        } else {
            (self.lines, 1)
        }
    }

    /// Where a line of a row is.
    pub fn at(&self, row: usize, line: usize) -> usize {
        let (across, along) = self.steps();
        row / self.height * self.tile() + row % self.height * across + line * along
    }

    /// The lines of tiles.
    pub fn tiles(&self, tiles: Range<usize>) -> &[Line] {
        &self.data[tiles.start * self.tile()..tiles.end * self.tile()]
    }

    /// The elements of a row, and what fills its last line; of a matrix that lies row after row.
    pub fn row(&self, row: usize) -> &[f32] {
        assert!(!self.tiled);
        flat(&self.data[row * self.lines..][..self.lines])
    }

    /// Where to write from several threads.
    pub fn shared(&mut self) -> Shared {
        let (across, along) = self.steps();
        Shared {
            start: self.data.as_mut_ptr(),
            lines: self.data.len(),
            tile: self.tile(),
            height: self.height,
            across,
            along,
        }
    }
}

/// A matrix of which several threads write disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    start: *mut Line,
    lines: usize,
    tile: usize,
    height: usize,
    pub across: usize,
    pub along: usize,
}

// SAFETY: those who write through it answer for the parts being disjoint.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// A line of a row.
    pub fn line(self, row: usize, line: usize) -> *mut Line {
        let at =
            row / self.height * self.tile + row % self.height * self.across + line * self.along;
        assert!(at < self.lines);
        self.start.wrapping_add(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { rows: 4, lines: 2 };

    #[test]
    fn every_line_of_every_row_has_a_place_of_its_own() {
        for mut matrix in [Matrix::tiled(SHAPE, 3), Matrix::plain(SHAPE, 3)] {
            matrix.fit(10);
            assert_eq!(matrix.data.len(), 36);
            let mut seen = [false; 36];
            for (row, line) in (0..12).flat_map(|row| (0..3).map(move |line| (row, line))) {
                let at = matrix.at(row, line);
                assert!(!std::mem::replace(&mut seen[at], true));
                let shared = matrix.shared();
                assert_eq!(shared.line(row, line), &raw mut matrix.data[at]);
            }
            matrix.data[35].0[15] = 3.0;
            matrix.fit(13);
            assert_eq!((matrix.data.len(), matrix.data[35].0[15]), (48, 3.0));
            matrix.fit(1);
            assert_eq!(matrix.data.len(), 48);
        }
    }

    #[test]
    fn memory_is_aligned_and_of_zeros() {
        for count in [0, 1, 100_000] {
            let lines = zeroed(count);
            assert_eq!(lines.len(), count);
            assert!(lines.as_ptr().cast::<u8>().align_offset(64) == 0);
            assert!(flat(&lines).iter().all(|v| *v == 0.0));
        }
    }
}
