mod entity;
mod page;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use lol_html::html_content::Element;
use lol_html::{HtmlRewriter, Settings, doc_text, element, end_tag};

use self::entity::decode;
use self::page::Page;
use super::{Block, BlockKind, DocumentError, Input, ParseContext, Parsed};

/// Elements whose content nobody reads as text.
const DROPPED: [&str; 17] = [
    "script", "style", "nav", "template", "noscript", "svg", "iframe", "object", "canvas", "audio",
    "video", "math", "select", "button", "datalist", "textarea", "dialog",
];

const NO_TEXT: Range<usize> = usize::MAX..usize::MAX;

/// HTML: block elements become blocks, inline mark-up goes, entities are decoded.
pub(super) fn parse(
    input: &Input<'_>,
    context: &ParseContext<'_>,
) -> Result<Parsed, DocumentError> {
    let page = read(input.text, input.start).map_err(|reason| DocumentError::Html {
        document: context.document.to_owned(),
        reason,
    })?;
    let title = page.title.split_whitespace().collect::<Vec<_>>().join(" ");
    let heading = page
        .blocks
        .iter()
        .find(|block| block.kind == BlockKind::Heading(1));
    let heading = heading.map(|block| block.text.clone());
    let mut document = input.document(page.blocks);
    document.title = Some(title).filter(|title| !title.is_empty()).or(heading);
    document.metadata = page.metadata;
    Ok(Parsed {
        documents: vec![document],
        problems: Vec::new(),
    })
}

/// The blocks of a piece of HTML that starts at byte `start`; as it stands when it is not readable.
pub(super) fn fragment(text: &str, start: usize) -> Vec<Block> {
    read(text, start)
        .map(|page| page.blocks)
        .unwrap_or_else(|_| {
            let body = text.trim();
            let from = start + text.len() - text.trim_start().len();
            let block = || Block::verbatim(BlockKind::Paragraph, body, from);
            (!body.is_empty()).then(block).into_iter().collect()
        })
}

fn read(text: &str, start: usize) -> Result<Page, String> {
    let page = Rc::new(RefCell::new(Page::default()));
    let (opened, written) = (Rc::clone(&page), Rc::clone(&page));
    let mut node = NO_TEXT;
    let settings = Settings::new()
        .append_element_content_handler(element!("*", move |element| open(&opened, element)))
        .append_document_content_handler(doc_text!(move |chunk| {
            // A text node may come in several chunks, which may cut a character reference.
            let range = chunk.source_location().bytes();
            node = node.start.min(range.start)..range.end;
            if chunk.last_in_text_node() {
                let run = text.get(node.clone()).unwrap_or_default();
                written.borrow_mut().write(run, start + node.start);
                node = NO_TEXT;
            }
            Ok(())
        }))
        .with_strict(false);
    let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| {});
    rewriter
        .write(text.as_bytes())
        .and_then(|()| rewriter.end())
        .map_err(|error| error.to_string())?;
    let mut page = page.take();
    page.flush();
    Ok(page)
}

fn open(page: &Rc<RefCell<Page>>, element: &mut Element<'_, '_>) -> lol_html::HandlerResult {
    let name = element.tag_name();
    let attribute = |name: &str| element.get_attribute(name).map(|value| decode(&value));
    let mut state = page.borrow_mut();
    match name.as_str() {
        "html" => state.set("lang", attribute("lang")),
        "meta" => {
            if let Some(key) = attribute("name").or_else(|| attribute("property")) {
                state.meta(&key, attribute("content"));
            }
        }
        "br" => state.line_break(),
        _ => state.start(&name),
    }
    let dropped = DROPPED.contains(&name.as_str()) || element.has_attribute("hidden");
    if !element.can_have_content() {
        return Ok(());
    }
    if dropped {
        state.dropped += 1;
    }
    drop(state);
    let page = Rc::clone(page);
    if let Some(handlers) = element.end_tag_handlers() {
        handlers.push(end_tag!(move |_| {
            page.borrow_mut().end(&name, dropped);
            Ok(())
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Media, parse};
    use super::*;

    const PAGE: &str = r#"<!doctype html><html lang="en"><head><title>Status &mdash; now</title>
<meta name="author" content="Ops &amp; Co"><meta name="viewport" content="width=1">
<style>p { color: red }</style></head><body><nav><p>Home</p></nav>
<h1>Service <em>status</em></h1>
<p>Caf&eacute; is&nbsp;up,
   <a href="/x">all   day</a>.<p>Unclosed
<ul><li>one<li><p>two</p></ul><script>alert("<p>no</p>")</script>
<pre>  keep
    this &lt;b&gt;</pre>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2
 3</td></tr></table><p hidden>secret</p>tail</body></html>"#;

    fn document() -> super::super::ParsedDocument {
        parse(
            Media::Html,
            PAGE.as_bytes(),
            &ParseContext { document: "a.html" },
        )
        .unwrap()
        .documents
        .remove(0)
    }

    #[test]
    fn text_is_what_a_reader_sees() {
        use BlockKind::*;
        let document = document();
        let found: Vec<_> = document
            .blocks
            .iter()
            .map(|b| (b.kind, b.text.as_str()))
            .collect();
        let expected = [
            (Heading(1), "Service status"),
            (Paragraph, "Café is\u{a0}up, all day."),
            (Paragraph, "Unclosed"),
            (ListItem, "one"),
            (ListItem, "two"),
            (Code, "  keep\n    this <b>"),
            (Table { header: 6 }, "a | b\n1 | 2 3"),
            (Paragraph, "tail"),
        ];
        assert_eq!(found, expected);
        assert_eq!(document.title.as_deref(), Some("Status — now"));
        assert_eq!(document.metadata["author"], ["Ops & Co"]);
        assert_eq!(document.metadata["lang"], ["en"]);
        assert!(!document.metadata.contains_key("viewport"));
    }

    #[test]
    fn spans_lead_back_into_the_mark_up() {
        let document = document();
        let source = |block: &Block, text: &str| {
            let at = block.text.find(text).unwrap();
            let span = block.source_range(at..at + text.len());
            PAGE[span.start as usize..span.end as usize].to_owned()
        };
        let paragraph = &document.blocks[1];
        assert_eq!(source(paragraph, "Café"), "Caf&eacute;");
        assert_eq!(source(paragraph, "up"), "up");
        assert_eq!(source(paragraph, "all day"), "all   day");
        assert_eq!(source(paragraph, "up, all"), "up,\n   <a href=\"/x\">all");
        assert_eq!(source(&document.blocks[6], "2 3"), "2\n 3");
    }

    #[test]
    fn damaged_mark_up_is_still_read() {
        let page = |text: &str| {
            let parsed = parse(
                Media::Html,
                text.as_bytes(),
                &ParseContext { document: "x" },
            )
            .unwrap();
            parsed.documents[0]
                .blocks
                .iter()
                .map(|b| b.text.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(page("<p>a & b &bogus; &amp <b>c"), ["a & b &bogus; &amp c"]);
        assert_eq!(page("</div><td>x</table>y<select><xmp>z"), ["xy"]);
        assert_eq!(page("plain"), ["plain"]);
    }
}
