//! Where an object was read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::node::Node;
use crate::problem::{Position, Problem};

/// An object and where it was read.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The object.
    pub object: T,
    pub(crate) origin: Origin,
}

impl<T> Loaded<T> {
    /// The file, as it was named.
    pub fn file(&self) -> &Path {
        &self.origin.file
    }

    /// The directory that relative paths of the object start at: that of its file.
    pub fn directory(&self) -> &Path {
        match self.origin.file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Where a field is written: a scalar at its value, a list or mapping at its key. A path is written as
    /// `spec.sources[1].git.url`; a key that is no plain name as `data["faq.jsonl"]`; the whole object as the empty path.
    pub fn locate(&self, field: &str) -> Option<Position> {
        self.origin.positions.get(field).copied()
    }

    /// A problem of a field, placed at the field or, when it is not written, at the nearest that encloses it.
    pub fn problem(
        &self,
        field: &str,
        reason: impl Into<String>,
        way_out: Option<String>,
    ) -> Problem {
        self.origin.problem(field, reason, way_out)
    }
}

/// The file and the places of the fields of one document.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub file: PathBuf,
    positions: BTreeMap<String, Position>,
}

impl Origin {
    pub fn new(file: &Path, document: &Node) -> Self {
        Self {
            file: file.to_owned(),
            positions: document.positions(),
        }
    }

    pub fn problem(
        &self,
        field: &str,
        reason: impl Into<String>,
        way_out: Option<String>,
    ) -> Problem {
        Problem {
            file: self.file.clone(),
            position: self.nearest(field),
            field: Some(field.to_owned()).filter(|f| !f.is_empty()),
            reason: reason.into(),
            way_out,
        }
    }

    /// `pipeline.yaml:4:9`, the place of a field.
    pub fn place(&self, field: &str) -> String {
        let file = self.file.display();
        match self.nearest(field) {
            Some(Position { line, column }) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        }
    }

    fn nearest(&self, field: &str) -> Option<Position> {
        let mut path = field;
        loop {
            match self.positions.get(path) {
                Some(position) => return Some(*position),
                None if path.is_empty() => return None,
                None => path = parent(path),
            }
        }
    }
}

/// The path of what encloses a field; empty for the whole document.
fn parent(path: &str) -> &str {
    let end = if path.ends_with("\"]") {
        path.rfind("[\"")
    } else if path.ends_with(']') {
        path.rfind('[')
    } else {
        path.rfind('.')
    };
    &path[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::parent;

    #[test]
    fn a_path_has_a_parent() {
        assert_eq!(parent("spec.sources[1].git.url"), "spec.sources[1].git");
        assert_eq!(parent("spec.sources[1]"), "spec.sources");
        assert_eq!(parent("data[\"faq.jsonl\"]"), "data");
        assert_eq!(parent("spec"), "");
    }
}
