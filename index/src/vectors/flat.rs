//! Flat vector segments: numbers, hashes and vectors of passages, memory-mapped.
//!
//! Little-endian. 64 bytes of header: the magic, then dimensions and rows as u64, the rest 0.
//! Then `rows` uids (u64, ascending), `rows` chunk hashes (32 bytes), zeros up to a multiple
//! of 64 bytes, and `rows` x `dimensions` f32.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use loci_digest::Digest;
use memmap2::Mmap;

use crate::error::{IndexError, Result, io_at};

#[cfg(target_endian = "big")]
compile_error!("vector segments are little-endian and mapped as they are");

const MAGIC: &[u8; 8] = b"LOCIVEC1";
const HEADER: usize = 64;

/// A row to write.
pub(crate) struct FlatRow<'a> {
    pub(crate) uid: u64,
    pub(crate) hash: Digest,
    pub(crate) vector: &'a [f32],
}

/// Writes `rows`, which have ascending uids and `dimensions` numbers each.
pub(crate) fn write(path: &Path, dimensions: usize, rows: &[FlatRow<'_>]) -> Result<()> {
    let file = File::create_new(path).map_err(io_at("create", path))?;
    write_to(BufWriter::with_capacity(1 << 20, file), dimensions, rows)
        .map_err(io_at("write", path))
}

fn write_to(mut out: impl Write, dimensions: usize, rows: &[FlatRow<'_>]) -> io::Result<()> {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&(dimensions as u64).to_le_bytes());
    header[16..24].copy_from_slice(&(rows.len() as u64).to_le_bytes());
    out.write_all(&header)?;
    for row in rows {
        out.write_all(&row.uid.to_le_bytes())?;
    }
    for row in rows {
        out.write_all(row.hash.as_bytes())?;
    }
    let written = HEADER + rows.len() * 40;
    out.write_all(&[0; 64][..written.next_multiple_of(64) - written])?;
    for row in rows {
        // SAFETY: any initialised memory may be read as bytes, which have no alignment.
        let (_, bytes, _) = unsafe { row.vector.align_to::<u8>() };
        out.write_all(bytes)?;
    }
    out.flush()
}

/// An opened segment.
pub(crate) struct Flat {
    map: Mmap,
    rows: usize,
    dimensions: usize,
}

impl Flat {
    /// Maps `file` of `dir` and checks that its length is what its header says.
    pub(crate) fn open(dir: &Path, file: &str, dimensions: usize) -> Result<Self> {
        let damaged = |reason: String| IndexError::Damaged {
            dir: dir.to_owned(),
            file: file.to_owned(),
            reason,
        };
        let path = dir.join(file);
        let opened = File::open(&path).map_err(io_at("open", &path))?;
        // SAFETY: files of a revision are never written again.
        let map = unsafe { Mmap::map(&opened) }.map_err(io_at("map", &path))?;
        let number = |at: usize| {
            map.get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_le_bytes)
        };
        let (Some(b"LOCIVEC1"), Some(found), Some(rows)) = (map.get(..8), number(8), number(16))
        else {
            return Err(damaged("it is not a vector segment".into()));
        };
        if found != dimensions as u64 {
            return Err(damaged(format!(
                "its vectors have {found} dimensions, the revision's {dimensions}"
            )));
        }
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let length = rows
            .checked_mul(40)
            .and_then(|n| n.checked_add(HEADER))
            .and_then(|n| n.checked_next_multiple_of(64));
        let length =
            length.and_then(|n| n.checked_add(rows.checked_mul(dimensions)?.checked_mul(4)?));
        if length != Some(map.len()) {
            return Err(damaged(format!(
                "{} bytes do not hold the {rows} rows that its header promises",
                map.len()
            )));
        }
        let flat = Self {
            map,
            rows,
            dimensions,
        };
        if !flat.uids().is_sorted_by(|a, b| a < b) {
            return Err(damaged("its uids do not ascend".into()));
        }
        Ok(flat)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn uids(&self) -> &[u64] {
        let bytes = self
            .map
            .get(HEADER..HEADER + self.rows * 8)
            .unwrap_or_default();
        // SAFETY: every bit pattern is a u64; the map starts at a page, so the part is aligned.
        unsafe { bytes.align_to().1 }
    }

    pub(crate) fn hash(&self, row: usize) -> Digest {
        let at = HEADER + self.rows * 8 + row * 32;
        let mut hash = [0; 32];
        hash.copy_from_slice(&self.map[at..at + 32]);
        hash.into()
    }

    pub(crate) fn vector(&self, row: usize) -> &[f32] {
        let vectors = self.map.len() - self.rows * self.dimensions * 4;
        let at = vectors + row * self.dimensions * 4;
        // SAFETY: every bit pattern is an f32; the map starts at a page, so the part is aligned.
        unsafe { self.map[at..at + self.dimensions * 4].align_to().1 }
    }

    /// The row of `uid`.
    pub(crate) fn find(&self, uid: u64) -> Option<usize> {
        self.uids().binary_search(&uid).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_other_lengths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vec");
        let vectors: Vec<Vec<f32>> = (0..5).map(|i| vec![i as f32; 3]).collect();
        let rows: Vec<_> = (0u64..)
            .zip(&vectors)
            .map(|(i, v)| FlatRow {
                uid: 10 * i,
                hash: Digest::of([i as u8]),
                vector: v,
            })
            .collect();
        write(&path, 3, &rows).unwrap();
        let flat = Flat::open(dir.path(), "a.vec", 3).unwrap();
        assert_eq!(flat.uids(), [0, 10, 20, 30, 40]);
        assert_eq!(flat.find(30), Some(3));
        assert_eq!(flat.find(31), None);
        assert_eq!(
            (flat.hash(4), flat.vector(4)),
            (Digest::of([4]), [4.0; 3].as_slice())
        );

        assert!(Flat::open(dir.path(), "a.vec", 4).is_err());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(dir.path().join("b.vec"), &bytes[..bytes.len() - 1]).unwrap();
        let error = Flat::open(dir.path(), "b.vec", 3)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("b.vec") && error.contains("5 rows"),
            "{error}"
        );
    }
}
