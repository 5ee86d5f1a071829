use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a document is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// CommonMark with tables, footnotes and YAML front matter.
    Markdown,
    /// HTML.
    Html,
    /// Plain text, paragraphs between blank lines.
    Text,
    /// JSON Lines: a document a line.
    Jsonl,
    /// PDF: a document a page.
    Pdf,
    /// A Word document (Office Open XML).
    Docx,
    /// A PowerPoint presentation (Office Open XML): a document a slide.
    Pptx,
    /// An Excel workbook (Office Open XML): a document a sheet.
    Xlsx,
}

/// A format that is no text: its parser runs in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`Media::Pdf`].
    Pdf,
    /// [`Media::Docx`].
    Docx,
    /// [`Media::Pptx`].
    Pptx,
    /// [`Media::Xlsx`].
    Xlsx,
}

impl Format {
    /// How these bytes are read, if not as text: a PDF tells by its first bytes, whatever its name says.
    pub fn of(media: Media, bytes: &[u8]) -> Option<Self> {
        match media {
            _ if bytes.starts_with(b"%PDF-") => Some(Self::Pdf),
            Media::Pdf => Some(Self::Pdf),
            Media::Docx => Some(Self::Docx),
            Media::Pptx => Some(Self::Pptx),
            Media::Xlsx => Some(Self::Xlsx),
            Media::Markdown | Media::Html | Media::Text | Media::Jsonl => None,
        }
    }

    /// Its name on a command line: the extension of its files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Docx => "docx",
            Self::Pptx => "pptx",
            Self::Xlsx => "xlsx",
        }
    }
}

/// No such format.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is none of pdf, docx, pptx, xlsx")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        [Self::Pdf, Self::Docx, Self::Pptx, Self::Xlsx]
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
            Self::Pptx => "PPTX",
            Self::Xlsx => "XLSX",
        })
    }
}

impl Media {
    /// What the extension of a file's name says; `None` when it says nothing known.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit('/').next()?.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "md" | "markdown" | "mdown" | "mkd" => Some(Self::Markdown),
            "html" | "htm" | "xhtml" => Some(Self::Html),
            "txt" | "text" => Some(Self::Text),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "pdf" => Some(Self::Pdf),
            "docx" => Some(Self::Docx),
            "pptx" => Some(Self::Pptx),
            "xlsx" => Some(Self::Xlsx),
            _ => None,
        }
    }

    /// What a `Content-Type` says, and the name's extension where the type leaves it open
    /// (`text/plain`, `application/octet-stream`); `None` for types that are not read.
    pub fn of_content_type(content_type: &str, name: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/markdown" | "text/x-markdown" => Some(Self::Markdown),
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines"
            | "application/x-ndjson"
            | "application/ndjson" => Some(Self::Jsonl),
            "application/pdf" | "application/x-pdf" => Some(Self::Pdf),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => {
                Some(Self::Docx)
            }
            "application/vnd.openxmlformats-officedocument.presentationml.presentation" => {
                Some(Self::Pptx)
            }
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => Some(Self::Xlsx),
            "application/zip" | "application/x-zip-compressed" => Self::of_name(name)
                .filter(|media| matches!(media, Self::Docx | Self::Pptx | Self::Xlsx)),
            "text/plain" => Some(Self::of_name(name).unwrap_or(Self::Text)),
            "" | "application/octet-stream" | "binary/octet-stream" => Self::of_name(name),
            _ => None,
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Markdown => "Markdown",
            Self::Html => "HTML",
            Self::Text => "plain text",
            Self::Jsonl => "JSON Lines",
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
            Self::Pptx => "PPTX",
            Self::Xlsx => "XLSX",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_decides_where_the_content_type_is_vague() {
        let cases = [
            (
                "text/plain; charset=utf-8",
                "a/README.md",
                Some(Media::Markdown),
            ),
            ("text/plain", "a/status", Some(Media::Text)),
            ("TEXT/HTML", "x.txt", Some(Media::Html)),
            (
                "application/octet-stream",
                "v1.2/data.NDJSON",
                Some(Media::Jsonl),
            ),
            ("application/octet-stream", "v1.md/data", None),
            ("application/pdf", "a.md", Some(Media::Pdf)),
            ("application/zip", "a/b.DOCX", Some(Media::Docx)),
            ("application/zip", "a.zip", None),
            ("application/zip", "a.md", None),
            ("application/octet-stream", "p.xlsx", Some(Media::Xlsx)),
            (
                "application/vnd.openxmlformats-officedocument.presentationml.presentation",
                "deck",
                Some(Media::Pptx),
            ),
            ("application/msword", "a.doc", None),
        ];
        for (content_type, name, media) in cases {
            assert_eq!(
                Media::of_content_type(content_type, name),
                media,
                "{content_type} {name}"
            );
        }
    }

    #[test]
    fn a_pdf_tells_by_its_content() {
        assert_eq!(Format::of(Media::Text, b"%PDF-1.7 ..."), Some(Format::Pdf));
        assert_eq!(Format::of(Media::Docx, b"%PDF-1.7 "), Some(Format::Pdf));
        assert_eq!(Format::of(Media::Docx, b"PK"), Some(Format::Docx));
        assert_eq!(Format::of(Media::Text, b"PK"), None);
        for format in [Format::Pdf, Format::Docx, Format::Pptx, Format::Xlsx] {
            assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
        }
        assert!("doc".parse::<Format>().is_err());
    }
}
