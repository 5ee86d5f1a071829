//! Collect: the dataset that an adapter is trained on, from the procedural sources of a snapshot.

mod context;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loci_bus::Unit;
use loci_digest::Digest;
use loci_models::Decoder;
use loci_store::StoreError;
use serde::{Deserialize, Serialize};

use super::lookup;
use super::{Reporter, SNAPSHOT, Snapshot, SourceSnapshot, StepContext, StepError, blocking};
use crate::dataset::{
    Case, CaseError, Located, Origin, Part, Read, Rejection, Report, Rules, Why, build, cases,
    lineage,
};
use crate::example::{self, Examples};
use crate::source::Entry;

use context::Shower;
pub use context::{ContextInput, DatasetContext};

/// As the API calls the class of sources that may be trained on.
const PROCEDURAL: &str = "procedural";

/// The kind of a dataset's manifest.
pub const DATASET: &str = "dataset";

/// Changes when the same snapshot would give another dataset.
const READER: u32 = 1;
/// The most examples of a dataset, and the most bytes that they say; all of them are held in memory.
const EXAMPLES: usize = 200_000;
const BYTES: usize = 512 << 20;

/// What Collect is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectInput {
    /// The snapshot.
    pub snapshot: Digest,
    /// The sources that are trained on, by name.
    pub sources: BTreeSet<String>,
    /// Blobs: the data of every suite of the pipeline, by name.
    pub suites: BTreeMap<String, Digest>,
    /// How many of a hundred examples are held out.
    pub held_out: u8,
    /// The fewest examples that are worth a training.
    pub min_examples: u64,
    /// The fewest of them that must be new since the last one.
    pub min_new_examples: u64,
    /// The dataset of the last training, when there was one by the same settings.
    pub last: Option<Digest>,
    /// What passages stand before questions, as in serving; none do, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextInput>,
}

/// A dataset: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetManifest {
    /// Equal for equal examples in equal parts, wherever they stand.
    pub content: Digest,
    /// Blob: what is trained on, `{"messages": [{"role", "content"}, …]}` a line.
    pub train: Digest,
    /// Blob: what is held out, in the same form.
    pub held_out: Digest,
    /// Blob: where each line of the two comes from.
    pub lineage: Digest,
    /// Blob: what is in neither, with the reason.
    pub rejected: Digest,
    /// All that in numbers.
    pub report: Report,
    /// The passages that stand in it, if any were looked up: then each answer of an example has a line of its own, which
    /// ends with it, and the last answer of a line is what is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<DatasetContext>,
}

/// What Collect made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectOutput {
    /// The dataset's manifest.
    pub dataset: Digest,
    /// Equal for equal examples.
    pub content: Digest,
    /// The dataset in numbers.
    pub report: Report,
    /// The passages in it, if any were looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<DatasetContext>,
    /// Examples to train on that the last training had not.
    pub new: u64,
    /// Those of the last training that are gone.
    pub gone: u64,
    /// Why this is not worth a training, for people; the run ends as `NotEnoughSignal`.
    pub not_enough: Option<String>,
}

/// Why no dataset can be made.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The snapshot is of other sources.
    #[error(
        "the snapshot has no source {0}: the pipeline's sources changed, and the next run reads them"
    )]
    NoSource(String),
    /// A source of another class.
    #[error(
        "source {name} is {memory}: only procedural sources are trained on, since what changes or must be cited is looked up; \
         move the examples into a procedural source"
    )]
    Class {
        /// The source.
        name: String,
        /// Its memory class.
        memory: String,
    },
    /// A source of which there is nothing yet.
    #[error("source {name} was never read: {reason}")]
    Unread {
        /// The source.
        name: String,
        /// What it said when it was read last.
        reason: String,
    },
    /// Too much for one dataset.
    #[error(
        "the sources hold more than {examples} examples, or more than {bytes} bytes of them with the passages before their questions: narrow their `include`",
        examples = EXAMPLES,
        bytes = BYTES
    )]
    TooMany,
    /// A suite that examples cannot be compared with.
    #[error(transparent)]
    Case(#[from] CaseError),
}

impl CollectError {
    /// One CamelCase word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSource(_) | Self::Unread { .. } => "SourceNotRead",
            Self::Class { .. } => "NotProcedural",
            Self::TooMany => "TooManyExamples",
            Self::Case(_) => "InvalidSuite",
        }
    }
}

impl CollectInput {
    /// The key of the dataset, which does not depend on how many examples are worth a training. Where passages are looked
    /// up it has their revision, by what that orders them, and the model that is to read them.
    fn key(
        &self,
        pipeline: &str,
        base: Option<&Decoder>,
        order: Option<u32>,
    ) -> Result<Digest, StepError> {
        let of = (&self.snapshot, &self.sources, &self.suites, self.held_out);
        let of = ("loci/collect/v1", READER, pipeline, of);
        let Some(context) = &self.context else {
            return Ok(Digest::of_json(&of)?);
        };
        let model = base.map(|base| base.identity().digest());
        let shown = (context.revision, context.max_tokens, model);
        lookup::key(&(of, shown, loci_prompt::VERSION), order)
    }

    /// Why so many examples, of which so many are new, are not worth a training.
    fn not_enough(&self, train: u64, new: u64) -> Option<String> {
        let (least, least_new) = (self.min_examples.max(1), self.min_new_examples);
        if train < least {
            return Some(format!(
                "{train} examples to train on are fewer than minExamples ({least}): add some, or ask for fewer"
            ));
        }
        (new < least_new).then(|| {
            format!("{new} of {train} examples are new since the last training, fewer than minNewExamples ({least_new})")
        })
    }
}

pub(super) async fn run(
    context: &StepContext,
    pipeline: &str,
    input: &CollectInput,
    reporter: &Reporter,
) -> Result<CollectOutput, StepError> {
    let base = match &input.context {
        Some(wanted) => Some(context.decoders.get(&wanted.base).await?),
        None => None,
    };
    let revision = input.context.as_ref().map(|wanted| &wanted.revision);
    let order = context.revisions.order(revision).await?;
    let key = input.key(pipeline, base.as_deref(), order)?;
    let dataset = match context.store.lookup(&key).await? {
        Some(done) => done,
        None => {
            let made = make(context, input, base, reporter).await?;
            context.store.record(&key, &made).await?
        }
    };
    let manifest: DatasetManifest = context.store.get_manifest(DATASET, &dataset).await?;
    let now = trained_on(context, &manifest).await?;
    let before = match &input.last {
        Some(last) => last_trained_on(context, last).await?,
        None => BTreeSet::new(),
    };
    let new = now.difference(&before).count() as u64;
    Ok(CollectOutput {
        dataset,
        content: manifest.content,
        new,
        gone: before.difference(&now).count() as u64,
        not_enough: input.not_enough(now.len() as u64, new),
        report: manifest.report,
        context: manifest.context,
    })
}

/// Makes the dataset and stores it.
async fn make(
    context: &StepContext,
    input: &CollectInput,
    base: Option<Arc<Decoder>>,
    reporter: &Reporter,
) -> Result<Digest, StepError> {
    let snapshot: Snapshot = context
        .store
        .get_manifest(SNAPSHOT, &input.snapshot)
        .await?;
    let cases = asked(context, &input.suites).await?;
    let read = read(context, &snapshot, &input.sources, reporter).await?;
    let rules = Rules {
        held_out: input.held_out,
        ..Rules::default()
    };
    let shower = match (&input.context, base) {
        (Some(wanted), Some(base)) => {
            Some(Shower::new(context, wanted, base, reporter.clone()).await?)
        }
        _ => None,
    };
    let (written, report, shown) = blocking(move || {
        let mut dataset = build(read, &cases, &rules);
        let shown = shower.map(|s| s.show(&mut dataset)).transpose()?;
        Ok((dataset.written()?, dataset.report, shown))
    })
    .await?;
    let store = &context.store;
    let train = store.put(written.train.into()).await?;
    let held_out = store.put(written.held_out.into()).await?;
    let manifest = DatasetManifest {
        content: content(train, held_out, shown.is_some())?,
        train,
        held_out,
        lineage: store.put(written.lineage.into()).await?,
        rejected: store.put(written.rejected.into()).await?,
        report,
        context: shown,
    };
    let refs = [train, held_out, manifest.lineage, manifest.rejected];
    Ok(store.put_manifest(DATASET, &refs, &manifest).await?)
}

/// What a training depends on: the lines, and which answers of them are learned.
fn content(train: Digest, held_out: Digest, last: bool) -> Result<Digest, StepError> {
    let of = ("loci/dataset/v1", train, held_out);
    Ok(match last {
        true => Digest::of_json(&(of, "last"))?,
        false => Digest::of_json(&of)?,
    })
}

/// What all suites ask.
async fn asked(
    context: &StepContext,
    suites: &BTreeMap<String, Digest>,
) -> Result<Vec<Case>, StepError> {
    let mut all = Vec::new();
    for (suite, data) in suites {
        let data = context.store.get(data).await?;
        let text = String::from_utf8_lossy(&data);
        all.extend(cases(suite, &text).map_err(CollectError::from)?);
    }
    Ok(all)
}

/// What the sources hold.
async fn read(
    context: &StepContext,
    snapshot: &Snapshot,
    sources: &BTreeSet<String>,
    reporter: &Reporter,
) -> Result<Read, StepError> {
    let mut all = Vec::new();
    for name in sources {
        let source = snapshot.sources.get(name);
        let source = source.ok_or_else(|| CollectError::NoSource(name.clone()))?;
        all.extend(entries(name, source)?.iter().map(|entry| (name, entry)));
    }
    let total = Some(all.len() as u64);
    let (mut read, mut bytes) = (Read::default(), 0);
    for name in sources {
        read.documents.insert(name.clone(), 0);
    }
    for (done, (name, entry)) in all.into_iter().enumerate() {
        reporter.check()?;
        let content = context.store.get(&entry.digest).await?;
        let (pace, media, document) = (context.pace.clone(), entry.media, entry.document.clone());
        let examples = blocking(move || {
            pace();
            Ok(example::parse(media, &content, &document))
        });
        bytes += take(&mut read, name, entry, examples.await?);
        if read.found.len() > EXAMPLES || bytes > BYTES {
            return Err(CollectError::TooMany.into());
        }
        reporter.report(done as u64 + 1, total, Unit::Documents, None);
    }
    Ok(read)
}

/// The files of a source that may be trained on.
fn entries<'a>(name: &str, source: &'a SourceSnapshot) -> Result<&'a [Entry], CollectError> {
    if source.memory != PROCEDURAL {
        return Err(CollectError::Class {
            name: name.to_owned(),
            memory: source.memory.clone(),
        });
    }
    if source.listing.is_none() {
        return Err(CollectError::Unread {
            name: name.to_owned(),
            reason: source.error.clone().unwrap_or_default(),
        });
    }
    Ok(source.entries())
}

/// Takes what a file holds, and tells how many bytes its examples say.
fn take(read: &mut Read, name: &str, entry: &Entry, examples: Examples) -> usize {
    let origin = |line, id| Origin {
        source: name.to_owned(),
        document: entry.document.clone(),
        version: entry.version.clone(),
        line,
        id,
    };
    let malformed = examples.problems.into_iter().map(|problem| Rejection {
        why: Why::Malformed,
        origin: origin(problem.line, None),
        reason: problem.reason,
    });
    read.malformed.extend(malformed);
    let before = read.found.len();
    let found = examples.found.into_iter().map(|found| Located {
        origin: origin(Some(found.line), found.id),
        example: found.example,
    });
    read.found.extend(found);
    *read.documents.entry(name.to_owned()).or_default() += 1;
    let messages = read.found[before..]
        .iter()
        .flat_map(|l| &l.example.messages);
    messages.map(|message| message.content.len()).sum()
}

/// The identities of what a dataset has to train on.
async fn trained_on(
    context: &StepContext,
    manifest: &DatasetManifest,
) -> Result<BTreeSet<Digest>, StepError> {
    let lines = lineage(&context.store.get(&manifest.lineage).await?)?;
    let train = lines.into_iter().filter(|line| line.part == Part::Train);
    Ok(train.map(|line| line.identity).collect())
}

/// The same of the last training's. Where nothing is kept of that any more, every example counts as new.
async fn last_trained_on(
    context: &StepContext,
    last: &Digest,
) -> Result<BTreeSet<Digest>, StepError> {
    let found = context.store.get_manifest::<DatasetManifest>(DATASET, last);
    match found.await {
        Ok(manifest) => trained_on(context, &manifest).await,
        Err(StoreError::NotFound { .. }) => {
            tracing::warn!(%last, "the dataset of the last training is gone, so that all examples count as new");
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error.into()),
    }
}
