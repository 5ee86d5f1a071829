//! `loci validate`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Shared;
use crate::output::{self, Output, say};
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
        let demands = match self.target {
            Target::Machine => loci_manifest::for_machine,
            Target::Cluster => loci_manifest::for_cluster,
        };
        let (manifests, pipelines) = declare::load_for(&self.files, demands)?;
        let (mut reports, mut problems) = (Vec::new(), Vec::new());
        for (loaded, pipeline) in manifests.pipelines.iter().zip(&pipelines) {
            match declare::suites(&manifests, loaded, pipeline) {
                Ok(suites) => reports.push((pipeline, declare::power(pipeline, &suites))),
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(declare::refuse(problems));
        }
        if shared.output == Output::Json {
            let reports: Vec<_> = reports
                .iter()
                .map(|(p, power)| serde_json::json!({"pipeline": p.name, "suites": power}))
                .collect();
            return output::json(&reports);
        }
        for note in &manifests.notes {
            say!("{note}");
        }
        for (pipeline, power) in reports {
            say!(
                "{} is valid: {} sources, {} suites, {} gates",
                pipeline.name,
                pipeline.sources.len(),
                pipeline.suites.len(),
                pipeline.gates.len()
            );
            for line in power {
                say!("  {line}");
            }
        }
        Ok(())
    }
}
