//! What lies outside the plan: sources that change, a store, and workers that do steps.

use std::collections::{BTreeMap, BTreeSet};

use loci_digest::Digest;
use loci_plan::gate::{QuestionScore, SuiteScores};
use loci_plan::metrics::Metric;
use loci_plan::{
    Assembled, Difference, Embedded, Evaluated, Pipeline, Snapshot, SourceSnapshot, StepFailure,
    StepInput, StepResult,
};

/// Questions of the suite.
const QUESTIONS: u64 = 100;

#[derive(Clone, Debug)]
pub struct Source {
    /// Counts up with each change.
    pub version: u64,
    pub documents: u64,
    pub failing: bool,
    /// It tells what changed, and then cannot be read.
    pub unreadable: bool,
}

/// Versions and document counts by source.
pub type Listing = BTreeMap<String, (u64, u64)>;

#[derive(Default)]
pub struct Outside {
    pub sources: BTreeMap<String, Source>,
    /// What is in the store: each object with the listing that it stands for.
    pub store: BTreeMap<Digest, Listing>,
    /// Outputs by input key, as the store keeps them.
    records: BTreeMap<Digest, StepResult>,
    /// How many of the questions a revision loses.
    pub losses: BTreeMap<Digest, u64>,
    /// How many a revision with this version of a source loses; any few when absent.
    pub quality: BTreeMap<(String, u64), u64>,
}

impl Outside {
    pub fn change(&mut self, source: &str, documents: u64) {
        let entry = self.sources.entry(source.to_owned());
        let state = entry.or_insert(Source {
            version: 0,
            documents,
            failing: false,
            unreadable: false,
        });
        state.version += 1;
        state.documents = documents;
    }

    pub fn probe(&self, source: &str, basis: &Digest) -> Result<Difference, String> {
        let state = self.sources.get(source).ok_or("no such source")?;
        if state.failing {
            return Err("connection refused".to_owned());
        }
        let listing = self
            .store
            .get(basis)
            .ok_or("the basis is gone from the store")?;
        let same = listing.get(source) == Some(&(state.version, state.documents));
        Ok(if same {
            Difference::Unchanged
        } else {
            Difference::Changed
        })
    }

    /// Does a step, or looks up what it made before.
    pub fn work(
        &mut self,
        pipeline: &Pipeline,
        run: &str,
        input: &StepInput,
    ) -> Result<StepResult, StepFailure> {
        let snapshot_of = matches!(input, StepInput::Snapshot { .. }).then_some(run);
        let build = (&pipeline.model, pipeline.chunking.max_tokens);
        let key = Digest::of(format!("{snapshot_of:?} {build:?} {input:?}"));
        if let Some(known) = self
            .records
            .get(&key)
            .filter(|r| self.store.contains_key(&output(r)))
        {
            return Ok(known.clone());
        }
        let made = match input {
            StepInput::Snapshot { previous } => self.snapshot(pipeline, previous.as_ref())?,
            StepInput::Embed { snapshot, previous } => {
                previous.as_ref().map(|p| self.fetch(p)).transpose()?;
                let listing = self.fetch(snapshot)?;
                let output = self.put(format!("change {snapshot} {previous:?}"), listing);
                StepResult::Embed(Embedded {
                    output,
                    summary: String::new(),
                })
            }
            StepInput::Assemble { change } => self.assemble(pipeline, change)?,
            StepInput::Evaluate {
                revision,
                subjects,
                baseline,
                anchor,
            } => {
                let output = self.put(format!("evaluation {input:?}"), Listing::new());
                StepResult::Evaluate(Evaluated {
                    output,
                    subjects: subjects.clone(),
                    candidate: self.ask(revision)?,
                    baseline: baseline.as_ref().map(|b| self.ask(b)).transpose()?,
                    anchor: anchor.as_ref().map(|a| self.ask(a)).transpose()?,
                    base: None,
                    summary: String::new(),
                })
            }
        };
        self.records.insert(key, made.clone());
        Ok(made)
    }

    fn snapshot(
        &mut self,
        pipeline: &Pipeline,
        previous: Option<&Digest>,
    ) -> Result<StepResult, StepFailure> {
        let before = previous
            .map(|p| self.fetch(p))
            .transpose()?
            .unwrap_or_default();
        let mut listing = Listing::new();
        let mut sources = BTreeMap::new();
        for source in &pipeline.sources {
            let state = &self.sources[&source.name];
            let last = before.get(&source.name).copied();
            let fails = state.failing || state.unreadable;
            let now = if fails {
                last.unwrap_or((0, 0))
            } else {
                (state.version, state.documents)
            };
            let was = last.map_or(0, |l| l.1);
            let report = SourceSnapshot {
                documents: now.1,
                before: was,
                removed: was.saturating_sub(now.1),
                skipped: 0,
                error: fails.then(|| "connection refused".to_owned()),
            };
            sources.insert(source.name.clone(), report);
            listing.insert(source.name.clone(), now);
        }
        let failed: Vec<_> = sources.values().map(|s| s.error.is_some()).collect();
        let output = self.put(format!("snapshot {listing:?} {failed:?}"), listing);
        Ok(StepResult::Snapshot(Snapshot {
            output,
            sources,
            summary: String::new(),
        }))
    }

    fn assemble(
        &mut self,
        pipeline: &Pipeline,
        change: &Digest,
    ) -> Result<StepResult, StepFailure> {
        let listing = self.fetch(change)?;
        let documents = listing.values().map(|l| l.1).sum();
        let content_id = Digest::of(format!(
            "{} {:?} {listing:?}",
            pipeline.model, pipeline.chunking
        ));
        let revision = self.put(format!("revision {content_id}"), listing);
        let set = self
            .fetch(&revision)?
            .into_iter()
            .find_map(|(name, (version, _))| self.quality.get(&(name, version)).copied());
        let drawn = [0, 1, 2, 0, 1, 0, 6, 30][usize::from(content_id.as_bytes()[0] % 8)];
        self.losses.insert(revision, set.unwrap_or(drawn));
        Ok(StepResult::Assemble(Assembled {
            revision,
            content_id,
            embedder: Digest::of(&pipeline.model),
            documents,
            passages: documents,
            summary: String::new(),
        }))
    }

    fn ask(&self, revision: &Digest) -> Result<Vec<SuiteScores>, StepFailure> {
        self.fetch(revision)?;
        let lost = self.losses[revision];
        let question = |i: u64| QuestionScore {
            id: i.to_string(),
            stale: false,
            chance: 0.0,
            scores: BTreeMap::from([(Metric::RecallAt(5), f64::from(i >= lost))]),
        };
        Ok(vec![SuiteScores {
            suite: "faq".into(),
            questions: (0..QUESTIONS).map(question).collect(),
        }])
    }

    fn put(&mut self, name: String, listing: Listing) -> Digest {
        let digest = Digest::of(name);
        self.store.insert(digest, listing);
        digest
    }

    fn fetch(&self, digest: &Digest) -> Result<Listing, StepFailure> {
        let lost = || panic!("{digest} was collected though something still needs it");
        Ok(self.store.get(digest).cloned().unwrap_or_else(lost))
    }

    /// Sweeps all but the roots; nothing here is younger than what a sweep may take.
    pub fn collect(&mut self, roots: &[Digest]) {
        let roots: BTreeSet<_> = roots.iter().collect();
        self.store.retain(|d, _| roots.contains(d));
    }
}

fn output(result: &StepResult) -> Digest {
    match result {
        StepResult::Snapshot(s) => s.output,
        StepResult::Embed(e) => e.output,
        StepResult::Assemble(a) => a.revision,
        StepResult::Evaluate(e) => e.output,
    }
}
