//! The text of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::problem::{Position, Problem};

/// The largest file, in bytes. An object of a cluster is at most half of this.
const LARGEST: u64 = 3 * 1024 * 1024;

pub(crate) fn read(path: &Path) -> Result<String, Problem> {
    let refuse = |reason: &str, way_out: &str| Problem::of_file(path, reason, way_out);
    if path == Path::new("-") {
        return Err(refuse("standard input is not read", "name a file"));
    }
    let cannot = |e: std::io::Error| {
        refuse(
            &format!("cannot be read: {e}"),
            "name a YAML file that exists and is readable",
        )
    };
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err(refuse("a directory", "name the YAML files in it"));
    }
    if !metadata.is_file() {
        return Err(refuse("not a regular file", "name a YAML file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(refuse(
            "larger than 3 MiB",
            "no cluster takes an object of that size: let a source read the documents (directory, git, http)",
        ));
    }
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        Problem {
            position: Some(position_after(&e.as_bytes()[..valid])),
            ..refuse("not UTF-8", "save the file as UTF-8")
        }
    })
}

/// The position of what follows `before`, which is valid UTF-8.
fn position_after(before: &[u8]) -> Position {
    let text = String::from_utf8_lossy(before);
    let last = text.rsplit('\n').next().unwrap_or_default();
    Position {
        line: text.matches('\n').count() + 1,
        column: last.chars().count() + 1,
    }
}
