use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use loci_digest::Digest;
use loci_worker::source::{
    ContentSink, Limits, Listing, SinkError, SourceError, SourceKind, SourceSpec, snapshot,
};

/// Keeps content in memory and remembers what was put.
#[derive(Default)]
pub struct Sink {
    contents: Mutex<HashMap<Digest, Bytes>>,
    puts: Mutex<Vec<String>>,
}

#[async_trait]
impl ContentSink for Sink {
    async fn put(&self, content: Bytes) -> Result<Digest, SinkError> {
        let digest = Digest::of(&content);
        self.puts
            .lock()
            .unwrap()
            .push(String::from_utf8_lossy(&content).into_owned());
        self.contents.lock().unwrap().insert(digest, content);
        Ok(digest)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, SinkError> {
        Ok(self.contents.lock().unwrap().contains_key(digest))
    }
}

impl Sink {
    pub async fn snapshot(
        &self,
        spec: &SourceSpec,
        previous: Option<&Listing>,
    ) -> Result<Listing, SourceError> {
        snapshot(spec, previous, self, &|_| {}).await
    }

    /// What was put since the last call, sorted.
    pub fn taken(&self) -> Vec<String> {
        let mut puts = std::mem::take(&mut *self.puts.lock().unwrap());
        puts.sort();
        puts
    }

    pub fn forget(&self, listing: &Listing, document: &str) {
        let entry = listing
            .documents
            .iter()
            .find(|entry| entry.document == document)
            .unwrap();
        self.contents.lock().unwrap().remove(&entry.digest).unwrap();
    }

    pub fn text(&self, listing: &Listing, document: &str) -> String {
        let entry = listing
            .documents
            .iter()
            .find(|entry| entry.document == document)
            .unwrap();
        let content = self.contents.lock().unwrap()[&entry.digest].clone();
        assert_eq!(content.len() as u64, entry.bytes);
        String::from_utf8(content.to_vec()).unwrap()
    }
}

pub fn spec(kind: SourceKind) -> SourceSpec {
    SourceSpec {
        name: "docs".into(),
        kind,
        limits: Limits::default(),
    }
}

pub fn documents(listing: &Listing) -> Vec<&str> {
    listing
        .documents
        .iter()
        .map(|entry| entry.document.as_str())
        .collect()
}

/// The reason why a document was skipped.
pub fn skipped<'a>(listing: &'a Listing, document: &str) -> &'a str {
    let found = listing
        .skipped
        .iter()
        .find(|skipped| skipped.document == document);
    &found
        .unwrap_or_else(|| panic!("{document} is not among {:?}", listing.skipped))
        .reason
}
