use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use pdf_extract::{
    ConvertToFmt, Dictionary, Document, MediaBox, Object, ObjectId, OutputDev, OutputError,
    PlainTextOutput, Transform, output_doc,
};

use crate::document::BlockKind;
use crate::document::isolated::child::contained;

/// What begins an item of a list, on its line; the last is that of the font Symbol.
const BULLETS: [char; 10] = ['•', '◦', '▪', '▫', '‣', '●', '○', '■', '–', '\u{f0b7}'];

/// The text of each page, and of which pages what failed, by index. A page that fails keeps what was read of it.
pub(super) fn extract(
    document: &mut Document,
    pages: &[ObjectId],
) -> (Vec<String>, Vec<(usize, String)>) {
    let (mut texts, mut failures) = (Vec::new(), Vec::new());
    while texts.len() < pages.len() {
        let first = texts.len();
        show(document, &pages[first..]);
        let mut output = Pages::default();
        let ended = contained(|| output_doc(document, &mut output));
        let Pages {
            read, ended: done, ..
        } = output;
        let mut read = read.take();
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic),
        };
        // All pages that ended, then as much as there is of the one that failed.
        read.resize(done + 1, String::new());
        let unfinished = read.pop().unwrap_or_default();
        texts.append(&mut read);
        if texts.len() < pages.len() {
            let reason = failure.unwrap_or_else(|| "it is passed over".to_owned());
            failures.push((texts.len(), reason));
            texts.push(unfinished);
        }
    }
    (texts, failures)
}

/// Makes these the pages of the document.
fn show(document: &mut Document, pages: &[ObjectId]) {
    let kids: Vec<Object> = pages.iter().copied().map(Object::Reference).collect();
    let mut root = Dictionary::new();
    root.set("Type", Object::Name(b"Pages".to_vec()));
    root.set("Count", pages.len() as i64);
    root.set("Kids", kids);
    let root = document.add_object(root);
    if let Ok(catalog) = document.catalog_mut() {
        catalog.set("Pages", root);
    }
}

/// Writes each page to a text of its own.
#[derive(Default)]
struct Pages {
    read: Sink,
    /// Pages that were read to their end.
    ended: usize,
    page: Option<PlainTextOutput<Sink>>,
}

/// The pages so far; what is written goes to the last.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<Vec<String>>>);

impl Sink {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(page) = self.0.borrow_mut().last_mut() {
            page.push_str(text);
        }
        Ok(())
    }
}

impl ConvertToFmt for Sink {
    type Writer = Self;

    fn convert(self) -> Self {
        self
    }
}

impl Pages {
    fn page(&mut self) -> &mut PlainTextOutput<Sink> {
        let sink = &self.read;
        self.page
            .get_or_insert_with(|| PlainTextOutput::new(sink.clone()))
    }
}

impl OutputDev for Pages {
    fn begin_page(
        &mut self,
        number: u32,
        size: &MediaBox,
        art: Option<(f64, f64, f64, f64)>,
    ) -> Result<(), OutputError> {
        self.read.0.borrow_mut().push(String::new());
        self.page = None;
        self.page().begin_page(number, size, art)
    }

    fn end_page(&mut self) -> Result<(), OutputError> {
        self.ended += 1;
        self.page().end_page()
    }

    fn output_character(
        &mut self,
        place: &Transform,
        width: f64,
        spacing: f64,
        size: f64,
        text: &str,
    ) -> Result<(), OutputError> {
        self.page()
            .output_character(place, width, spacing, size, text)
    }

    fn begin_word(&mut self) -> Result<(), OutputError> {
        self.page().begin_word()
    }

    fn end_word(&mut self) -> Result<(), OutputError> {
        self.page().end_word()
    }

    fn end_line(&mut self) -> Result<(), OutputError> {
        self.page().end_line()
    }
}

/// Paragraphs between blank lines, and items of lists where a line begins with a bullet.
pub(super) fn blocks(text: &str) -> Vec<(BlockKind, String)> {
    let mut blocks: Vec<(BlockKind, String)> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            open = false;
        } else if line.starts_with(BULLETS) {
            let item = line.trim_start_matches(BULLETS).trim_start();
            open = !item.is_empty();
            blocks.extend(open.then(|| (BlockKind::ListItem, item.to_owned())));
        } else if let Some((_, block)) = blocks.last_mut().filter(|_| open) {
            block.push('\n');
            block.push_str(line);
        } else {
            blocks.push((BlockKind::Paragraph, line.to_owned()));
            open = true;
        }
    }
    blocks
}
