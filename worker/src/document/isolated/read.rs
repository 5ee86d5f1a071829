use std::borrow::Cow;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{Block, BlockKind, DocumentError, Format, Metadata, Parsed, ParsedDocument};

/// Between two blocks of a part, as its spans count.
const BETWEEN: usize = 2;

/// What was read of a file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// Its pages, slides or sheets, or itself.
    pub(super) parts: Vec<Part>,
    /// What had to be left out, each with the reason and the way out.
    pub(super) problems: Vec<String>,
}

/// A page, a slide, a sheet, or a document that has none of them.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) place: Option<Place>,
    pub(super) title: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) text: Vec<(BlockKind, String)>,
}

/// Where a part is in its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Place {
    /// A page's number, from 1.
    Page(u32),
    /// A slide's number, from 1.
    Slide(u32),
    /// A sheet's name.
    Sheet(String),
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Page(_) => "page",
            Self::Slide(_) => "slide",
            Self::Sheet(_) => "sheet",
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Page(number) | Self::Slide(number) => (*number).into(),
            Self::Sheet(name) => name.as_str().into(),
        }
    }

    /// `page=3`, `slide=3`, `sheet=Prices 2026`.
    fn part(&self) -> String {
        match self {
            Self::Page(number) | Self::Slide(number) => format!("{}={number}", self.name()),
            Self::Sheet(sheet) => format!("{}={sheet}", self.name()),
        }
    }

    /// The same in a URL.
    fn fragment(&self) -> String {
        match self {
            Self::Page(_) | Self::Slide(_) => self.part(),
            Self::Sheet(sheet) => format!("{}={}", self.name(), encoded(sheet)),
        }
    }
}

/// `text` without control characters other than tabs and line ends.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let unprintable = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
    match text.contains(unprintable) {
        true => Cow::Owned(text.replace(unprintable, "")),
        false => Cow::Borrowed(text),
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl Reading {
    /// The documents. Their spans count bytes of what was read of each part, a blank line between two blocks.
    ///
    /// # Errors
    /// When it cannot be what a parser says.
    pub(super) fn into_parsed(self, document: &str, format: Format) -> Result<Parsed, String> {
        let problems = self.problems.into_iter();
        let problems = problems.map(|reason| DocumentError::Unreadable {
            document: document.to_owned(),
            format,
            reason,
        });
        let documents: Result<_, String> =
            self.parts.into_iter().map(Part::into_document).collect();
        Ok(Parsed {
            documents: documents?,
            problems: problems.collect(),
        })
    }
}

impl Part {
    fn into_document(mut self) -> Result<ParsedDocument, String> {
        if let Some(place) = &self.place {
            let values = vec![place.value()];
            self.metadata.insert(place.name().to_owned(), values);
        }
        let content = Digest::of_json(&self).map_err(|error| error.to_string())?;
        let mut start = 0;
        let mut blocks = Vec::with_capacity(self.text.len());
        for (kind, text) in &self.text {
            if !is_sound(*kind, text) {
                return Err(format!("a block is unsound: {kind:?}"));
            }
            blocks.push(Block::verbatim(*kind, text, start));
            start += text.len() + BETWEEN;
        }
        Ok(ParsedDocument {
            part: self.place.as_ref().map(Place::part),
            title: self.title,
            uri: None,
            fragment: self.place.as_ref().map(Place::fragment),
            metadata: self.metadata,
            content,
            blocks,
        })
    }
}

/// What the rest relies on, from a process that may have been taken over.
fn is_sound(kind: BlockKind, text: &str) -> bool {
    let fits = match kind {
        BlockKind::Heading(level) => (1..=6).contains(&level),
        BlockKind::Table { header } => text.is_char_boundary(header),
        BlockKind::Paragraph | BlockKind::ListItem | BlockKind::Code => true,
    };
    fits && !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(text: Vec<(BlockKind, String)>) -> Reading {
        Reading {
            parts: vec![Part {
                place: Some(Place::Sheet("Prices & more/2026".to_owned())),
                title: Some("Book".to_owned()),
                text,
                ..Part::default()
            }],
            problems: vec!["sheet Old is left out".to_owned()],
        }
    }

    #[test]
    fn a_part_knows_its_place_and_its_spans() {
        let text = vec![
            (BlockKind::Heading(1), "Prices".to_owned()),
            (BlockKind::Table { header: 6 }, "a | b\n1 | 2".to_owned()),
        ];
        let parsed = sheet(text).into_parsed("b.xlsx", Format::Xlsx).unwrap();
        let document = &parsed.documents[0];
        assert_eq!(document.part.as_deref(), Some("sheet=Prices & more/2026"));
        assert_eq!(
            document.fragment.as_deref(),
            Some("sheet=Prices%20%26%20more%2F2026")
        );
        assert_eq!(document.metadata["sheet"], ["Prices & more/2026"]);
        let spans: Vec<_> = document.blocks.iter().map(Block::span).collect();
        assert_eq!(spans, [0..6, 8..19]);
        assert_eq!(
            parsed.problems[0].to_string(),
            "b.xlsx: not readable as XLSX: sheet Old is left out"
        );
    }

    #[test]
    fn what_no_parser_says_is_refused() {
        let unsound = [
            (BlockKind::Heading(7), "x"),
            (BlockKind::Table { header: 9 }, "a"),
            (BlockKind::Table { header: 1 }, "é"),
            (BlockKind::Paragraph, " \n"),
        ];
        for (kind, text) in unsound {
            let read = sheet(vec![(kind, text.to_owned())]).into_parsed("b", Format::Xlsx);
            assert!(read.is_err(), "{kind:?} {text:?}");
        }
    }

    #[test]
    fn the_same_bytes_have_the_same_digest_and_others_another() {
        let digest = |text: &str| {
            let blocks = vec![(BlockKind::Paragraph, text.to_owned())];
            let parsed = sheet(blocks).into_parsed("b", Format::Xlsx).unwrap();
            parsed.documents[0].content
        };
        assert_eq!(digest("a"), digest("a"));
        assert_ne!(digest("a"), digest("b"));
    }
}
