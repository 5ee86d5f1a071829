//! Index revisions from outside: histories, searches, filters and bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod changes;
mod filtered;
mod filters;
mod histories;
mod searches;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use loci_digest::Digest;
use loci_index::{
    Delta, Document, DocumentKey, Fusion, Identity, IndexError, IndexedDocument, MetaValue,
    Passage, Revision, RevisionInfo, assemble,
};

pub const DIMENSIONS: usize = 16;

pub fn identity() -> Identity {
    Identity {
        embedder: Digest::of("embedder"),
        chunker: Digest::of("chunker"),
        dimensions: DIMENSIONS,
        rerank: None,
    }
}

/// A unit vector that follows from the text alone.
pub fn embed(text: &str) -> Vec<f32> {
    let (a, b) = (Digest::of(text), Digest::of(format!("more {text}")));
    let bytes = a.as_bytes().iter().chain(b.as_bytes());
    let raw: Vec<f32> = bytes
        .take(DIMENSIONS)
        .map(|&byte| f32::from(byte) - 127.5)
        .collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| x / norm).collect()
}

/// A document of the source `s` with one passage a text.
pub fn document(name: &str, texts: &[&str]) -> IndexedDocument {
    let passage = |(i, &text): (usize, &&str)| Passage {
        ordinal: i as u32,
        text: text.to_owned(),
        span: 0..text.len() as u64,
        headings: vec!["Heading".to_owned()],
    };
    with_vectors(Document {
        key: DocumentKey::new("s", name),
        uri: format!("file:///{name}"),
        version: Digest::of(texts.join("\n")).short(),
        memory: "factual".into(),
        title: None,
        metadata: BTreeMap::new(),
        passages: texts.iter().enumerate().map(passage).collect(),
    })
}

pub fn with_vectors(document: Document) -> IndexedDocument {
    let title = document.title.as_deref();
    let vectors = document
        .passages
        .iter()
        .flat_map(|passage| embed(&passage.embedding_text(title)))
        .collect();
    IndexedDocument { document, vectors }
}

pub fn with_metadata(
    mut indexed: IndexedDocument,
    metadata: &[(&str, &[MetaValue])],
) -> IndexedDocument {
    indexed.document.metadata = metadata
        .iter()
        .map(|(name, values)| ((*name).to_owned(), values.to_vec()))
        .collect();
    indexed
}

pub fn upsert(documents: Vec<IndexedDocument>) -> Delta {
    Delta {
        remove: Vec::new(),
        upsert: documents,
    }
}

pub fn make(previous: Option<&Path>, delta: Delta, out: &Path) -> Result<RevisionInfo, IndexError> {
    let fusion = Fusion::default();
    assemble(previous, delta, &identity(), fusion, out, &mut |_| {
        ControlFlow::Continue(())
    })
}

/// A revision of `documents` alone, in `dir`.
pub fn fresh(dir: &Path, documents: Vec<IndexedDocument>) -> Revision {
    make(None, upsert(documents), dir).unwrap();
    Revision::open_verified(dir).unwrap()
}
