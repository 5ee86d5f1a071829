//! Evaluate: asks revisions the questions of suites, as serving would answer them; and models what behaviour suites ask.

use std::collections::HashSet;
use std::sync::Arc;

use loci_bus::Unit;
use loci_digest::Digest;
use loci_models::ModelError;
use loci_plan::gate::{QuestionScore, SuiteScores};
use loci_plan::metrics::{self, Metric};
use serde::{Deserialize, Serialize};

use super::corpus::Corpus;
use super::lookup::{self, Lookup};
use super::suite::{self, Expected, Ready};
use super::{BehaviorInput, Reporter, StepContext, StepError, SuiteInput, behavior, blocking};

/// The kind of an evaluation's manifest.
pub const EVALUATION: &str = "evaluation";

/// One suite asked of one revision: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuiteEvaluation {
    /// The suite's name.
    pub suite: String,
    /// The revision.
    pub revision: Digest,
    /// The questions in the suite's order.
    pub questions: Vec<QuestionRecord>,
}

/// One question's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionRecord {
    /// The question's name.
    pub id: String,
    /// Its labels.
    pub expected: Vec<Expected>,
    /// None of the labelled documents is in the revision.
    pub stale: bool,
    /// What was found, best first.
    pub hits: Vec<HitRecord>,
}

/// One passage that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HitRecord {
    /// Its source.
    pub source: String,
    /// Its document.
    pub document: String,
    /// Its bytes: start, end.
    pub span: [u64; 2],
}

/// What Evaluate made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluateOutput {
    /// A manifest that names all evaluations below.
    pub output: Digest,
    /// For each revision, in the order of the input, the evaluations in the order of the suites.
    pub evaluations: Vec<Vec<Digest>>,
    /// The evaluations of behaviour, in the order of the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behaviors: Vec<Digest>,
    /// Questions that were asked now; the rest had been asked before.
    pub asked: u64,
}

pub(super) async fn run(
    context: &StepContext,
    revisions: &[Digest],
    (suites, asks): (&[SuiteInput], &[BehaviorInput]),
    reporter: &Reporter,
) -> Result<EvaluateOutput, StepError> {
    let (mut evaluations, mut asked) = (Vec::new(), 0);
    for revision in revisions {
        let mut row = Vec::with_capacity(suites.len());
        for input in suites {
            row.push(evaluate(context, revision, input, reporter, &mut asked).await?);
        }
        evaluations.push(row);
    }
    let mut behaviors = Vec::with_capacity(asks.len());
    for input in asks {
        behaviors.push(behavior::evaluate(context, input, reporter, &mut asked).await?);
    }
    let rows = evaluations
        .iter()
        .chain((!behaviors.is_empty()).then_some(&behaviors));
    let rows: Vec<&Vec<Digest>> = rows.collect();
    let all: Vec<Digest> = rows.iter().copied().flatten().copied().collect();
    let output = context
        .store
        .put_manifest("evaluations", &all, &rows)
        .await?;
    Ok(EvaluateOutput {
        output,
        evaluations,
        behaviors,
        asked,
    })
}

impl SuiteEvaluation {
    /// Each question's score by each metric.
    pub fn scores(&self, metrics: &[Metric]) -> SuiteScores {
        let questions = self.questions.iter().map(|q| q.score(metrics)).collect();
        SuiteScores {
            suite: self.suite.clone(),
            questions,
        }
    }
}

impl QuestionRecord {
    fn score(&self, metrics: &[Metric]) -> QuestionScore {
        let hits: Vec<metrics::Hit> = self
            .hits
            .iter()
            .map(|h| metrics::Hit {
                source: h.source.clone(),
                document: h.document.clone(),
                span: h.span[0]..h.span[1],
            })
            .collect();
        let expected: Vec<metrics::Expected> = self
            .expected
            .iter()
            .map(|e| metrics::Expected {
                source: e.source.clone(),
                document: e.document.clone(),
                span: e.span.map(|s| s[0]..s[1]),
            })
            .collect();
        let scores = metrics
            .iter()
            .filter_map(|m| Some((*m, metrics::score(*m, &hits, &expected)?)))
            .collect();
        QuestionScore {
            id: self.id.clone(),
            stale: self.stale,
            chance: 0.0,
            scores,
        }
    }
}

/// The evaluation of one suite on one revision. Its key names both by digest: the same candidate
/// gets the same verdict, and a served revision is not asked twice.
async fn evaluate(
    context: &StepContext,
    revision: &Digest,
    input: &SuiteInput,
    reporter: &Reporter,
    asked: &mut u64,
) -> Result<Digest, StepError> {
    let of = ("loci/evaluation/v1", revision, input);
    let key = lookup::key(&of, context.revisions.order(Some(revision)).await?)?;
    if let Some(done) = context.store.lookup(&key).await? {
        return Ok(done);
    }
    let data = context.store.get(&input.data).await?;
    let text = String::from_utf8_lossy(&data);
    let questions = suite::parse(&input.name, &text)?;
    *asked += questions.len() as u64;
    let manifest = context.revisions.manifest(revision).await?;
    let corpus: Corpus = serde_json::from_slice(&context.store.get(&manifest.corpus).await?)?;
    let documents: HashSet<(String, String)> = corpus
        .documents()
        .into_keys()
        .map(|k| (k.source, k.document))
        .collect();
    let job = Job {
        lookup: Lookup::open(context, revision).await?,
        questions,
        documents,
        depth: input.depth,
        pace: context.pace.clone(),
        reporter: reporter.clone(),
    };
    let questions = blocking(move || job.ask()).await?;
    let evaluation = SuiteEvaluation {
        suite: input.name.clone(),
        revision: *revision,
        questions,
    };
    let digest = context
        .store
        .put_manifest(EVALUATION, &[input.data], &evaluation)
        .await?;
    Ok(context.store.record(&key, &digest).await?)
}

struct Job {
    lookup: Lookup,
    questions: Vec<Ready>,
    documents: HashSet<(String, String)>,
    depth: usize,
    pace: Arc<dyn Fn() + Send + Sync>,
    reporter: Reporter,
}

impl Job {
    fn ask(&self) -> Result<Vec<QuestionRecord>, StepError> {
        let mut records = Vec::with_capacity(self.questions.len());
        let total = Some(self.questions.len() as u64);
        for question in &self.questions {
            self.reporter.check()?;
            (self.pace)();
            records.push(self.one(question)?);
            self.reporter
                .report(records.len() as u64, total, Unit::Queries, None);
        }
        Ok(records)
    }

    fn one(&self, question: &Ready) -> Result<QuestionRecord, StepError> {
        let filter = question.filter.clone();
        let found = self.lookup.hits(&question.question, self.depth, filter)?;
        let hits = found
            .into_iter()
            .map(|h| HitRecord {
                source: h.key.source,
                document: h.key.document,
                span: [h.passage.span.start, h.passage.span.end],
            })
            .collect();
        Ok(QuestionRecord {
            id: question.id.clone(),
            expected: question.expected.clone(),
            stale: !question.expected.iter().any(|e| self.exists(e)),
            hits,
        })
    }

    fn exists(&self, expected: &Expected) -> bool {
        match &expected.source {
            Some(source) => self
                .documents
                .contains(&(source.clone(), expected.document.clone())),
            None => self
                .documents
                .iter()
                .any(|(_, document)| *document == expected.document),
        }
    }
}

/// A model that was told to stop is a cancelled step.
pub(super) fn cancelled(error: ModelError) -> StepError {
    match error {
        ModelError::Cancelled => StepError::Cancelled,
        error => error.into(),
    }
}
