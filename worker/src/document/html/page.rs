use serde_json::Value;

use super::entity::{decode, runs};
use crate::document::block::BlockBuilder;
use crate::document::{Block, BlockKind, Metadata};

/// Elements that end the paragraph before them and their own.
const BREAKING: [&str; 33] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "legend",
    "li",
    "main",
    "ol",
    "p",
    "section",
    "summary",
    "ul",
];

/// What has been read of a page.
#[derive(Default)]
pub(super) struct Page {
    pub(super) blocks: Vec<Block>,
    pub(super) metadata: Metadata,
    pub(super) title: String,
    builder: BlockBuilder,
    kind: Option<BlockKind>,
    /// White space has been seen since the last text.
    space: bool,
    /// Depths of open elements: dropped ones, `<title>`, `<pre>`, `<table>`.
    pub(super) dropped: usize,
    in_title: usize,
    preformatted: usize,
    tables: usize,
    /// Rows of the open table: bytes of its header, whether a body row was seen, cells of this row.
    header: usize,
    in_body: bool,
    cells: usize,
}

impl Page {
    pub(super) fn set(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            self.metadata
                .entry(key.to_owned())
                .or_default()
                .push(Value::String(value.trim().to_owned()));
        }
    }

    /// Keeps what describes the page, not what steers browsers and crawlers.
    pub(super) fn meta(&mut self, key: &str, content: Option<String>) {
        let key = key.trim().to_ascii_lowercase();
        let steering = [
            "viewport",
            "robots",
            "theme-color",
            "referrer",
            "generator",
            "color-scheme",
        ];
        if !key.is_empty() && !steering.contains(&key.as_str()) {
            self.set(&key, content);
        }
    }

    pub(super) fn start(&mut self, name: &str) {
        match name {
            "title" => self.in_title += 1,
            "table" => {
                if self.tables == 0 {
                    self.flush();
                    self.kind = Some(BlockKind::Table { header: 0 });
                    (self.header, self.in_body, self.cells) = (0, false, 0);
                }
                self.tables += 1;
            }
            "tr" if self.tables == 1 => self.row(),
            "td" | "th" if self.tables == 1 => self.cell(name),
            _ if self.tables > 0 => self.space |= BREAKING.contains(&name) || name == "pre",
            "pre" => {
                self.flush();
                self.kind = Some(BlockKind::Code);
                self.preformatted += 1;
            }
            _ if BREAKING.contains(&name) => {
                let inside_item =
                    self.kind == Some(BlockKind::ListItem) && self.builder.text().is_empty();
                self.flush();
                self.kind = kind_of(name).or(inside_item.then_some(BlockKind::ListItem));
            }
            _ => {}
        }
    }

    pub(super) fn end(&mut self, name: &str, dropped: bool) {
        if dropped {
            self.dropped = self.dropped.saturating_sub(1);
        }
        match name {
            "title" => self.in_title = self.in_title.saturating_sub(1),
            "table" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.flush();
                }
            }
            _ if self.tables > 0 => self.space |= BREAKING.contains(&name) || name == "pre",
            "pre" => {
                self.flush();
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            _ if BREAKING.contains(&name) => self.flush(),
            _ => {}
        }
    }

    /// A new row; the rows of `<th>` before the first `<td>` are the header.
    fn row(&mut self) {
        if !self.builder.text().is_empty() {
            self.builder.push_synthetic("\n");
        }
        if !self.in_body {
            self.header = self.builder.text().len();
        }
        (self.cells, self.space) = (0, false);
    }

    fn cell(&mut self, name: &str) {
        self.in_body |= name == "td";
        if self.cells > 0 {
            self.builder.push_synthetic(" | ");
        }
        self.cells += 1;
        self.space = false;
    }

    pub(super) fn line_break(&mut self) {
        match self.tables {
            0 if !self.builder.text().is_empty() => self.builder.push_synthetic("\n"),
            _ => self.space = true,
        }
    }

    pub(super) fn flush(&mut self) {
        let kind = match self.kind.take() {
            Some(BlockKind::Table { .. }) if self.in_body => BlockKind::Table {
                header: self.header,
            },
            other => other.unwrap_or(BlockKind::Paragraph),
        };
        self.space = false;
        self.blocks.extend(self.builder.finish(kind));
    }

    /// Adds the text of the source from byte `start`.
    pub(super) fn write(&mut self, text: &str, start: usize) {
        if self.in_title > 0 && self.blocks.is_empty() && self.dropped == 0 {
            self.title.push_str(&decode(text));
        } else if self.dropped == 0 {
            for run in runs(text) {
                self.write_run(&text[run.clone()], start + run.start);
            }
        }
    }

    fn write_run(&mut self, run: &str, start: usize) {
        let space = run.starts_with(|c: char| c.is_ascii_whitespace());
        if space && (self.preformatted == 0 || self.tables > 0) {
            self.space = true;
            return;
        }
        let bare = self.builder.text().is_empty() || self.builder.text().ends_with(['\n', ' ']);
        if std::mem::take(&mut self.space) && !bare {
            self.builder.push_synthetic(" ");
        }
        match run.starts_with('&') {
            true => self
                .builder
                .push_derived(&decode(run), start..start + run.len()),
            false => self.builder.push_verbatim(run, start),
        }
    }
}

fn kind_of(name: &str) -> Option<BlockKind> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(BlockKind::Heading(level - b'0')),
        b"li" => Some(BlockKind::ListItem),
        _ => None,
    }
}
