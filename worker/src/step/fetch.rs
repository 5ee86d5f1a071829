//! What is done where sources and their credentials are known: Snapshot, and the looks between runs.

use std::sync::Arc;

use async_trait::async_trait;
use loci_digest::Digest;
use loci_plan::FieldError;
use loci_plan::spec::Source;
use loci_store::Store;
use serde::{Deserialize, Serialize};

use super::upload::{Upload, Uploads};
use super::{Reporter, Shelf, SnapshotKey, StepError, StepOutput, snapshot};
use crate::source::{self, Probe, SourceSpec};

/// What a fetcher is asked to do: the payload of its work item. It names Secrets and holds none of their values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchItem {
    /// What is to be done.
    pub fetch: Fetch,
    /// Where what is read goes; to the store of whoever reads it, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// One thing to be fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Fetch {
    /// Lists the sources and fetches what changed since `previous`.
    Snapshot {
        /// The run.
        run: String,
        /// The last snapshot.
        previous: Option<Digest>,
        /// The pipeline's sources.
        sources: Vec<SourceInput>,
    },
    /// Looks whether a source differs from a snapshot.
    Probe {
        /// The source.
        source: SourceInput,
        /// The snapshot.
        basis: Digest,
    },
}

impl Fetch {
    /// The snapshot that it names.
    pub fn snapshot(&self) -> Option<Digest> {
        match self {
            Self::Snapshot { previous, .. } => *previous,
            Self::Probe { basis, .. } => Some(*basis),
        }
    }
}

/// A source as it is declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceInput {
    /// Where it is declared: `spec.sources[0]`.
    pub field: String,
    /// The declaration.
    pub source: Source,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutput {
    /// Whether a run would find something to do.
    pub changed: bool,
}

/// Opens sources. Credentials stay on this side of the bus.
#[async_trait]
pub trait SourceProvider: Send + Sync {
    /// A source of `pipeline` (`namespace/name`), with its credentials.
    ///
    /// # Errors
    /// When the pipeline is not known here, or something that the declaration names is not there.
    async fn open(&self, pipeline: &str, input: &SourceInput) -> Result<SourceSpec, StepError>;
}

/// Something that a source's declaration names and that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Missing {
    /// One CamelCase word for conditions: `MissingSecret`.
    pub reason: &'static str,
    /// The field that names it, and the way out.
    pub error: FieldError,
}

/// The surroundings of who fetches.
#[derive(Clone)]
pub struct FetchContext {
    /// The sources of pipelines.
    pub sources: Arc<dyn SourceProvider>,
    /// Where snapshots are kept when the item does not say where else.
    pub store: Option<Store>,
    /// Uploads.
    pub http: reqwest::Client,
}

impl FetchContext {
    /// Does what `item` says for `pipeline` (`namespace/name`).
    ///
    /// # Errors
    /// [`StepError::reason`] names the kind.
    pub async fn fetch(
        &self,
        pipeline: &str,
        item: FetchItem,
        reporter: &Reporter,
    ) -> Result<StepOutput, StepError> {
        let shelf = self.shelf(item.upload, item.fetch.snapshot())?;
        match item.fetch {
            Fetch::Snapshot {
                run,
                previous,
                sources,
            } => {
                let key = SnapshotKey {
                    pipeline: pipeline.to_owned(),
                    run,
                    previous,
                };
                let taken = snapshot::run(&*shelf, &*self.sources, &key, &sources, reporter);
                taken.await.map(StepOutput::Snapshot)
            }
            Fetch::Probe { source, basis } => {
                let spec = self.sources.open(pipeline, &source).await?;
                let before = shelf.state(&basis, &spec.name).await?;
                let look = source::probe(&spec, before.as_ref());
                let found = reporter.unless_stopped(look).await??;
                let changed = matches!(found, Probe::Changed(_));
                Ok(StepOutput::Probe(ProbeOutput { changed }))
            }
        }
    }

    fn shelf(
        &self,
        upload: Option<Upload>,
        snapshot: Option<Digest>,
    ) -> Result<Box<dyn Shelf>, StepError> {
        match (upload, &self.store) {
            (Some(upload), _) => Ok(Box::new(Uploads::new(self.http.clone(), upload, snapshot))),
            (None, Some(store)) => Ok(Box::new(store.clone())),
            (None, None) => Err(StepError::Payload(
                "it does not say where to put what is fetched".to_owned(),
            )),
        }
    }
}
