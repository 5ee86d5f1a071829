//! Office Open XML (ECMA-376): ZIP archives of XML parts.

mod docx;
mod package;
mod pptx;
mod properties;
mod styles;
mod table;
#[cfg(test)]
mod tests;
mod xlsx;
mod xml;

use super::read::Reading;
use crate::document::Format;
use package::Package;

/// Reads a Word document, or says why it cannot be read, and the way out.
pub(super) fn document(bytes: &[u8]) -> Result<Reading, String> {
    let (mut package, main) = open(Format::Docx, bytes)?;
    docx::parse(&mut package, &main)
}

/// The same of a PowerPoint presentation.
pub(super) fn presentation(bytes: &[u8]) -> Result<Reading, String> {
    let (mut package, main) = open(Format::Pptx, bytes)?;
    pptx::parse(&mut package, &main)
}

/// The same of an Excel workbook.
pub(super) fn workbook(bytes: &[u8]) -> Result<Reading, String> {
    let (mut package, _) = open(Format::Xlsx, bytes)?;
    xlsx::parse(&mut package, bytes)
}

fn open(format: Format, bytes: &[u8]) -> Result<(Package<'_>, String), String> {
    let mut package = Package::open(bytes)?;
    let main = package.main(format)?;
    Ok((package, main))
}
