//! Formats that are no text: PDF and Office files.
//!
//! Their parsers are libraries that meet whatever people upload. Each document is parsed in a process of its own, which
//! bounds its own memory and processor time, opens nothing, and is killed at a deadline: a crash, a bomb or an endless
//! loop costs that document alone. [`Parsers`] is the side that asks, [`answer`] the side that parses.

mod child;
mod office;
mod outcome;
mod pdf;
mod process;
mod read;

pub use child::{Bounds, answer};
pub use process::{ParserError, ParserLimits, Parsers};

use super::Format;
use read::Reading;

/// What the process that parses says.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    /// The document.
    Read(Reading),
    /// Why it is not readable, and the way out.
    Refused(String),
}

/// Parses `bytes` in this process. Deterministic.
fn parse(format: Format, bytes: &[u8]) -> Answer {
    let read = match format {
        Format::Pdf => pdf::parse(bytes),
        Format::Docx => office::document(bytes),
        Format::Pptx => office::presentation(bytes),
        Format::Xlsx => office::workbook(bytes),
    };
    match read {
        Ok(reading) => Answer::Read(reading),
        Err(reason) => Answer::Refused(reason),
    }
}
