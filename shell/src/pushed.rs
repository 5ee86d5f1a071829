//! Documents that clients put and delete: checked, written to the log of their source, and compared with what is served.

mod check;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use kube::ResourceExt;
use loci_crds::MemoryRelease;
use loci_crds::source::MemoryClass;
use loci_digest::Digest;
use loci_plan::Pipeline;
use loci_plan::spec::{Location, Source};
use loci_push::{Bounds, PushError, PushLog, Written};
use loci_recall::{
    DocumentChange, Documents, DocumentsError, PushSource, Refusal, SourceSummary, Standing,
};
use loci_store::{Store, StoreError};
use loci_worker::document::Parsers;
use loci_worker::step::{StepError, indexed};

use crate::items::full_name;

/// Releases of a pipeline that are remembered.
const RELEASES: usize = 256;
/// Of those, how many are tried until the index of one can be read.
const TRIED: usize = 16;

/// The push sources of some pipelines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pushed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    parsers: Parsers,
    sources: Vec<One>,
    /// By pipeline.
    releases: Mutex<BTreeMap<String, Releases>>,
}

/// What is known of a pipeline's releases.
#[derive(Debug, Default)]
struct Releases {
    /// The revision of each, by its number.
    revisions: BTreeMap<i64, (String, Digest)>,
    /// The one that answers queries.
    serving: Option<String>,
}

/// A push source.
#[derive(Debug)]
struct One {
    at: PushSource,
    memory: MemoryClass,
    log: PushLog,
    compared: tokio::sync::Mutex<Compared>,
}

type Versions = Arc<BTreeMap<String, Digest>>;

/// What the log was last compared with.
#[derive(Debug, Default)]
struct Compared {
    /// The newest revision at that time.
    newest: Option<Digest>,
    /// Versions by revision.
    loaded: Vec<(Digest, Versions)>,
}

/// Opens the logs of a pipeline's push sources, by their names.
///
/// # Errors
/// When one cannot be read.
pub async fn open_logs(store: &Store, pipeline: &Pipeline) -> Result<BTreeMap<String, PushLog>> {
    let mut logs = BTreeMap::new();
    for source in &pipeline.sources {
        if let Location::Push {
            max_documents,
            max_pending,
            ..
        } = source.location
        {
            let bounds = Bounds {
                documents: max_documents,
                pending: max_pending,
            };
            let (name, source) = (full_name(pipeline), source.name.clone());
            let log = PushLog::open(store.clone(), &name, &source, bounds).await;
            let log = log.with_context(|| format!("cannot read what was pushed to {source}"))?;
            logs.insert(source, log);
        }
    }
    Ok(logs)
}

impl One {
    fn of(pipeline: &Pipeline, source: &Source, log: &PushLog) -> Option<Self> {
        let Location::Push {
            max_document_bytes, ..
        } = source.location
        else {
            return None;
        };
        Some(Self {
            at: PushSource {
                pipeline: full_name(pipeline),
                source: source.name.clone(),
                max_document_bytes,
            },
            memory: source.memory,
            log: log.clone(),
            compared: tokio::sync::Mutex::default(),
        })
    }
}

impl Pushed {
    /// Of these pipelines, each with its logs.
    pub fn new<'a>(
        store: Store,
        parsers: Parsers,
        pipelines: impl IntoIterator<Item = (&'a Pipeline, &'a BTreeMap<String, PushLog>)>,
    ) -> Self {
        let mut sources = Vec::new();
        for (pipeline, logs) in pipelines {
            let of = |source: &Source| One::of(pipeline, source, logs.get(&source.name)?);
            sources.extend(pipeline.sources.iter().filter_map(of));
        }
        Self(Arc::new(Inner {
            store,
            parsers,
            sources,
            releases: Mutex::default(),
        }))
    }

    /// A release of `pipeline` (`namespace/name`) was made.
    pub fn released(&self, pipeline: &str, release: &MemoryRelease) {
        let Ok(revision) = release.spec.index.revision.parse() else {
            return;
        };
        let mut all = self.releases();
        let releases = all.entry(pipeline.to_owned()).or_default();
        let named = (release.name_any(), revision);
        releases.revisions.insert(release.spec.number, named);
        while releases.revisions.len() > RELEASES {
            releases.revisions.pop_first();
        }
    }

    /// A release of `pipeline` answers queries.
    pub fn serves(&self, pipeline: &str, release: &str) {
        let mut all = self.releases();
        all.entry(pipeline.to_owned()).or_default().serving = Some(release.to_owned());
    }

    fn releases(&self) -> MutexGuard<'_, BTreeMap<String, Releases>> {
        self.0
            .releases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, at: &PushSource) -> Result<&One, DocumentsError> {
        let found = self.0.sources.iter().find(|one| one.at == *at);
        found.ok_or_else(|| {
            let message = format!("{} is not a push source of {}", at.source, at.pipeline);
            DocumentsError::Unavailable(message)
        })
    }

    /// Compares a source with the newest release whose index can be read: a rejected one may be garbage by now.
    async fn catch_up(&self, one: &One) {
        let newest: Vec<Digest> = {
            let all = self.releases();
            let revisions = all.get(&one.at.pipeline).map(|r| &r.revisions);
            let newest = revisions.into_iter().flat_map(|r| r.values().rev());
            newest.map(|(_, revision)| *revision).collect()
        };
        let mut compared = one.compared.lock().await;
        if compared.newest == newest.first().copied() {
            return;
        }
        let (first, mut sure) = (newest.first().copied(), true);
        for revision in newest.into_iter().take(TRIED) {
            match self.load(one, &mut compared, revision).await {
                Ok(versions) => {
                    one.log.indexed(versions).await;
                    break;
                }
                Err(error) => {
                    // Garbage stays garbage; what else fails is tried again with the next request.
                    sure &= matches!(error, StepError::Store(StoreError::NotFound { .. }));
                    tracing::debug!(source = one.at.source, "{error}");
                }
            }
        }
        if sure {
            compared.newest = first;
        }
    }

    /// The release that answers queries, and its revision.
    fn serving(&self, pipeline: &str) -> Option<(String, Digest)> {
        let all = self.releases();
        let releases = all.get(pipeline)?;
        let name = releases.serving.as_ref()?;
        let mut revisions = releases.revisions.values();
        revisions.find(|(known, _)| known == name).cloned()
    }

    /// The release that answers queries, and the versions in it.
    async fn served(&self, one: &One) -> Result<(Option<String>, Versions), DocumentsError> {
        let serving = self.serving(&one.at.pipeline);
        let Some((name, revision)) = serving else {
            return Ok((None, Versions::default()));
        };
        let mut compared = one.compared.lock().await;
        let versions = self.load(one, &mut compared, revision).await;
        let versions = versions.map_err(|error| {
            DocumentsError::Unavailable(format!("what is indexed cannot be read: {error}"))
        })?;
        Ok((Some(name), versions))
    }

    /// The versions in a revision; those of the last two are kept.
    async fn load(
        &self,
        one: &One,
        compared: &mut Compared,
        revision: Digest,
    ) -> Result<Versions, StepError> {
        let mut loaded = compared.loaded.iter();
        if let Some((_, versions)) = loaded.find(|(of, _)| *of == revision) {
            return Ok(versions.clone());
        }
        let versions = self.versions(one, &revision).await?;
        if compared.loaded.len() == 2 {
            compared.loaded.remove(0);
        }
        compared.loaded.push((revision, versions.clone()));
        Ok(versions)
    }

    async fn versions(&self, one: &One, revision: &Digest) -> Result<Versions, StepError> {
        let versions = indexed(&self.0.store, revision, &one.at.source).await;
        versions.map(Arc::new)
    }
}

#[async_trait]
impl Documents for Pushed {
    fn sources(&self) -> Vec<PushSource> {
        self.0.sources.iter().map(|one| one.at.clone()).collect()
    }

    async fn write(
        &self,
        to: &PushSource,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<Result<Written, Refusal>>, DocumentsError> {
        let one = self.one(to)?;
        self.catch_up(one).await;
        let mut answers = Vec::new();
        let (mut ready, mut left) = (Vec::new(), Vec::new());
        for (place, change) in changes.into_iter().enumerate() {
            match check::check(&self.0.parsers, one.memory, change).await? {
                Ok((change, content)) => {
                    answers.push(None);
                    ready.push((place, content));
                    left.push(change);
                }
                Err(refusal) => answers.push(Some(Err(refusal))),
            }
        }
        // What would be refused, or change nothing, is answered now: its content is not stored.
        let seen = one.log.foresee(&left).await.map_err(|e| failed(&e))?;
        let (mut places, mut changes) = (Vec::new(), Vec::new());
        for ((seen, change), (place, content)) in seen.into_iter().zip(left).zip(ready) {
            match (seen, content) {
                (Ok(written), content) if written.changed() => {
                    if let Some(content) = content {
                        let put = one.log.put_content(content).await;
                        put.map_err(|e| failed(&e))?;
                    }
                    places.push(place);
                    changes.push(change);
                }
                (seen, content) => {
                    // What is there may be lost or damaged: storing it again mends that.
                    if let (Ok(_), Some(content)) = (&seen, content) {
                        let put = one.log.put_content(content).await;
                        put.map_err(|e| failed(&e))?;
                    }
                    set(&mut answers, place, seen.map_err(Refusal::Log));
                }
            }
        }
        if !changes.is_empty() {
            let written = one.log.write(changes).await.map_err(|e| failed(&e))?;
            for (place, written) in places.into_iter().zip(written) {
                set(&mut answers, place, written.map_err(Refusal::Log));
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn document(&self, of: &PushSource, id: &str) -> Result<Standing, DocumentsError> {
        let one = self.one(of)?;
        let (release, versions) = self.served(one).await?;
        let state = one.log.known().await;
        let kept = state.documents.get(id);
        Ok(Standing {
            document: kept.map(|kept| kept.document.clone()),
            version: kept.map(|kept| kept.version),
            release,
            served: versions.get(id).copied(),
        })
    }

    async fn summary(&self, of: &PushSource) -> Result<SourceSummary, DocumentsError> {
        let one = self.one(of)?;
        self.catch_up(one).await;
        let (release, _) = self.served(one).await?;
        let Bounds { documents, pending } = one.log.bounds();
        Ok(SourceSummary {
            documents: one.log.known().await.documents.len(),
            pending: one.log.pending().await,
            max_documents: documents,
            max_pending: pending,
            release,
        })
    }
}

type Answer = Result<Written, Refusal>;

fn set(answers: &mut [Option<Answer>], place: usize, answer: Answer) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = Some(answer);
    }
}

fn failed(error: &PushError) -> DocumentsError {
    match error.is_full() {
        true => DocumentsError::Full(format!("nothing was accepted: {error}")),
        false => DocumentsError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
