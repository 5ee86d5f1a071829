use super::package::Package;
use super::properties::Properties;
use super::table::{Table, flat};
use super::xml::{self, Element, Node};
use crate::document::BlockKind;
use crate::document::isolated::read::{Part, Place, Reading};

/// Placeholders that say the same on all slides.
const FURNITURE: [&str; 4] = ["dt", "ftr", "hdr", "sldNum"];

/// Reads a presentation: a part a slide, its speaker's notes at the end. Hidden slides are left out.
pub(super) fn parse(package: &mut Package<'_>, main: &str) -> Result<Reading, String> {
    let properties = Properties::read(package)?;
    let mut reading = Reading::default();
    for (number, name) in (1..).zip(slides(package, main)?) {
        let content = package.needed(&name)?;
        let mut slide = Slide::default();
        xml::read(&content, &name, |node| slide.take(node))?;
        if slide.hidden {
            continue;
        }
        let mut text = slide.finish();
        let relations = package.relations(&name)?;
        let notes = relations.iter().find(|r| r.kind == "notesSlide");
        if let Some(notes) = notes
            && let Some(content) = package.part(&notes.target)?
        {
            text.extend(spoken(&content, &notes.target)?);
        }
        if !text.is_empty() {
            reading.parts.push(Part {
                place: Some(Place::Slide(number)),
                title: properties.title.clone(),
                metadata: properties.metadata.clone(),
                text,
            });
        }
    }
    if reading.parts.is_empty() {
        return Err("its slides have no text; exclude it".to_owned());
    }
    Ok(reading)
}

/// The slides in the order in which they are shown.
fn slides(package: &mut Package<'_>, main: &str) -> Result<Vec<String>, String> {
    let relations = package.relations(main)?;
    let content = package.needed(main)?;
    let mut slides = Vec::new();
    xml::read(&content, main, |node| {
        if let Node::Start(element) = node
            && element.name() == "sldId"
        {
            let link = element.link();
            let found = relations.iter().find(|r| Some(&r.id) == link.as_ref());
            slides.extend(found.map(|r| r.target.clone()));
        }
    })?;
    Ok(slides)
}

/// What the speaker is to say: the notes' body.
fn spoken(content: &[u8], part: &str) -> Result<Vec<(BlockKind, String)>, String> {
    let mut notes = Slide {
        notes: true,
        ..Slide::default()
    };
    xml::read(content, part, |node| notes.take(node))?;
    let mut text = notes.finish();
    if !text.is_empty() {
        text.insert(0, (BlockKind::Heading(2), "Notes".to_owned()));
    }
    Ok(text)
}

/// A slide as it is read.
#[derive(Default)]
struct Slide {
    hidden: bool,
    /// These are notes: only their body is read.
    notes: bool,
    title: Vec<String>,
    text: Vec<(BlockKind, String)>,
    /// What kind of placeholder the open shape is, if it is one.
    placeholder: Option<String>,
    paragraph: Option<Paragraph>,
    in_text: bool,
    table: Option<Rows>,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    bullet: Option<bool>,
}

#[derive(Default)]
struct Rows {
    table: Table,
    cells: Vec<String>,
    first_heads: bool,
    any: bool,
}

impl Slide {
    fn take(&mut self, node: Node<'_>) {
        match node {
            Node::Start(element) => self.start(element),
            Node::End(name) => self.end(name),
            Node::Text(text) if self.in_text => self.write(text),
            Node::Text(_) => {}
        }
    }

    fn start(&mut self, element: Element<'_>) {
        match element.name() {
            "sld" => self.hidden = element.get("show").is_some() && !element.is_set("show"),
            "sp" | "graphicFrame" => self.placeholder = None,
            "ph" => {
                let kind = element.get("type").unwrap_or_else(|| "obj".to_owned());
                self.placeholder = Some(kind);
            }
            "p" => self.paragraph = Some(Paragraph::default()),
            "t" => self.in_text = true,
            "br" => self.write("\n"),
            "buNone" => self.bullet(false),
            "buChar" | "buAutoNum" | "buBlip" => self.bullet(true),
            "tbl" => self.table = Some(Rows::default()),
            name => {
                if let Some(table) = &mut self.table {
                    table.start(name, element);
                }
            }
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "p" => self.paragraph(),
            "t" => self.in_text = false,
            "sp" => self.placeholder = None,
            "tr" => {
                if let Some(table) = &mut self.table {
                    table.end();
                }
            }
            "tbl" => {
                let table = self.table.take().and_then(|rows| rows.table.finish());
                self.text.extend(table);
            }
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        if let Some(paragraph) = &mut self.paragraph {
            paragraph.text.push_str(text);
        }
    }

    fn bullet(&mut self, bullet: bool) {
        if let Some(paragraph) = &mut self.paragraph {
            paragraph.bullet = Some(bullet);
        }
    }

    fn paragraph(&mut self) {
        let Some(Paragraph { text, bullet }) = self.paragraph.take() else {
            return;
        };
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(table) = &mut self.table {
            return table.write(&flat(text));
        }
        let kind = self.placeholder.as_deref();
        if self.notes && kind != Some("body") {
            return;
        }
        let listed = match kind {
            Some("title" | "ctrTitle") => return self.title.push(flat(text)),
            Some(kind) if FURNITURE.contains(&kind) => return,
            // The layout gives bullets to bodies; speakers' notes have none.
            Some("body" | "obj") => bullet.unwrap_or(!self.notes),
            _ => bullet.unwrap_or(false),
        };
        let kind = match listed {
            true => BlockKind::ListItem,
            false => BlockKind::Paragraph,
        };
        self.text.push((kind, text.to_owned()));
    }

    /// The text under the title.
    fn finish(mut self) -> Vec<(BlockKind, String)> {
        if !self.title.is_empty() {
            let title = self.title.join(" ");
            self.text.insert(0, (BlockKind::Heading(1), title));
        }
        self.text
    }
}

impl Rows {
    fn start(&mut self, name: &str, element: Element<'_>) {
        match name {
            "tblPr" => self.first_heads = element.is_set("firstRow"),
            "tr" => self.cells.clear(),
            "tc" => self.cells.push(String::new()),
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        if let Some(cell) = self.cells.last_mut() {
            if !cell.is_empty() {
                cell.push(' ');
            }
            cell.push_str(text);
        }
    }

    fn end(&mut self) {
        self.table.row(&self.cells, self.first_heads && !self.any);
        self.any = true;
    }
}
