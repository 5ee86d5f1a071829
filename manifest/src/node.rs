//! A YAML document as a tree that knows where each part stands.
//!
//! Nodes have no `Debug`: a Secret's values pass through here.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::problem::Position;

/// A value and where it stands: a scalar where it is written, a list or mapping at the key that it belongs to.
#[derive(Clone)]
pub(crate) struct Node {
    pub at: Position,
    pub content: Content,
}

#[derive(Clone)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub key_at: Position,
    pub node: Node,
}

impl Node {
    /// The fields of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The field of that name; the last when it is written twice, none when it is null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().rev().find(|e| e.key == key)?;
        Some(&entry.node).filter(|n| !matches!(n.content, Content::Null))
    }

    /// The text, when the node is text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What the node is, for people.
    pub fn what(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing (null)",
            Content::Bool(_) => "a boolean",
            Content::Integer(_) | Content::Float(_) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The same without positions. A field that is null is left out, as an API server does.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(b) => (*b).into(),
            Content::Integer(i) => {
                i64::try_from(*i).map_or_else(|_| (*i as f64).into(), Value::from)
            }
            Content::Float(f) => (*f).into(),
            Content::Text(text) => text.as_str().into(),
            Content::List(items) => items.iter().map(Node::to_json).collect(),
            Content::Map(entries) => {
                let written = entries
                    .iter()
                    .filter(|e| !matches!(e.node.content, Content::Null));
                Value::Object(written.map(|e| (e.key.clone(), e.node.to_json())).collect())
            }
        }
    }

    /// Where each field stands, by path.
    pub fn positions(&self) -> BTreeMap<String, Position> {
        let mut found = BTreeMap::new();
        self.visit("", &mut |path, node| {
            found.insert(path.to_owned(), node.at);
        });
        found
    }

    /// Calls `each` with the path of every node.
    pub fn visit<'a>(&'a self, path: &str, each: &mut impl FnMut(&str, &'a Node)) {
        each(path, self);
        for entry in self.entries() {
            entry.node.visit(&join(path, &entry.key), each);
        }
        if let Content::List(items) = &self.content {
            for (i, item) in items.iter().enumerate() {
                item.visit(&format!("{path}[{i}]"), each);
            }
        }
    }

    /// Moves every position down by `lines`.
    pub fn shift(&mut self, lines: usize) {
        self.at.line += lines;
        match &mut self.content {
            Content::List(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Content::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.key_at.line += lines;
                entry.node.shift(lines);
            }),
            _ => {}
        }
    }
}

/// The path of the field `key` of `path`; a key that is no plain name stands in brackets.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), plain) {
        (_, false) => format!("{path}[{key:?}]"),
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
    }
}

/// A parser's location, which counts from 1.
pub(crate) fn position(location: Location) -> Position {
    Position {
        line: usize::try_from(location.line())
            .unwrap_or(usize::MAX)
            .max(1),
        column: usize::try_from(location.column())
            .unwrap_or(usize::MAX)
            .max(1),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            at: position(spanned.referenced),
            content: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Content, E> {
        Ok(Content::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Content, E> {
        Ok(Content::Integer(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Content, E> {
        Ok(Content::Integer(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Content, E> {
        Ok(Content::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Content, E> {
        Ok(Content::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Content, E> {
        Ok(Content::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let mut node: Node = map.next_value()?;
            let key_at = position(key.referenced);
            if matches!(
                node.content,
                Content::Null | Content::List(_) | Content::Map(_)
            ) {
                node.at = key_at;
            }
            entries.push(Entry {
                key: key.value,
                key_at,
                node,
            });
        }
        Ok(Content::Map(entries))
    }
}
