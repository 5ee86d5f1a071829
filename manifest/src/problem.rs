//! What is wrong with a manifest, and where.

use std::fmt::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing that is wrong: `pipeline.yaml:12:5: spec.sorces: unknown field; did you mean "sources"?`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{}{}", Place { file, position, field }, Text { reason, way_out })]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Where in the file; absent when the file could not be read.
    pub position: Option<Position>,
    /// The path of the field, such as `spec.sources[1].git.url`; absent when the document as a whole is wrong.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it, where the reason does not say so itself.
    pub way_out: Option<String>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub(crate) fn of_file(
        file: impl Into<PathBuf>,
        reason: impl Into<String>,
        way_out: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            position: None,
            field: None,
            reason: reason.into(),
            way_out: Some(way_out.into()),
        }
    }
}

/// Something worth knowing that is not wrong: a document that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Where in the file.
    pub position: Option<Position>,
    /// What there is to know.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Place {
            file: &self.file,
            position: &self.position,
            field: &None,
        };
        write!(f, "{place}")?;
        printable(&self.text, f)
    }
}

struct Place<'a> {
    file: &'a PathBuf,
    position: &'a Option<Position>,
    field: &'a Option<String>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(field) = self.field {
            write!(f, ": {field}")?;
        }
        f.write_str(": ")
    }
}

struct Text<'a> {
    reason: &'a str,
    way_out: &'a Option<String>,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printable(self.reason, f)?;
        if let Some(way_out) = self.way_out {
            f.write_str("; ")?;
            printable(way_out, f)?;
        }
        Ok(())
    }
}

/// What a file holds must not steer a terminal: control characters are escaped.
fn printable(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| match c.is_control() {
        true => write!(f, "{}", c.escape_default()),
        false => f.write_char(c),
    })
}
