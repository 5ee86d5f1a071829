use std::collections::HashSet;

use pdf_extract::{Dictionary, Document, Object, ObjectId};

use super::damaged;

/// The most pages.
const PAGES: usize = 20_000;
/// What pages inherit from the nodes above them, as far as text goes.
const INHERITED: [&[u8]; 2] = [b"Resources", b"MediaBox"];
/// US Letter, in points: for pages that say nothing of their size.
const SIZE: [i64; 4] = [0, 0, 612, 792];

/// A node of the page tree that is still to be looked at, and what it inherits.
struct Pending {
    id: ObjectId,
    inherited: [Option<Object>; 2],
}

/// Finds the pages, in order, and gives each what it inherits, so that whoever reads one need not look at the tree again.
/// Images are emptied: they hold no text.
///
/// # Errors
/// When there is no page tree, or it is cyclic.
pub(super) fn flatten(document: &mut Document) -> Result<Vec<ObjectId>, String> {
    let catalog = document.catalog().map_err(|error| damaged(&error))?;
    let root = catalog
        .get(b"Pages")
        .and_then(Object::as_reference)
        .map_err(|error| damaged(&error))?;
    let mut pending = vec![Pending {
        id: root,
        inherited: [None, None],
    }];
    let (mut seen, mut pages) = (HashSet::new(), Vec::new());
    while let Some(Pending { id, inherited }) = pending.pop() {
        let Ok(node) = document.get_dictionary(id) else {
            continue;
        };
        let inherited = inherit(node, inherited);
        let kids = node.get_deref(b"Kids", document).and_then(Object::as_array);
        let Ok(kids) = kids else {
            if seen.insert(id) {
                pages.push((id, inherited));
            }
            if pages.len() > PAGES {
                return Err(format!(
                    "it has more than {PAGES} pages; split or exclude it"
                ));
            }
            continue;
        };
        if !seen.insert(id) {
            let number = id.0;
            return Err(format!(
                "its page tree is cyclic: object {number} stands in it twice; save it anew with another program, or exclude it"
            ));
        }
        let kids = kids.iter().filter_map(|kid| kid.as_reference().ok());
        pending.extend(kids.rev().map(|id| Pending {
            id,
            inherited: inherited.clone(),
        }));
    }
    let mut ids = Vec::with_capacity(pages.len());
    for (id, inherited) in pages {
        if let Ok(page) = document.get_dictionary_mut(id) {
            settle(page, inherited);
            ids.push(id);
        }
    }
    for object in document.objects.values_mut() {
        if let Ok(stream) = object.as_stream_mut()
            && is_image(&stream.dict)
        {
            stream.set_plain_content(Vec::new());
        }
    }
    match ids.is_empty() {
        true => Err("it has no pages; exclude it".to_owned()),
        false => Ok(ids),
    }
}

/// What the node says itself, else what is above it.
fn inherit(node: &Dictionary, above: [Option<Object>; 2]) -> [Option<Object>; 2] {
    let own = INHERITED.map(|key| node.get(key).ok().cloned());
    let [resources, size] = own;
    let [resources_above, size_above] = above;
    [resources.or(resources_above), size.or(size_above)]
}

fn settle(page: &mut Dictionary, [resources, size]: [Option<Object>; 2]) {
    let size = size.unwrap_or_else(|| SIZE.map(Object::Integer).to_vec().into());
    page.set("MediaBox", size);
    page.set(
        "Resources",
        resources.unwrap_or_else(|| Dictionary::new().into()),
    );
    page.set("Type", Object::Name(b"Page".to_vec()));
    page.remove(b"Parent");
}

fn is_image(dictionary: &Dictionary) -> bool {
    let subtype = dictionary.get(b"Subtype").and_then(Object::as_name);
    subtype.is_ok_and(|name| name == b"Image")
}
