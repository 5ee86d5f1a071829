use crate::document::BlockKind;
use crate::document::isolated::read::printable;

/// A table as it is put together: a row a line.
#[derive(Default)]
pub(super) struct Table {
    text: String,
    /// Bytes of the rows that head it.
    header: usize,
    /// Another row was seen.
    body: bool,
}

impl Table {
    /// Adds a row; those that head the table come first.
    pub(super) fn row(&mut self, cells: &[String], heads: bool) {
        if cells.iter().all(|cell| cell.trim().is_empty()) {
            return;
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&cells.join(" | "));
        match heads && !self.body {
            true => self.header = self.text.len() + 1,
            false => self.body = true,
        }
    }

    /// The table, unless it is empty.
    pub(super) fn finish(self) -> Option<(BlockKind, String)> {
        let header = if self.body { self.header } else { 0 };
        (!self.text.is_empty()).then_some((BlockKind::Table { header }, self.text))
    }
}

/// Text on one line.
pub(super) fn flat(text: &str) -> String {
    let text = printable(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
