//! Real documents for measurements: pieces of the Markdown and text files below a directory.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Bytes of a piece, about: three to four hundred tokens at most, so that models see whole texts.
const PIECE: usize = 900;
/// Shorter pieces say too little.
const LEAST: usize = 300;
/// Pieces of one file at most, so that none dominates.
const OF_ONE: usize = 8;

/// The first `wanted` pieces, no two alike, in an order that depends on the files' names and contents alone.
///
/// # Errors
/// When the directory cannot be read or holds too little.
pub fn read(directory: &Path, wanted: usize) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let prose = |path: &Path| path.extension().is_some_and(|e| e == "md" || e == "txt");
    find(directory, &prose, &mut files)
        .with_context(|| format!("--documents {}: cannot be read", directory.display()))?;
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for file in files {
        // A file that is no text is left out, as a source would.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let new = pieces(&text).filter(|piece| seen.insert(piece.clone()));
        found.extend(new.take(OF_ONE));
        if found.len() >= wanted {
            found.truncate(wanted);
            return Ok(found);
        }
    }
    bail!(
        "--documents {}: only {} pieces of text, and {wanted} are wanted: name a directory with more .md and .txt files",
        directory.display(),
        found.len()
    )
}

/// Adds the files below a directory that are `wanted`, in the order of their names; links are not followed.
pub fn find(
    directory: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            find(&path, wanted, files)?;
        } else if kind.is_file() && wanted(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Runs of whole paragraphs.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    let mut pieces = vec![String::new()];
    for paragraph in text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()) {
        match pieces.last_mut() {
            Some(last) if last.len() + paragraph.len() <= PIECE => {
                last.push_str("\n\n");
                last.push_str(paragraph);
            }
            _ => pieces.push(paragraph.to_owned()),
        }
    }
    pieces
        .into_iter()
        .map(|piece| piece.trim().to_owned())
        .filter(|piece| (LEAST..=2 * PIECE).contains(&piece.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_paragraphs_and_never_alike() {
        let dir = tempfile::tempdir().unwrap();
        let paragraph = |c: &str| c.repeat(400);
        let text = ["a", "b", "c", "c"].map(paragraph).join("\n\n");
        for name in ["one.md", "two.md", "three.rs"] {
            fs::write(dir.path().join(name), &text).unwrap();
        }
        let found = read(dir.path(), 2).unwrap();
        assert_eq!(
            found,
            [
                [paragraph("a"), paragraph("b")].join("\n\n"),
                [paragraph("c"), paragraph("c")].join("\n\n"),
            ]
        );
        let error = read(dir.path(), 3).unwrap_err().to_string();
        assert!(error.contains("only 2 pieces"), "{error}");
    }
}
