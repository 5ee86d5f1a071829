use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde_json::{Map, Value};

use super::{
    Block, BlockKind, DocumentError, Input, Metadata, ParseContext, Parsed, html, metadata,
};

/// CommonMark with tables, footnotes, strike-through, task lists and YAML front matter.
///
/// Blocks keep their mark-up: it reads well, carries links, and makes every span exact.
pub(super) fn parse(input: &Input<'_>, context: &ParseContext<'_>) -> Parsed {
    let mut problems = Vec::new();
    let (mut metadata, body) = match front_matter(input.text) {
        Some((yaml, body)) => match metadata_of(yaml) {
            Ok(metadata) => (metadata, body),
            Err(reason) => {
                let document = context.document.to_owned();
                problems.push(DocumentError::FrontMatter { document, reason });
                (Metadata::new(), body)
            }
        },
        None => (Metadata::new(), 0),
    };
    let blocks = blocks(&input.text[body..], input.start + body);
    let first_heading = || {
        let top = |block: &&Block| block.kind == BlockKind::Heading(1);
        blocks.iter().find(top).map(|block| block.text.clone())
    };
    let title = metadata::take_title(&mut metadata).or_else(first_heading);
    let mut document = input.document(blocks);
    document.title = title;
    document.metadata = metadata;
    Parsed {
        documents: vec![document],
        problems,
    }
}

/// The YAML between a first line `---` and the next line `---` or `...`, and where the body starts.
pub(crate) fn front_matter(text: &str) -> Option<(&str, usize)> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().filter(|line| line.trim_end() == "---")?;
    let mut offset = first.len();
    for line in lines {
        let end = offset;
        offset += line.len();
        if matches!(line.trim_end(), "---" | "...") {
            return Some((&text[first.len()..end], offset));
        }
    }
    None
}

fn metadata_of(yaml: &str) -> Result<Metadata, String> {
    if yaml.trim().is_empty() {
        return Ok(Metadata::new());
    }
    serde_saphyr::from_str::<Map<String, Value>>(yaml)
        .map(|mapping| metadata::flatten(&mapping))
        .map_err(|error| {
            error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
}

fn blocks(text: &str, start: usize) -> Vec<Block> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS;
    let mut events = Parser::new_ext(text, options).into_offset_iter();
    let mut blocks = Vec::new();
    while let Some((event, range)) = events.next() {
        let kind = match event {
            Event::Start(Tag::List(_)) | Event::End(_) | Event::Rule => continue,
            Event::Start(Tag::Heading { level, .. }) => {
                let heading = heading(&mut events);
                let source = trimmed(text, range).map(|(source, _)| source);
                if let Some(source) = source.filter(|_| !heading.is_empty()) {
                    let source = start + source.start..start + source.end;
                    blocks.push(Block::derived(
                        BlockKind::Heading(level as u8),
                        heading,
                        source,
                    ));
                }
                continue;
            }
            Event::Start(Tag::HtmlBlock) => {
                skip(&mut events);
                blocks.extend(html::fragment(&text[range.clone()], start + range.start));
                continue;
            }
            Event::Start(Tag::CodeBlock(_)) => BlockKind::Code,
            Event::Start(Tag::Table(_)) => BlockKind::Table { header: 0 },
            Event::Start(Tag::Item) => BlockKind::ListItem,
            _ => BlockKind::Paragraph,
        };
        if matches!(event, Event::Start(_)) {
            skip(&mut events);
        }
        let Some((source, raw)) = trimmed(text, range) else {
            continue;
        };
        let kind = match kind {
            BlockKind::Table { .. } => BlockKind::Table {
                header: table_header(raw),
            },
            other => other,
        };
        blocks.push(Block::verbatim(kind, raw, start + source.start));
    }
    blocks
}

/// The range without blank lines before it and white space after it.
fn trimmed(text: &str, range: Range<usize>) -> Option<(Range<usize>, &str)> {
    let raw = text[range.clone()].trim_end();
    let body = raw.trim_start();
    if body.is_empty() {
        return None;
    }
    let blank = raw[..raw.len() - body.len()]
        .rfind('\n')
        .map_or(0, |end| end + 1);
    Some((range.start + blank..range.start + raw.len(), &raw[blank..]))
}

/// A table's first two lines: the names and the rule under them.
fn table_header(raw: &str) -> usize {
    raw.split_inclusive('\n').take(2).map(str::len).sum()
}

/// Takes the events up to the end of the element that was just started.
fn skip<'a>(events: &mut impl Iterator<Item = (Event<'a>, Range<usize>)>) {
    let mut depth = 1;
    for (event, _) in events {
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// A heading's text without mark-up.
fn heading<'a>(events: &mut impl Iterator<Item = (Event<'a>, Range<usize>)>) -> String {
    let mut text = String::new();
    for (event, _) in events {
        match event {
            Event::End(TagEnd::Heading(_)) => break,
            Event::Text(run) | Event::Code(run) => text.push_str(&run),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::{Media, parse};
    use super::*;

    fn parsed(source: &str) -> Parsed {
        parse(
            Media::Markdown,
            source.as_bytes(),
            &ParseContext { document: "a.md" },
        )
        .unwrap()
    }

    const PAGE: &str = "---\ntitle: Backups\nowner: {team: ops}\ntags: [a, b]\nrevision: 7\nratio: 0.5\n---\n\
        # The `backup` *plan*\r\n\nNightly, to [two](x) places.\n\n- one\n  - inner\n- two\n\n\
        ```sh\nrun --all\n\nexit\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\n\
        <div>Raw &amp; <b>bold</b></div>\n\nSetext\n------\nEnd.\n";

    #[test]
    fn blocks_are_the_source_s_bytes() {
        use BlockKind::*;
        let document = parsed(PAGE).documents.remove(0);
        let found: Vec<_> = document
            .blocks
            .iter()
            .map(|b| (b.kind, b.text.as_str()))
            .collect();
        let expected = [
            (Heading(1), "The backup plan"),
            (Paragraph, "Nightly, to [two](x) places."),
            (ListItem, "- one\n  - inner"),
            (ListItem, "- two"),
            (Code, "```sh\nrun --all\n\nexit\n```"),
            (Table { header: 20 }, "| a | b |\n|---|---|\n| 1 | 2 |"),
            (Paragraph, "> quoted"),
            (Paragraph, "Raw & bold"),
            (Heading(2), "Setext"),
            (Paragraph, "End."),
        ];
        assert_eq!(found, expected);
        let source = |block: &Block| {
            let span = block.span();
            &PAGE[span.start as usize..span.end as usize]
        };
        for block in &document.blocks {
            match (block.kind, block.text.as_str()) {
                (Heading(1), _) => assert_eq!(source(block), "# The `backup` *plan*"),
                (Heading(_), _) => assert_eq!(source(block), "Setext\n------"),
                (_, "Raw & bold") => assert_eq!(source(block), "Raw &amp; <b>bold"),
                (_, text) => assert_eq!(source(block), text),
            }
        }
    }

    #[test]
    fn front_matter_is_metadata() {
        let document = parsed(PAGE).documents.remove(0);
        assert_eq!(document.title.as_deref(), Some("Backups"));
        assert_eq!(document.metadata["owner.team"], ["ops"]);
        assert_eq!(document.metadata["tags"], ["a", "b"]);
        assert_eq!(document.metadata["revision"], [7]);
        assert_eq!(document.metadata["ratio"], ["0.5"]);
    }

    #[test]
    fn broken_front_matter_is_reported_and_the_body_kept() {
        let page = parsed("---\na: [1\n---\n# Title\nBody");
        assert!(
            page.problems[0]
                .to_string()
                .starts_with("a.md: front matter left out: ")
        );
        assert_eq!(page.documents[0].title.as_deref(), Some("Title"));
        let rule = parsed("---\nNot front matter, for it is never closed.\n");
        assert!(rule.problems.is_empty());
        assert_eq!(rule.documents[0].blocks.len(), 1);
    }
}
