//! `loci advise`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use loci_crds::release::ReleasePhase;
use loci_crds::run::RunPhase;
use loci_crds::{MemoryRelease, MemoryRun};
use loci_plan::Pipeline;
use loci_plan::advise::{Advice, Corpus, Prices, Trained, advise};

use super::Shared;
use crate::output::{self, Output, say};
use crate::state::State;
use crate::up::declare;

/// `loci advise`.
#[derive(Debug, Args)]
pub struct Advise {
    /// Files with MemoryPipelines, ConfigMaps and Secrets
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    pricing: Pricing,
}

/// What things cost.
#[derive(Debug, Args)]
pub struct Pricing {
    /// What an hour of one CPU core costs
    #[arg(long, default_value_t = 0.04)]
    core_hour: f64,
    /// What a GiB on disk costs a month
    #[arg(long, default_value_t = 0.10)]
    gib_month: f64,
    /// Tokens that one core embeds in a second
    #[arg(long, default_value_t = 5000.0)]
    tokens_per_second: f64,
    /// What an hour on a device costs that trains, where the pipeline has no budget
    #[arg(long, default_value_t = 1.0)]
    device_hour: f64,
}

/// A pipeline's name, and what is advised.
pub type Advised = (String, Vec<Advice>);

impl Pricing {
    /// Advises on a pipeline.
    pub fn on(&self, pipeline: &Pipeline, corpus: Option<&Corpus>, trained: &Trained) -> Advised {
        let prices = Prices {
            core_hour: self.core_hour,
            gib_month: self.gib_month,
            tokens_per_core_second: self.tokens_per_second,
            device_hour: self.device_hour,
        };
        let advice = advise(pipeline, corpus, trained, &prices);
        (pipeline.name.clone(), advice)
    }
}

impl Advise {
    /// Advises on each pipeline, with the numbers of its serving release and of its trainings where `--state` has them.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (_, pipelines) = declare::load_for(&self.files, |_| Vec::new())?;
        let mut all = Vec::new();
        for pipeline in &pipelines {
            let (corpus, trained) = known(shared, pipeline)?;
            all.push(self.pricing.on(pipeline, corpus.as_ref(), &trained));
        }
        print(all, shared.output)
    }
}

/// Prints what is advised.
pub fn print(all: Vec<Advised>, output: Output) -> Result<()> {
    if output == Output::Json {
        let all: Vec<_> = all
            .iter()
            .map(|(name, advice)| serde_json::json!({"pipeline": name, "advice": advice}))
            .collect();
        return output::json(&all);
    }
    for (name, advice) in all {
        say!("{name}");
        let mut table = output::table(&["level", "field", "advice"]);
        for a in advice {
            table.add_row([format!("{:?}", a.level), a.field, a.text]);
        }
        output::print(&table, "Nothing to say: the manifest is sound.");
    }
    Ok(())
}

/// What the serving release indexes; nothing when none serves. Passages are taken to be half full.
pub fn corpus_of(
    releases: &[MemoryRelease],
    pipeline: &Pipeline,
    bytes: Option<u64>,
) -> Option<Corpus> {
    let serves = |r: &&MemoryRelease| {
        let phase = r.status.as_ref().map(|s| s.phase);
        phase == Some(ReleasePhase::Serving)
    };
    let serving = releases.iter().find(serves)?;
    Some(Corpus {
        documents: serving.spec.index.documents.unsigned_abs(),
        passages: serving.spec.index.passages.unsigned_abs(),
        tokens_per_passage: pipeline.chunking.max_tokens as f64 / 2.0,
        bytes,
    })
}

/// How long the newest training of each adapter took, of the runs that are kept.
pub fn trained_of(runs: &[MemoryRun]) -> Trained {
    let mut newest = Trained::new();
    let mut runs: Vec<&MemoryRun> = runs.iter().collect();
    runs.sort_by_key(|r| r.metadata.creation_timestamp.clone());
    for run in runs {
        let status = run.status.as_ref();
        let good = status.filter(|s| s.phase == RunPhase::Succeeded);
        let cost = good.and_then(|s| s.cost.as_ref());
        let seconds = cost.map_or(0, |c| c.device_seconds.unsigned_abs());
        if let Some(adapter) = run.spec.adapter.clone().filter(|_| seconds > 0) {
            newest.insert(adapter, seconds);
        }
    }
    newest
}

/// What the state directory has of a pipeline.
fn known(shared: &Shared, pipeline: &Pipeline) -> Result<(Option<Corpus>, Trained)> {
    if !shared.state.is_dir() {
        return Ok((None, Trained::new()));
    }
    let state = State::open(&shared.state)?;
    let namespace = pipeline.namespace.as_deref().unwrap_or("default");
    let kept = state.pipeline(namespace, &pipeline.name);
    let (releases, runs) = (kept.releases().list()?, kept.runs().list()?);
    let bytes = size(&state.directory("store")?)?;
    let corpus = corpus_of(&releases, pipeline, Some(bytes));
    Ok((corpus, trained_of(&runs)))
}

fn size(directory: &std::path::Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() {
            size(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(total)
}
