//! Documents: bytes of a known media type, parsed into blocks that know where they came from.
//!
//! Text is parsed here, by [`parse`]; PDF and Office files in a process of their own, by [`Parsers`].

mod block;
mod html;
pub mod isolated;
mod jsonl;
mod markdown;
mod media;
mod metadata;
mod text;

use std::collections::BTreeMap;

use loci_digest::Digest;
use serde_json::Value;

pub use block::{Block, BlockKind};
pub use isolated::{ParserError, ParserLimits, Parsers};
pub(crate) use jsonl::reason as json_reason;
pub(crate) use markdown::front_matter;
pub use media::{Format, Media};

/// Metadata of a document: each key has one or more scalars (text, integer or boolean).
pub type Metadata = BTreeMap<String, Vec<Value>>;

/// What is known about a document before it is read.
#[derive(Clone, Copy, Debug)]
pub struct ParseContext<'a> {
    /// Its name within the source; named in errors.
    pub document: &'a str,
}

/// One document, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedDocument {
    /// Set where one file holds many documents: in JSON Lines the document's `id`, else `L` and its
    /// line number; `page=3`, `slide=3`, `sheet=Prices` in the formats that have such.
    pub part: Option<String>,
    /// The title that the document states: front matter, first heading of level 1, `<title>`, `title`,
    /// the properties of PDF and Office files.
    pub title: Option<String>,
    /// The location that the document states for itself (JSON Lines: `uri`).
    pub uri: Option<String>,
    /// What leads to it within its file, as the fragment of a URL (RFC 8118 for PDF: `page=3`).
    pub fragment: Option<String>,
    /// Front matter of Markdown, `<meta>` and `lang` of HTML, `metadata` of JSON Lines, properties of
    /// PDF and Office files with the number of the page or slide or the name of the sheet.
    pub metadata: Metadata,
    /// Digest of the bytes it was parsed from: the file's, or its line's; of what was read of a page,
    /// slide or sheet.
    pub content: Digest,
    /// Its text, in order.
    pub blocks: Vec<Block>,
}

/// All documents of one file, and what had to be left out.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The documents, in order.
    pub documents: Vec<ParsedDocument>,
    /// Parts that were skipped: bad lines of JSON Lines, unreadable front matter, pages and sheets.
    pub problems: Vec<DocumentError>,
}

/// Why a document, or a part of one, cannot be read. It is skipped; the rest of its source is kept.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not text at all.
    #[error(
        "{document}: looks like a binary file ({reason}), not {media}; exclude it from the source"
    )]
    Binary {
        /// The document.
        document: String,
        /// What it was read as.
        media: Media,
        /// What gave it away.
        reason: String,
    },
    /// Text in another encoding, or damaged.
    #[error("{document}: not valid UTF-8 at byte {offset}; convert it to UTF-8 or exclude it")]
    Encoding {
        /// The document.
        document: String,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// Front matter that is not a YAML mapping.
    #[error(
        "{document}: front matter left out: {reason}; write `key: value` lines between the `---` lines"
    )]
    FrontMatter {
        /// The document.
        document: String,
        /// What YAML says.
        reason: String,
    },
    /// A line of JSON Lines that is not a document.
    #[error(
        "{document}, line {line}: {reason}; each line is a JSON object with `text` and optionally `id`, `title`, `uri`, `metadata`"
    )]
    Line {
        /// The document.
        document: String,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A PDF or Office file, or a part of one, that its parser refuses or fails on.
    #[error("{document}: not readable as {format}: {reason}")]
    Unreadable {
        /// The document.
        document: String,
        /// What it was read as.
        format: Format,
        /// Why not, and the way out.
        reason: String,
    },
    /// A parser that was stopped for a reason that need not be the document's.
    #[error("{document}: reading it as {format} {reason}")]
    Stopped {
        /// The document.
        document: String,
        /// What it was read as.
        format: Format,
        /// Why, and what comes of it.
        reason: String,
    },
    /// HTML that the parser gave up on.
    #[error("{document}: not readable as HTML: {reason}; correct it or exclude it")]
    Html {
        /// The document.
        document: String,
        /// What the parser says.
        reason: String,
    },
}

impl DocumentError {
    /// Whether the same bytes may be readable at another time.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }
}

/// Parses `bytes` as `media`, which is text.
///
/// Spans are byte ranges of `bytes`, a byte order mark included.
///
/// # Errors
/// When the bytes are not UTF-8 text, or of a [`Format`]. Lesser faults are among [`Parsed::problems`].
pub fn parse(
    media: Media,
    bytes: &[u8],
    context: &ParseContext<'_>,
) -> Result<Parsed, DocumentError> {
    if let Some(format) = Format::of(media, bytes) {
        return Err(DocumentError::Unreadable {
            document: context.document.to_owned(),
            format,
            reason: "its parser needs a process of its own".to_owned(),
        });
    }
    let input = text::decode(media, bytes, context)?;
    match media {
        Media::Markdown => Ok(markdown::parse(&input, context)),
        Media::Html => html::parse(&input, context),
        Media::Jsonl => Ok(jsonl::parse(&input, context)),
        // The others were refused above.
        Media::Text | Media::Pdf | Media::Docx | Media::Pptx | Media::Xlsx => {
            Ok(text::parse(&input))
        }
    }
}

/// A document's text and where it starts in the bytes (after a byte order mark).
struct Input<'a> {
    text: &'a str,
    start: usize,
    content: Digest,
}

impl Input<'_> {
    fn document(&self, blocks: Vec<Block>) -> ParsedDocument {
        ParsedDocument {
            part: None,
            title: None,
            uri: None,
            fragment: None,
            metadata: Metadata::new(),
            content: self.content,
            blocks,
        }
    }
}
