//! `kubectl loci advise`.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use kube::ResourceExt;
use loci_crds::MemoryRelease;
use loci_plan::Pipeline;
use loci_plan::advise::Trained;

use super::Target;
use super::cluster::Cluster;
use crate::commands::advise::{Pricing, corpus_of, print, trained_of};
use crate::output::Output;
use crate::show::names;
use crate::up::declare;

/// `kubectl loci advise`.
#[derive(Debug, Args)]
pub struct Advise {
    /// Files with manifests, or one pipeline of the namespace; without, the only one there
    #[arg(value_name = "FILE|PIPELINE")]
    what: Vec<String>,
    #[command(flatten)]
    pricing: Pricing,
}

impl Advise {
    /// Advises: on files without asking a cluster, on a pipeline with the numbers of its serving release.
    pub async fn run(self, target: &Target, output: Output) -> Result<()> {
        let is_file = |what: &String| what.contains('/') || Path::new(what).is_file();
        if !self.what.is_empty() && self.what.iter().all(is_file) {
            let files: Vec<_> = self.what.iter().map(Into::into).collect();
            let (_, pipelines) = declare::load_for(&files, |_| Vec::new())?;
            let on = |p: &Pipeline| self.pricing.on(p, None, &Trained::new());
            return print(pipelines.iter().map(on).collect(), output);
        }
        let wanted = match &self.what[..] {
            [] => None,
            [pipeline] => Some(pipeline.as_str()),
            _ => bail!(
                "give files, or one pipeline: {} are not all files",
                self.what.join(", ")
            ),
        };
        let cluster = Cluster::connect(target).await?;
        let resource = cluster.pipeline(wanted).await?;
        let pipeline = Pipeline::from_resource(&resource).map_err(|errors| {
            anyhow::anyhow!("{}", names(errors.iter().map(ToString::to_string)))
        })?;
        let releases: Vec<MemoryRelease> = cluster.releases_of(&resource.name_any()).await?;
        let corpus = corpus_of(&releases, &pipeline, None);
        let trained = trained_of(&cluster.runs_of(&resource.name_any()).await?);
        let advised = self.pricing.on(&pipeline, corpus.as_ref(), &trained);
        print(vec![advised], output)
    }
}
