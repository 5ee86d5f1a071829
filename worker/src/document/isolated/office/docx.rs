use super::package::{Package, Relation};
use super::properties::Properties;
use super::styles::{Role, Styles, heading, outline};
use super::table::{Table, flat};
use super::xml::{self, Element, Node};
use crate::document::BlockKind;
use crate::document::isolated::read::{Part, Reading};

/// Elements that show what was: moved and deleted text, former properties.
const FORMER: [&str; 3] = ["moveFrom", "del", "pPrChange"];

/// Reads a Word document; notes stand at its end.
pub(super) fn parse(package: &mut Package<'_>, main: &str) -> Result<Reading, String> {
    let properties = Properties::read(package)?;
    let relations = package.relations(main)?;
    let mut styles = Styles::default();
    if let Some((name, content)) = related(package, &relations, "styles")? {
        xml::read(&content, &name, |node| styles.take(node))?;
    }
    let mut body = Body::new(&styles);
    let content = package.needed(main)?;
    xml::read(&content, main, |node| body.take(node))?;
    for notes in ["footnotes", "endnotes"] {
        if let Some((name, content)) = related(package, &relations, notes)? {
            xml::read(&content, &name, |node| body.take(node))?;
        }
    }
    if body.text.is_empty() {
        return Err("it has no text; exclude it".to_owned());
    }
    let top = |(kind, _): &&(BlockKind, String)| *kind == BlockKind::Heading(1);
    let first = body.text.iter().find(top).map(|(_, text)| text.clone());
    let part = Part {
        place: None,
        title: properties.title.or(body.title).or(first),
        metadata: properties.metadata,
        text: body.text,
    };
    Ok(Reading {
        parts: vec![part],
        problems: Vec::new(),
    })
}

/// The first part that is related in this way.
fn related(
    package: &mut Package<'_>,
    relations: &[Relation],
    kind: &str,
) -> Result<Option<(String, Vec<u8>)>, String> {
    let Some(found) = relations.iter().find(|relation| relation.kind == kind) else {
        return Ok(None);
    };
    let content = package.part(&found.target)?;
    Ok(content.map(|content| (found.target.clone(), content)))
}

/// What has been read.
struct Body<'a> {
    styles: &'a Styles,
    text: Vec<(BlockKind, String)>,
    title: Option<String>,
    /// Those that are open: a text box is inside another's.
    paragraphs: Vec<Paragraph>,
    /// How many elements deep: former text, text, runs, tables.
    former: usize,
    texts: usize,
    runs: usize,
    tables: usize,
    rows: Rows,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    style: Option<String>,
    outline: Option<u8>,
    listed: Option<bool>,
}

/// The outermost open table.
#[derive(Default)]
struct Rows {
    table: Table,
    cells: Vec<String>,
    /// This row, or the first, is said to head the table.
    heads: bool,
    first_heads: bool,
    any: bool,
}

impl<'a> Body<'a> {
    fn new(styles: &'a Styles) -> Self {
        Self {
            styles,
            text: Vec::new(),
            title: None,
            paragraphs: Vec::new(),
            former: 0,
            texts: 0,
            runs: 0,
            tables: 0,
            rows: Rows::default(),
        }
    }

    fn take(&mut self, node: Node<'_>) {
        match node {
            Node::Start(element) if self.former > 0 || FORMER.contains(&element.name()) => {
                self.former += 1;
            }
            Node::End(_) if self.former > 0 => self.former -= 1,
            Node::Start(element) => self.start(element),
            Node::End(name) => self.end(name),
            Node::Text(text) if self.texts > 0 && self.former == 0 => self.write(text),
            Node::Text(_) => {}
        }
    }

    fn start(&mut self, element: Element<'_>) {
        match element.name() {
            "p" => self.paragraphs.push(Paragraph::default()),
            "r" => self.runs += 1,
            "t" => self.texts += 1,
            "tab" if self.runs > 0 => self.write("\t"),
            "br" | "cr" if self.runs > 0 => self.write("\n"),
            "noBreakHyphen" if self.runs > 0 => self.write("-"),
            "tbl" => {
                self.tables += 1;
                if self.tables == 1 {
                    self.rows = Rows::default();
                }
            }
            "tblLook" | "tblHeader" | "tr" | "tc" if self.tables == 1 => self.rows.start(element),
            name => {
                if let Some(paragraph) = self.paragraphs.last_mut() {
                    paragraph.start(name, element);
                }
            }
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "p" => self.paragraph(),
            "r" => self.runs = self.runs.saturating_sub(1),
            "t" => self.texts = self.texts.saturating_sub(1),
            "tr" if self.tables == 1 => self.rows.end(),
            "tbl" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    let rows = std::mem::take(&mut self.rows);
                    self.text.extend(rows.table.finish());
                }
            }
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        if let Some(paragraph) = self.paragraphs.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    /// Ends the innermost paragraph.
    fn paragraph(&mut self) {
        let Some(paragraph) = self.paragraphs.pop() else {
            return;
        };
        let text = paragraph.text.trim();
        if text.is_empty() {
            return;
        }
        if self.tables > 0 {
            return self.rows.write(&flat(text));
        }
        let kind = match paragraph.role(self.styles) {
            Role::Title => {
                self.title.get_or_insert_with(|| flat(text));
                BlockKind::Heading(1)
            }
            Role::Heading(level) => BlockKind::Heading(level),
            Role::Item => BlockKind::ListItem,
            Role::Plain => BlockKind::Paragraph,
        };
        let text = match kind {
            BlockKind::Heading(_) => flat(text),
            _ => text.to_owned(),
        };
        self.text.push((kind, text));
    }
}

impl Paragraph {
    fn start(&mut self, name: &str, element: Element<'_>) {
        match name {
            "pStyle" => self.style = element.get("val"),
            "outlineLvl" => self.outline = outline(element),
            "numPr" => self.listed = Some(true),
            // Number 0 takes a paragraph out of its style's list.
            "numId" => self.listed = Some(element.get("val").as_deref() != Some("0")),
            _ => {}
        }
    }

    fn role(&self, styles: &Styles) -> Role {
        let styled = self.style.as_deref().map(|id| styles.role(id));
        match (styled.unwrap_or(Role::Plain), self.outline, self.listed) {
            (role @ (Role::Title | Role::Heading(_)), _, _) => role,
            (_, Some(level), _) => heading(level.saturating_add(1)),
            (_, None, Some(true)) | (Role::Item, None, None) => Role::Item,
            _ => Role::Plain,
        }
    }
}

impl Rows {
    fn start(&mut self, element: Element<'_>) {
        match element.name() {
            "tr" => (self.cells, self.heads) = (Vec::new(), self.first_heads && !self.any),
            "tc" => self.cells.push(String::new()),
            "tblHeader" => self.heads = element.is_on(),
            _ => self.first_heads = first_row(element),
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
        self.table.row(&self.cells, self.heads);
        self.any = true;
    }
}

/// Whether a table's look sets the first row apart: by its own attribute, or by a bit of the older form.
fn first_row(look: Element<'_>) -> bool {
    let bits = look.get("val");
    let bits = bits.and_then(|bits| u16::from_str_radix(&bits, 16).ok());
    match look.get("firstRow") {
        Some(_) => look.is_set("firstRow"),
        None => bits.is_some_and(|bits| bits & 0x20 != 0),
    }
}
