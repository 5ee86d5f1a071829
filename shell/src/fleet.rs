//! What serves a pipeline in this process: one release answers, others are loaded beside it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::Result;
use loci_digest::Digest;
use loci_recall::{LoadRequest, Prepared, Recall};
use loci_worker::step::{Encoders, Hold, Revisions};

/// A release that is loaded and warm. While it is kept, its revision's files are.
pub type Loaded = (Prepared, Hold);

/// The serving side of one pipeline.
pub struct Fleet {
    recall: Recall,
    ready: HashMap<String, Loaded>,
    served: Option<(String, Hold)>,
}

/// What to load.
pub struct Load {
    /// `namespace/name` of the pipeline.
    pub pipeline: String,
    /// The release.
    pub release: String,
    /// Its index revision in the store.
    pub revision: Digest,
    /// Its embedder's reference.
    pub model: String,
    /// Queries slower than this are counted.
    pub latency_budget: Option<std::time::Duration>,
}

impl Load {
    /// Loads and warms beside what serves.
    pub async fn run(
        self,
        recall: &Recall,
        revisions: &Revisions,
        encoders: &Encoders,
    ) -> Result<Loaded> {
        let hold = revisions.hold(self.revision);
        let directory: PathBuf = revisions.directory(&self.revision).await?;
        let encoder = encoders.get(&self.model).await?;
        let request = LoadRequest {
            pipeline: self.pipeline,
            release: self.release,
            directory,
            encoder,
            latency_budget: self.latency_budget,
        };
        Ok((recall.prepare(request).await?, hold))
    }
}

impl Fleet {
    /// Nothing serves yet.
    pub fn new(recall: Recall) -> Self {
        Self {
            recall,
            ready: HashMap::new(),
            served: None,
        }
    }

    /// The release that answers.
    pub fn current(&self) -> Option<String> {
        self.served.as_ref().map(|(release, _)| release.clone())
    }

    /// Releases that are loaded, the one that answers included.
    pub fn prepared(&self) -> BTreeSet<String> {
        self.ready.keys().cloned().chain(self.current()).collect()
    }

    /// Keeps a release that was loaded.
    pub fn add(&mut self, release: String, loaded: Loaded) {
        self.ready.insert(release, loaded);
    }

    /// Lets go of a release that does not answer.
    pub fn remove(&mut self, release: &str) {
        self.ready.remove(release);
    }

    /// Lets `release` answer from now on, if it is loaded and does not yet: queries in flight finish on the one
    /// before. True when it switched.
    pub fn switch(&mut self, release: &str) -> bool {
        if self.current().as_deref() == Some(release) {
            return false;
        }
        let Some((prepared, hold)) = self.ready.remove(release) else {
            return false;
        };
        let replaced = self.recall.switch(prepared);
        let old = self.served.replace((release.to_owned(), hold));
        if let Some(replaced) = replaced {
            tokio::spawn(async move {
                replaced.drained().await;
                drop(old);
            });
        }
        true
    }
}
