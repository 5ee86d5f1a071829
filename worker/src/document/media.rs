use std::fmt;

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
            ("application/pdf", "a.md", None),
        ];
        for (content_type, name, media) in cases {
            assert_eq!(
                Media::of_content_type(content_type, name),
                media,
                "{content_type} {name}"
            );
        }
    }
}
