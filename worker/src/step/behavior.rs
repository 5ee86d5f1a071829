//! Behaviour suites in Evaluate: a model is asked each suite once.

use std::sync::Arc;

use loci_bus::Unit;
use loci_digest::Digest;
use loci_models::{Adapter, Decoder, Probe};
use loci_plan::gate::SuiteScores;
use loci_plan::metrics::Metric;
use serde::{Deserialize, Serialize};

use super::evaluate::cancelled;
use super::lookup::{self, Lookup};
use super::{ADAPTER, AdapterManifest, Reporter, StepContext, StepError, blocking};
use crate::behavior::{self, AskError, Case, CaseRecord};
use crate::passages::Inserter;

/// The kind of the manifest of a suite that a model was asked.
pub const BEHAVIOR: &str = "behavior";

/// Changes when the same model would be asked, or scored, otherwise.
const ASKER: u32 = 1;

/// A behaviour suite, and whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BehaviorInput {
    /// The suite's name.
    pub suite: String,
    /// The blob of its JSONL.
    pub data: Digest,
    /// The reference of the model that is asked: `hf://org/name@revision` or `file://` and a directory. That of an
    /// adapter, if one is asked, stands in its manifest.
    pub base: String,
    /// The manifest of the adapter that is asked; the model by itself, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Digest>,
    /// The revision in which passages are looked up for each question, to stand before it as in serving; nothing stands
    /// there, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Digest>,
}

/// A behaviour suite asked of a model: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BehaviorEvaluation {
    /// The suite's name.
    pub suite: String,
    /// The identity of the model: its weights, tokenizer, chat template.
    pub model: Digest,
    /// The digest of the adapter, if one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Digest>,
    /// The revision in which passages were looked up, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Digest>,
    /// The cases in the suite's order.
    pub cases: Vec<CaseRecord>,
}

impl BehaviorEvaluation {
    /// Each case's score by each metric that it has.
    pub fn scores(&self, metrics: &[Metric]) -> SuiteScores {
        behavior::scores(&self.suite, &self.cases, metrics)
    }
}

impl BehaviorInput {
    /// The key of the evaluation, given what answers. It has the revision where passages are looked up.
    fn key(
        &self,
        model: Digest,
        adapter: Option<Digest>,
        order: Option<u32>,
    ) -> Result<Digest, StepError> {
        let of = (model, &self.suite, adapter, self.data);
        Ok(match &self.revision {
            None => Digest::of_json(&("loci/behavior/v1", ASKER, of))?,
            Some(revision) => {
                let shown = (revision, loci_prompt::VERSION);
                let key = ("loci/behavior/v1", ASKER, of, shown);
                lookup::key(&key, order)?
            }
        })
    }
}

/// The evaluation of one suite on one model. Its key names both by digest, and the revision if passages are looked up: the
/// same model gets the same scores, and no model is asked twice.
pub(super) async fn evaluate(
    context: &StepContext,
    input: &BehaviorInput,
    reporter: &Reporter,
    asked: &mut u64,
) -> Result<Digest, StepError> {
    let store = &context.store;
    let manifest: Option<AdapterManifest> = match &input.adapter {
        Some(digest) => Some(store.get_manifest(ADAPTER, digest).await?),
        None => None,
    };
    let base = manifest.as_ref().map_or(&input.base, |m| &m.base);
    let decoder = context.decoders.get(base).await?;
    let model = decoder.identity().digest();
    let content = manifest.as_ref().map(|m| m.content);
    let order = context.revisions.order(input.revision.as_ref()).await?;
    let key = input.key(model, content, order)?;
    if let Some(done) = store.lookup(&key).await? {
        return Ok(done);
    }
    let adapter = match &manifest {
        Some(manifest) => Some(manifest.load(store, &context.revisions, &decoder).await?),
        None => None,
    };
    let probes = manifest.map(|m| m.probes).unwrap_or_default();
    let lookup = match &input.revision {
        Some(revision) => Some(Lookup::open(context, revision).await?),
        None => None,
    };
    let data = store.get(&input.data).await?;
    let cases = behavior::cases(&input.suite, &String::from_utf8_lossy(&data))?;
    *asked += cases.len() as u64;
    let job = Job {
        suite: input.suite.clone(),
        cases,
        adapter,
        probes,
        lookup,
        pace: context.pace.clone(),
        reporter: reporter.clone(),
    };
    let cases = blocking(move || job.ask(&decoder)).await?;
    let evaluation = BehaviorEvaluation {
        suite: input.suite.clone(),
        model,
        adapter: content,
        revision: input.revision,
        cases,
    };
    let refs = [input.data];
    let digest = store.put_manifest(BEHAVIOR, &refs, &evaluation).await?;
    Ok(store.record(&key, &digest).await?)
}

struct Job {
    suite: String,
    cases: Vec<Case>,
    adapter: Option<Adapter>,
    /// What it said of fixed prompts when it was trained.
    probes: Vec<Probe>,
    lookup: Option<Lookup>,
    pace: Arc<dyn Fn() + Send + Sync>,
    reporter: Reporter,
}

impl Job {
    /// What is judged is what the probes were recorded of, by which whoever loads it later tells that it is that.
    fn ask(&self, decoder: &Decoder) -> Result<Vec<CaseRecord>, StepError> {
        for probe in &self.probes {
            let checked = probe.check(decoder, self.adapter.as_ref());
            checked.map_err(cancelled)?;
        }
        let Some(lookup) = &self.lookup else {
            return self.answers(decoder, &self.cases);
        };
        let (cases, passages) = self.shown(decoder, lookup)?;
        let mut records = self.answers(decoder, &cases)?;
        for (record, passages) in records.iter_mut().zip(passages) {
            record.passages = Some(passages);
        }
        Ok(records)
    }

    /// The cases as serving would send them, and how many passages each has.
    fn shown(
        &self,
        decoder: &Decoder,
        lookup: &Lookup,
    ) -> Result<(Vec<Case>, Vec<usize>), StepError> {
        let inserter = Inserter::new(decoder);
        let mut all = Vec::with_capacity(self.cases.len());
        for case in &self.cases {
            self.reporter.check()?;
            (self.pace)();
            let hits = lookup.passages(case.ask.messages().unwrap_or_default())?;
            let shown = behavior::shown(&inserter, case, &hits);
            all.push(shown.map_err(|error| self.failed(error))?);
        }
        Ok(all.into_iter().unzip())
    }

    fn answers(&self, decoder: &Decoder, cases: &[Case]) -> Result<Vec<CaseRecord>, StepError> {
        let total = Some(cases.len() as u64);
        let mut told = None;
        let mut on_progress = |done: usize| {
            // It is called for each token, too.
            if told.replace(done) != Some(done) {
                (self.pace)();
                self.reporter
                    .report(done as u64, total, Unit::Queries, None);
            }
            self.reporter.flow()
        };
        let adapter = self.adapter.as_ref();
        let records = behavior::ask(decoder, adapter, cases, &mut on_progress);
        records.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: AskError) -> StepError {
        match error {
            AskError::Case { id, reason } => StepError::Case {
                suite: self.suite.clone(),
                id,
                reason,
            },
            AskError::Model(error) => cancelled(error),
        }
    }
}
