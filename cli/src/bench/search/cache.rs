//! Vectors that are computed once: a file for each model and set of texts, which grows by whole shards, so that who was
//! interrupted goes on where it stood.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use loci_digest::Digest;
use loci_models::{Encoder, Role};

use crate::bench::bar;

/// Texts embedded between two writes.
const SHARD: usize = 1024;

/// The vectors of the texts, row by row: those that the file in `directory` has, and the others computed and added to it.
///
/// # Errors
/// When the file cannot be read or written, or the model fails.
pub fn vectors(
    directory: &Path,
    encoder: &Encoder,
    role: Role,
    texts: &[String],
) -> Result<Vec<f32>> {
    let (kind, what) = match role {
        Role::Passage => ("passage", "passages"),
        Role::Query => ("query", "questions"),
    };
    let key = Digest::of_json(&("loci/bench/1", encoder.identity().digest(), kind, texts))?;
    fs::create_dir_all(directory)
        .with_context(|| format!("--cache {}: cannot be made", directory.display()))?;
    let path = directory.join(format!("{}.f32", key.to_hex()));
    let bar = bar(texts.len() as u64, "embedded").with_message(what);
    let row = 4 * encoder.dimensions();
    let bytes = complete(&path, row, texts.len(), |rows| {
        let end = texts.len().min(rows + SHARD);
        let shard: Vec<&str> = texts[rows..end].iter().map(String::as_str).collect();
        let made = encoder.embed(&shard, role, &mut |progress| {
            bar.set_position((rows + progress.texts) as u64);
            ControlFlow::Continue(())
        })?;
        Ok(made.vectors.iter().flat_map(|x| x.to_le_bytes()).collect())
    })?;
    bar.finish_and_clear();
    let (floats, _) = bytes.as_chunks::<4>();
    Ok(floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// The bytes of `rows` rows: what the file has, and what `more` makes from a row on, which is added to it.
fn complete(
    path: &Path,
    row: usize,
    rows: usize,
    mut more: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let failed = || format!("the cache {} cannot be used", path.display());
    let options = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = options.with_context(failed)?;
    // Two of us would write over one another.
    file.lock().with_context(failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(failed)?;
    // A row that was not written to its end does not count.
    let whole = (bytes.len() / row).min(rows) * row;
    bytes.truncate(whole);
    file.set_len(whole as u64).with_context(failed)?;
    file.seek(SeekFrom::End(0)).with_context(failed)?;
    while bytes.len() < rows * row {
        let made = more(bytes.len() / row)?;
        file.write_all(&made).with_context(failed)?;
        bytes.extend(made);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_off_is_completed_and_then_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.f32");
        // One row and a half.
        fs::write(&path, [1, 1, 1, 1, 9, 9]).unwrap();
        let mut asked = Vec::new();
        let bytes = complete(&path, 4, 3, |from| {
            asked.push(from);
            Ok(vec![from as u8; 4])
        });
        let wanted = [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2];
        assert_eq!(bytes.unwrap(), wanted);
        assert_eq!(asked, [1, 2]);
        assert_eq!(fs::read(&path).unwrap(), wanted);
        let again = complete(&path, 4, 3, |_| anyhow::bail!("all is there"));
        assert_eq!(again.unwrap(), wanted);
        let failed = complete(&path, 4, 4, |_| anyhow::bail!("no more"));
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), wanted);
    }
}
