//! A store with what steps run in, and snapshots to run them on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loci_bus::{Dispatcher, Lease, LocalBus, Outcome, Priority, WorkItem, WorkQueue};
use loci_digest::Digest;
use loci_models::{DeviceRequest, HubOptions};
use loci_store::Store;
use loci_worker::document::Parsers;
use loci_worker::source::Listing;
use loci_worker::step::{
    self, CHECKPOINTS, CollectInput, CollectOutput, DATASET, DatasetManifest, Decoders, Encoders,
    Reporter, Revisions, SNAPSHOT, Snapshot, SourceSnapshot, StepContext, StepError, StepInput,
    StepOutput,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What steps run in.
pub struct Bed {
    pub context: StepContext,
    pub bus: LocalBus,
    pub dir: TempDir,
}

/// Name, class and files of a source.
pub type Source<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

pub fn procedural<'a>(name: &'a str, files: &'a [(&'a str, &'a str)]) -> Source<'a> {
    (name, "procedural", files)
}

impl Bed {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_local(&dir.path().join("store")).await.unwrap();
        let hub = HubOptions {
            cache: dir.path().join("models"),
            endpoint: None,
            token: None,
        };
        let context = StepContext {
            encoders: Encoders::new(hub.clone(), DeviceRequest::Cpu),
            decoders: Decoders::new(hub, DeviceRequest::Cpu),
            parsers: Parsers::own().unwrap(),
            revisions: Revisions::new(dir.path().join("revisions"), store.clone()),
            store,
            pace: Arc::new(|| {}),
            checkpoints: CHECKPOINTS,
            card: None,
        };
        Self {
            context,
            bus: LocalBus::new(),
            dir,
        }
    }

    pub async fn snapshot(&self, sources: &[Source<'_>]) -> Digest {
        let (mut snapshot, mut refs) = (Snapshot::default(), Vec::new());
        for (name, memory, files) in sources {
            let mut documents = Vec::new();
            for (document, text) in *files {
                let digest = self.put(text).await;
                refs.push(digest);
                documents.push(json!({
                    "document": document, "uri": format!("file:///{document}"), "version": digest.to_string(),
                    "media": if document.ends_with(".md") { "markdown" } else { "jsonl" },
                    "bytes": text.len(), "digest": digest, "metadata": {},
                }));
            }
            let listing = json!({"documents": documents, "state": null, "skipped": []});
            let listing: Listing = serde_json::from_value(listing).unwrap();
            let source = SourceSnapshot {
                memory: (*memory).to_owned(),
                metadata: BTreeMap::new(),
                listing: Some(listing),
                error: None,
            };
            snapshot.sources.insert((*name).to_owned(), source);
        }
        let store = &self.context.store;
        let stored = store.put_manifest(SNAPSHOT, &refs, &snapshot).await;
        stored.unwrap()
    }

    pub async fn put(&self, text: &str) -> Digest {
        let bytes = text.as_bytes().to_vec();
        self.context.store.put(bytes.into()).await.unwrap()
    }

    /// A lease on an item of this id.
    pub async fn lease(&self, id: &str) -> Lease {
        let item = WorkItem {
            id: id.into(),
            pipeline: "agents/support".into(),
            run: "support-1".into(),
            step: "Step".into(),
            attempt: 1,
            fence: 0,
            priority: Priority::P1,
            class: "cpu".into(),
            payload: Value::Null,
            term: 0,
            traceparent: None,
        };
        self.bus.publish(item).await.unwrap();
        let lease = self.bus.pull("cpu", Duration::from_secs(5)).await;
        lease.unwrap().unwrap()
    }

    pub async fn run(&self, input: &StepInput) -> Result<StepOutput, StepError> {
        let lease = self.lease("1").await;
        let reporter = Reporter::new(&lease);
        let done = step::run(&self.context, "agents/support", input, &reporter).await;
        lease.finish(Outcome::Cancelled).await.unwrap();
        done
    }

    pub async fn collect(&self, input: CollectInput) -> Result<CollectOutput, StepError> {
        let done = self.run(&StepInput::Collect(input)).await;
        done.map(|output| match output {
            StepOutput::Collect(output) => output,
            other => panic!("{other:?}"),
        })
    }

    pub async fn manifest(&self, output: &CollectOutput) -> DatasetManifest {
        let store = &self.context.store;
        let found = store.get_manifest(DATASET, &output.dataset).await;
        found.unwrap()
    }
}

pub fn input(snapshot: Digest, sources: &[&str]) -> CollectInput {
    CollectInput {
        snapshot,
        sources: sources.iter().map(|s| (*s).to_owned()).collect(),
        suites: BTreeMap::new(),
        held_out: 25,
        min_examples: 1,
        min_new_examples: 0,
        last: None,
        context: None,
    }
}
