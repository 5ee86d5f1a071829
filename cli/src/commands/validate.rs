//! `loci validate` and `loci advise`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use loci_plan::advise::{Corpus, Prices, advise};
use loci_plan::gate::describe_power;

use super::Shared;
use crate::output::{self, Output};
use crate::state::State;
use crate::up::declare;

/// Where a manifest is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Target {
    /// `loci up`
    #[default]
    Machine,
    /// A Kubernetes cluster
    Cluster,
}

/// `loci validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files with MemoryPipelines, ConfigMaps and Secrets
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where they are to run
    #[arg(long, value_enum, default_value_t)]
    target: Target,
}

impl Validate {
    /// Checks, and says what the suites can tell.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (manifests, pipelines) = declare::load(&self.files)?;
        let mut problems = match self.target {
            Target::Machine => Vec::new(),
            Target::Cluster => loci_manifest::for_cluster(&manifests),
        };
        let mut reports = Vec::new();
        for (loaded, pipeline) in manifests.pipelines.iter().zip(&pipelines) {
            match declare::suites(&manifests, loaded, pipeline) {
                Ok(suites) => {
                    let sizes = suites.into_iter().map(|(name, (_, questions))| (name, questions)).collect();
                    reports.push((pipeline, describe_power(pipeline, &sizes)));
                }
                Err(more) if self.target == Target::Machine => problems.extend(more),
                Err(_) => {}
            }
        }
        if !problems.is_empty() {
            return Err(declare::refuse(problems));
        }
        if shared.output == Output::Json {
            let reports: Vec<_> = reports.iter().map(|(p, power)| serde_json::json!({"pipeline": p.name, "suites": power})).collect();
            return output::json(&reports);
        }
        for note in &manifests.notes {
            println!("{note}");
        }
        for (pipeline, power) in reports {
            println!("{} is valid: {} sources, {} suites, {} gates", pipeline.name, pipeline.sources.len(), pipeline.suites.len(), pipeline.gates.len());
            for line in power {
                println!("  {line}");
            }
        }
        Ok(())
    }
}

/// `loci advise`.
#[derive(Debug, Args)]
pub struct Advise {
    /// Files with MemoryPipelines, ConfigMaps and Secrets
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What an hour of one CPU core costs
    #[arg(long, default_value_t = 0.04)]
    core_hour: f64,
    /// What a month of one GiB on disk costs
    #[arg(long, default_value_t = 0.10)]
    gib_month: f64,
}

impl Advise {
    /// Advises on each pipeline; with the numbers of its serving release where `--state` has one.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (_, pipelines) = declare::load(&self.files)?;
        let mut all = Vec::new();
        for pipeline in &pipelines {
            let advice = advise(pipeline, &self.corpus(shared, pipeline), &self.prices());
            all.push((pipeline.name.clone(), advice));
        }
        if shared.output == Output::Json {
            let all: Vec<_> = all.iter().map(|(name, advice)| serde_json::json!({"pipeline": name, "advice": advice})).collect();
            return output::json(&all);
        }
        for (name, advice) in all {
            println!("{name}");
            let mut table = output::table(&["level", "field", "advice"]);
            for a in advice {
                table.add_row([format!("{:?}", a.level), a.field, a.text]);
            }
            output::print(&table, "Nothing to say: the manifest is sound.");
        }
        Ok(())
    }
}
