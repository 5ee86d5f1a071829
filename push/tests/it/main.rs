//! Logs in a real store: writers that race, crashes at every byte, garbage collection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crashes;
mod lives;

use std::collections::BTreeMap;
use std::path::PathBuf;

use loci_digest::Digest;
use loci_push::{Bounds, Change, Condition, Document, PushLog, Refused, State, Written};
use loci_store::Store;
use tempfile::TempDir;

const PIPELINE: &str = "agents/support";
const ROOMY: Bounds = Bounds {
    documents: 100_000,
    pending: 100_000,
};

struct Bed {
    dir: TempDir,
    store: Store,
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_local(dir.path()).await.unwrap();
        Self { dir, store }
    }

    /// The log, as a process that begins now has it.
    async fn log(&self) -> PushLog {
        self.open().await.unwrap()
    }

    async fn open(&self) -> Result<PushLog, loci_push::PushError> {
        let store = Store::open_local(self.dir.path()).await.unwrap();
        PushLog::open(store, PIPELINE, "notes", ROOMY).await
    }

    fn directory(&self) -> PathBuf {
        self.dir
            .path()
            .join("documents/push")
            .join(PIPELINE)
            .join("notes")
    }

    fn file(&self, number: u64) -> PathBuf {
        self.directory().join(format!("{number:020}.json"))
    }

    /// The commits that are there.
    fn commits(&self) -> Vec<u64> {
        let names = std::fs::read_dir(self.directory()).unwrap();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut numbers: Vec<u64> = names
            .filter_map(|n| n.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

fn delete(id: &str) -> Change {
    Change {
        id: id.to_owned(),
        to: None,
        condition: Condition::Always,
    }
}

fn change(id: &str, text: &str) -> Change {
    let document = Document {
        content: Digest::of(text),
        bytes: text.len() as u64,
        media_type: "text/plain".to_owned(),
        uri: None,
        metadata: BTreeMap::new(),
    };
    Change {
        to: Some(document),
        ..delete(id)
    }
}

async fn put(log: &PushLog, id: &str, text: &str) -> Written {
    log.put_content(text.to_owned().into()).await.unwrap();
    one(log, change(id, text)).await.unwrap()
}

async fn one(log: &PushLog, change: Change) -> Result<Written, Refused> {
    log.write(vec![change]).await.unwrap().remove(0)
}

/// The text of each document, by what it was put as.
fn digests(state: &State) -> Vec<(&str, Digest)> {
    let documents = state.documents.iter();
    documents
        .map(|(id, kept)| (id.as_str(), kept.document.content))
        .collect()
}
