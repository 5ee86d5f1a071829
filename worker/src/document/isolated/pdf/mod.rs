//! PDF (ISO 32000): the text of each page, as it is laid out.

mod pages;
#[cfg(test)]
mod tests;
mod text;

use pdf_extract::{Dictionary, Document, Object, decode_text_string};

use super::read::{Part, Place, Reading, printable};
use crate::document::Metadata;

/// A PDF begins with its header, or with a little of something else (ISO 32000-1, annex H).
const HEADER: &[u8] = b"%PDF-";
const BEFORE_HEADER: usize = 1024;

/// The entries of its information dictionary that are kept, and what they are called here.
const INFORMATION: [(&[u8], &str); 3] = [
    (b"Author", "author"),
    (b"Subject", "subject"),
    (b"Keywords", "keywords"),
];

/// Reads `bytes`, or says why they cannot be read, and the way out.
///
/// A file that any reader opens without asking for a password is read, though it is encrypted.
pub(super) fn parse(bytes: &[u8]) -> Result<Reading, String> {
    let head = &bytes[..bytes.len().min(BEFORE_HEADER + HEADER.len())];
    if !head.windows(HEADER.len()).any(|found| found == HEADER) {
        return Err("it does not begin as a PDF; correct its name, or exclude it".to_owned());
    }
    let mut document = Document::load_mem(bytes).map_err(|error| damaged(&error))?;
    if document.trailer.get(b"Encrypt").is_ok() {
        return Err("it is encrypted; save it without a password, or exclude it".to_owned());
    }
    let information = information(&document);
    let stated = |key: &[u8]| stated(&document, information?, key);
    let title = stated(b"Title");
    let mut metadata = Metadata::new();
    for (key, name) in INFORMATION {
        if let Some(value) = stated(key) {
            metadata.insert(name.to_owned(), vec![value.into()]);
        }
    }
    let pages = pages::flatten(&mut document)?;
    let (texts, failures) = text::extract(&mut document, &pages);
    let parts = (1..).zip(texts).filter_map(|(number, text)| {
        let text = text::blocks(&printable(&text));
        (!text.is_empty()).then(|| Part {
            place: Some(Place::Page(number)),
            title: title.clone(),
            metadata: metadata.clone(),
            text,
        })
    });
    let parts: Vec<Part> = parts.collect();
    if parts.is_empty() && failures.is_empty() {
        return Err(
            "its pages have no text, as scans have; recognise their text (OCR), or exclude it"
                .to_owned(),
        );
    }
    let problems = failures.into_iter().map(|(index, reason)| {
        format!(
            "page {} is read in part: {reason}; save it anew with another program, or leave it so",
            index + 1
        )
    });
    Ok(Reading {
        parts,
        problems: problems.collect(),
    })
}

fn damaged(error: &impl std::fmt::Display) -> String {
    format!("it is damaged: {error}; save it anew, or exclude it")
}

fn information(document: &Document) -> Option<&Dictionary> {
    let information = document.trailer.get_deref(b"Info", document).ok()?;
    information.as_dict().ok()
}

/// What a PDF states in words.
fn stated(document: &Document, information: &Dictionary, key: &[u8]) -> Option<String> {
    let value: &Object = information.get_deref(key, document).ok()?;
    let text = decode_text_string(value).ok()?;
    let text = printable(text.trim_start_matches('\u{feff}'))
        .trim()
        .to_owned();
    (!text.is_empty()).then_some(text)
}
