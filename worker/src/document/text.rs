use loci_digest::Digest;

use super::{Block, BlockKind, DocumentError, Input, Media, ParseContext, Parsed};

/// Git looks for a NUL in this many bytes to tell binary files; so do we for control characters.
const SNIFFED: usize = 8000;

/// Checks that `bytes` are UTF-8 text and drops a byte order mark.
pub(super) fn decode<'a>(
    media: Media,
    bytes: &'a [u8],
    context: &ParseContext<'_>,
) -> Result<Input<'a>, DocumentError> {
    let document = || context.document.to_owned();
    if let Some(reason) = binary(bytes) {
        return Err(DocumentError::Binary {
            document: document(),
            media,
            reason,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::Encoding {
        document: document(),
        offset: error.valid_up_to(),
    })?;
    let stripped = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Input {
        text: stripped,
        start: text.len() - stripped.len(),
        content: Digest::of(bytes),
    })
}

fn binary(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(
            "a ZIP archive; Office files are read where they are named .docx, .pptx or .xlsx"
                .into(),
        );
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Some("or UTF-16: convert it to UTF-8".into());
    }
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        return Some(format!("a NUL at byte {offset}"));
    }
    let head = &bytes[..bytes.len().min(SNIFFED)];
    let control =
        |byte: &&u8| **byte < 0x20 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    let controls = head.iter().filter(control).count();
    (controls * 10 > head.len())
        .then(|| format!("{controls} control characters in {} bytes", head.len()))
}

/// Plain text: paragraphs between blank lines.
pub(super) fn parse(input: &Input<'_>) -> Parsed {
    let document = input.document(paragraphs(input.text, input.start));
    Parsed {
        documents: vec![document],
        problems: Vec::new(),
    }
}

/// The paragraphs of `text`, which starts at byte `start` of the source.
fn paragraphs(text: &str, start: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut offset, mut open) = (0, None);
    for line in text.split_inclusive('\n').chain([""]) {
        if line.trim().is_empty() {
            if let Some(from) = open.take() {
                let paragraph = text[from..offset].trim_end();
                blocks.push(Block::verbatim(
                    BlockKind::Paragraph,
                    paragraph,
                    start + from,
                ));
            }
        } else {
            open.get_or_insert(offset);
        }
        offset += line.len();
    }
    blocks
}

/// Paragraphs of a text that has no bytes of its own: each stands for `source` as a whole.
pub(super) fn derived_paragraphs(text: &str, source: std::ops::Range<usize>) -> Vec<Block> {
    paragraphs(text, 0)
        .into_iter()
        .map(|block| Block::derived(block.kind, block.text, source.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const CONTEXT: ParseContext<'_> = ParseContext {
        document: "notes.txt",
    };

    #[test]
    fn paragraphs_know_their_bytes_with_a_byte_order_mark_and_crlf() {
        let source = "\u{feff}one\r\nline\r\n\r\n \t\r\n  two ";
        let parsed = parse(Media::Text, source.as_bytes(), &CONTEXT).unwrap();
        let blocks = &parsed.documents[0].blocks;
        let texts: Vec<_> = blocks.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(texts, ["one\r\nline", "  two"]);
        for block in blocks {
            let span = block.span();
            assert_eq!(&source[span.start as usize..span.end as usize], block.text);
        }
    }

    #[test]
    fn binary_and_mis_encoded_files_are_refused_with_the_reason() {
        let refused = |bytes: &[u8]| {
            parse(Media::Markdown, bytes, &CONTEXT)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(b"# Hi\0there").contains("a NUL at byte 4"));
        assert!(refused(b"%PDF-1.7 \xff").contains("PDF"));
        assert!(refused(b"PK\x03\x04\0").contains(".docx"));
        assert!(refused(b"\xff\xfeh\0i\0").contains("UTF-16"));
        assert!(refused(b"\x01\x02\x03 text").contains("control characters"));
        assert_eq!(
            refused(b"caf\xe9"),
            "notes.txt: not valid UTF-8 at byte 3; convert it to UTF-8 or exclude it"
        );
    }

    #[test]
    fn an_empty_file_is_a_document_without_blocks() {
        for source in ["", " \n\n"] {
            let parsed = parse(Media::Text, source.as_bytes(), &CONTEXT).unwrap();
            assert!(parsed.documents[0].blocks.is_empty());
        }
    }
}
