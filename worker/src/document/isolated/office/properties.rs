use super::package::Package;
use super::xml::{self, Node};
use crate::document::Metadata;

/// What a file states about itself (Dublin Core).
#[derive(Default)]
pub(super) struct Properties {
    pub(super) title: Option<String>,
    pub(super) metadata: Metadata,
}

impl Properties {
    pub(super) fn read(package: &mut Package<'_>) -> Result<Self, String> {
        let mut properties = Self::default();
        let relations = package.relations("")?;
        let core = relations
            .iter()
            .find(|relation| relation.kind == "core-properties");
        let Some(core) = core else {
            return Ok(properties);
        };
        let Some(content) = package.part(&core.target)? else {
            return Ok(properties);
        };
        let mut text = String::new();
        xml::read(&content, &core.target, |node| match node {
            Node::Start(_) => text.clear(),
            Node::Text(more) => text.push_str(more),
            Node::End(name) => properties.set(name, std::mem::take(&mut text).trim()),
        })?;
        Ok(properties)
    }

    fn set(&mut self, name: &str, value: &str) {
        let key = match name {
            "title" if !value.is_empty() => {
                self.title = Some(value.to_owned());
                return;
            }
            "creator" => "author",
            "subject" => "subject",
            "keywords" => "keywords",
            _ => return,
        };
        if !value.is_empty() {
            self.metadata.insert(key.to_owned(), vec![value.into()]);
        }
    }
}
