use quick_xml::XmlVersion;
use quick_xml::encoding::DecodingReader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::QName;
use quick_xml::reader::Reader;

use crate::document::isolated::read::printable;

pub(super) const DAMAGED: &str = "it is damaged:";

/// What mark-up compatibility offers to programs that do not know the choice before it: the same again.
const REPEATED: &str = "Fallback";

/// A piece of XML. Names are without prefix: no format has the same one in two of the namespaces that matter here.
pub(super) enum Node<'a> {
    /// An element begins; an empty one ends next.
    Start(Element<'a>),
    /// An element ends.
    End(&'a str),
    /// Text.
    Text(&'a str),
}

/// The beginning of an element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a>(&'a BytesStart<'a>);

impl Element<'_> {
    pub(super) fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// An attribute's value.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.find(|key| key.local_name().into_inner() == name)
    }

    /// The id of the relation that it is linked by: `r:id`, where it may have an `id` of its own.
    pub(super) fn link(&self) -> Option<String> {
        self.find(|key| key.prefix().is_some() && key.local_name().into_inner() == "id")
    }

    fn find(&self, is_it: impl Fn(QName<'_>) -> bool) -> Option<String> {
        let mut attributes = self.0.attributes();
        let mut readable = attributes.with_checks(false).flatten();
        let found = readable.find(|attribute| is_it(attribute.key))?;
        let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
        Some(value.into_owned())
    }

    /// Whether an attribute is set to a true value.
    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name).as_deref(), Some("1" | "true" | "on"))
    }

    /// The same of an element that is a switch: set, unless its `val` says otherwise.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.get("val").as_deref(), Some("0" | "false" | "off"))
    }
}

/// Shows all nodes of a part in order, but those in repetitions of what was shown already.
pub(super) fn read(
    content: &[u8],
    part: &str,
    mut show: impl FnMut(Node<'_>),
) -> Result<(), String> {
    let damaged = |reason: &dyn std::fmt::Display| {
        format!("{DAMAGED} {part}: {reason}; save it anew, or exclude it")
    };
    let mut reader = Reader::from_reader(DecodingReader::new(content));
    reader.config_mut().expand_empty_elements = true;
    let mut buffer = Vec::new();
    let mut repeated = 0_usize;
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        match event.map_err(|error| damaged(&error))? {
            Event::Eof => return Ok(()),
            // Office files have none; entities are declared there.
            Event::DocType(_) => return Err(damaged(&"it declares a document type")),
            Event::Start(start) if repeated > 0 || local(&start) == REPEATED => repeated += 1,
            Event::End(_) if repeated > 0 => repeated -= 1,
            _ if repeated > 0 => {}
            Event::Start(start) => show(Node::Start(Element(&start))),
            Event::End(end) => show(Node::End(end.local_name().into_inner())),
            Event::Text(text) => show(Node::Text(&printable(&text.xml10_content()))),
            Event::CData(text) => show(Node::Text(&printable(&text.xml10_content()))),
            Event::GeneralRef(reference) => match referenced(&reference) {
                Some(character) => show(Node::Text(&printable(&character))),
                None => return Err(damaged(&format!("&{}; is unknown", &*reference))),
            },
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn local<'a>(start: &'a BytesStart<'_>) -> &'a str {
    start.local_name().into_inner()
}

fn referenced(reference: &BytesRef<'_>) -> Option<String> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => Some(character.to_string()),
        _ => resolve_xml_entity(reference).map(str::to_owned),
    }
}
