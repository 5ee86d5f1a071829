use std::collections::HashMap;

use super::xml::{Element, Node};

/// The longest chain of styles that build on one another.
const CHAIN: usize = 32;

/// What a paragraph is to its reader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    Title,
    /// Level 1 to 6.
    Heading(u8),
    Item,
    Plain,
}

/// A document's styles, by their ids.
#[derive(Default)]
pub(super) struct Styles {
    styles: HashMap<String, Style>,
    open: Option<(String, Style)>,
}

#[derive(Default)]
struct Style {
    name: String,
    base: Option<String>,
    outline: Option<u8>,
    listed: bool,
}

impl Styles {
    /// Takes a node of the part that defines styles.
    pub(super) fn take(&mut self, node: Node<'_>) {
        match node {
            Node::Start(element) => self.start(element),
            Node::End("style") => self.styles.extend(self.open.take()),
            Node::End(_) | Node::Text(_) => {}
        }
    }

    fn start(&mut self, element: Element<'_>) {
        if element.name() == "style" {
            let id = element.get("styleId").unwrap_or_default();
            self.open = Some((id, Style::default()));
        }
        let Some((_, style)) = &mut self.open else {
            return;
        };
        match element.name() {
            "name" => style.name = element.get("val").unwrap_or_default().to_lowercase(),
            "basedOn" => style.base = element.get("val"),
            "outlineLvl" => style.outline = outline(element),
            "numPr" => style.listed = true,
            _ => {}
        }
    }

    /// What a style makes of its paragraphs. Names of built-in styles are English in every language's Word.
    pub(super) fn role(&self, id: &str) -> Role {
        let mut listed = false;
        let mut next = Some(id);
        for _ in 0..CHAIN {
            let Some(style) = next.and_then(|id| self.styles.get(id)) else {
                break;
            };
            let level = style.name.strip_prefix("heading ");
            if style.name == "title" {
                return Role::Title;
            } else if let Some(level) = level.and_then(|level| level.parse().ok()) {
                return heading(level);
            } else if let Some(outline) = style.outline {
                return heading(outline.saturating_add(1));
            }
            listed |= style.listed;
            next = style.base.as_deref();
        }
        if listed { Role::Item } else { Role::Plain }
    }
}

pub(super) fn heading(level: u8) -> Role {
    Role::Heading(level.clamp(1, 6))
}

/// The level of an outline, from 0; 9 is body text.
pub(super) fn outline(element: Element<'_>) -> Option<u8> {
    let level = element.get("val")?.parse().ok();
    level.filter(|level| *level < 9)
}
