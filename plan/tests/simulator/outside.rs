//! What lies outside the plan: sources that change, a store, and workers that do steps.

use std::collections::{BTreeMap, BTreeSet};

use loci_crds::adapter::Context;
use loci_digest::Digest;
use loci_plan::gate::{QuestionScore, SuiteScores};
use loci_plan::metrics::Metric;
use loci_plan::spec::Adapter;
use loci_plan::{
    Assembled, Collected, Difference, Embedded, Evaluated, Pipeline, Snapshot, SourceSnapshot,
    StepFailure, StepInput, StepResult, Subject, Trained,
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
    /// How many of the questions a revision loses, or an adapter.
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
        let settings = match input {
            StepInput::Train { adapter, .. } => pipeline.adapter(adapter).map(Adapter::settings),
            _ => None,
        };
        // What it may cost is not in the key of an adapter.
        let of = match input {
            StepInput::Train {
                adapter,
                dataset,
                warm_start,
                ..
            } => format!("Train {adapter} {dataset} {warm_start:?}"),
            _ => format!("{input:?}"),
        };
        let key = format!("{snapshot_of:?} {build:?} {settings:?} {of}");
        let key = Digest::of(key);
        if let Some(known) = self
            .records
            .get(&key)
            .filter(|r| self.store.contains_key(&output(r)))
        {
            return Ok(known.clone());
        }
        let made = match input {
            StepInput::Snapshot { previous, adapter } => {
                self.snapshot(pipeline, previous.as_ref(), adapter.as_deref())?
            }
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
            // How many are enough is not in the key of a dataset, either.
            StepInput::Collect {
                adapter,
                snapshot,
                last,
                min_new,
                revision,
            } => {
                let adapter = declared(pipeline, adapter)?;
                assert_eq!(revision.is_some(), adapter.context == Context::Retrieved);
                revision.as_ref().map(|r| self.fetch(r)).transpose()?;
                return self.collect_examples(adapter, snapshot, last.as_ref(), *min_new);
            }
            StepInput::Train {
                adapter, dataset, ..
            } => self.train(declared(pipeline, adapter)?, dataset)?,
            StepInput::Evaluate {
                candidate,
                adapter,
                subjects,
                baseline,
                anchor,
            } => {
                let new = adapter.as_deref();
                let output = self.put(format!("evaluation {input:?}"), Listing::new());
                StepResult::Evaluate(Evaluated {
                    output,
                    subjects: (**subjects).clone(),
                    candidate: self.ask(candidate, new)?,
                    baseline: baseline.as_ref().map(|b| self.ask(b, new)).transpose()?,
                    anchor: anchor.as_ref().map(|a| self.ask(a, new)).transpose()?,
                    base: new.map(|_| vec![protocol(QUESTIONS)]),
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
        adapter: Option<&str>,
    ) -> Result<StepResult, StepFailure> {
        let before = previous
            .map(|p| self.fetch(p))
            .transpose()?
            .unwrap_or_default();
        let mut listing = Listing::new();
        let mut sources = BTreeMap::new();
        for source in pipeline.read_by(adapter) {
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
        self.losses
            .insert(revision, set.unwrap_or(drawn(&content_id)));
        Ok(StepResult::Assemble(Assembled {
            revision,
            content_id,
            embedder: Digest::of(&pipeline.model),
            cross_encoder: None,
            documents,
            passages: documents,
            summary: String::new(),
        }))
    }

    /// Documents are examples. Those of a source that changed are all new.
    fn collect_examples(
        &mut self,
        adapter: &Adapter,
        snapshot: &Digest,
        last: Option<&Digest>,
        min_new: u64,
    ) -> Result<StepResult, StepFailure> {
        let listing = self.fetch(snapshot)?;
        // As in a worker: what the last training was by may be gone.
        let last = last.and_then(|l| self.store.get(l)).cloned();
        let last = last.unwrap_or_default();
        let total: u64 = listing.values().map(|l| l.1).sum();
        let changed = listing
            .iter()
            .filter(|(name, state)| last.get(*name) != Some(*state));
        let new: u64 = changed.map(|(_, state)| state.1).sum();
        let few = total < adapter.min_examples || new < min_new;
        let content = Digest::of(format!("dataset {listing:?}"));
        Ok(StepResult::Collect(Collected {
            output: self.put(format!("dataset {listing:?}"), listing),
            content,
            total,
            new,
            not_enough: few.then(|| format!("{new} of {total} examples are new")),
            summary: String::new(),
        }))
    }

    fn train(&mut self, adapter: &Adapter, dataset: &Digest) -> Result<StepResult, StepFailure> {
        let listing = self.fetch(dataset)?;
        let settings = adapter.settings();
        let identity = Digest::of(format!("{settings} {listing:?}"));
        let versions: Vec<_> = listing.iter().map(|(n, l)| (n.clone(), l.0)).collect();
        let set = versions.iter().find_map(|v| self.quality.get(v).copied());
        let output = self.put(format!("adapter {identity}"), listing);
        self.losses.insert(output, set.unwrap_or(drawn(&identity)));
        Ok(StepResult::Train(Trained {
            output,
            adapter: identity,
            base_digest: Digest::of(&adapter.base),
            rank: adapter.lora.rank,
            device_seconds: 0,
            summary: String::new(),
        }))
    }

    /// How many questions a revision with these adapters loses.
    pub fn lost<'a>(&self, parts: impl IntoIterator<Item = &'a Digest>) -> u64 {
        let lost = parts.into_iter().map(|part| self.losses[part]);
        lost.sum::<u64>().min(QUESTIONS)
    }

    /// The questions on the index; and those on the behaviour of the adapter that is new in a candidate, which its base
    /// cannot do.
    fn ask(&self, subject: &Subject, new: Option<&str>) -> Result<Vec<SuiteScores>, StepFailure> {
        let parts = || subject.adapters.values().chain([&subject.revision]);
        for part in parts() {
            self.fetch(part)?;
        }
        let lost = self.lost(parts());
        let behavior = new.map(|name| {
            let adapter = subject.adapters.get(name);
            protocol(adapter.map_or(QUESTIONS, |adapter| self.lost([adapter])))
        });
        let index = scores("faq", Metric::RecallAt(5), lost);
        Ok(std::iter::once(index).chain(behavior).collect())
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
        StepResult::Collect(c) => c.output,
        StepResult::Train(t) => t.output,
        StepResult::Evaluate(e) => e.output,
    }
}

/// An adapter, unless it was taken out of the spec just now.
fn declared<'a>(pipeline: &'a Pipeline, name: &str) -> Result<&'a Adapter, StepFailure> {
    pipeline.adapter(name).ok_or_else(|| StepFailure {
        reason: "NoAdapter".into(),
        message: format!("{name} is not declared"),
        retryable: false,
    })
}

/// What an adapter is to do.
fn protocol(lost: u64) -> SuiteScores {
    scores("protocol", Metric::ExactMatch, lost)
}

/// The first questions are lost.
fn scores(suite: &str, metric: Metric, lost: u64) -> SuiteScores {
    let question = |i: u64| QuestionScore {
        id: i.to_string(),
        stale: false,
        chance: 0.0,
        scores: BTreeMap::from([(metric, f64::from(i >= lost))]),
    };
    SuiteScores {
        suite: suite.to_owned(),
        questions: (0..QUESTIONS).map(question).collect(),
    }
}

/// How many questions are lost by what is made, as its digest has it.
fn drawn(digest: &Digest) -> u64 {
    [0, 1, 2, 0, 1, 0, 6, 30][usize::from(digest.as_bytes()[0] % 8)]
}
