//! `kubectl loci releases`.

use anyhow::Result;
use clap::Args;
use loci_crds::MemoryRelease;

use super::cluster::{Cluster, Scope, lead};
use super::{Everywhere, PROGRAM};
use crate::commands::ReleasesCommand;
use crate::output::Output;
use crate::show::{self, Lead};

/// `kubectl loci releases`.
#[derive(Debug, Args)]
pub struct Releases {
    /// A pipeline whose releases are meant; to show one release it may be left out where the namespace has one only
    #[arg(conflicts_with = "all_namespaces")]
    pipeline: Option<String>,
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: Option<ReleasesCommand>,
}

impl Releases {
    /// Prints them.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let wanted = self.pipeline.as_deref();
        if let Some(ReleasesCommand::Show { release }) = &self.command {
            let pipeline = kube::ResourceExt::name_any(&cluster.pipeline(wanted).await?);
            let releases = cluster.releases_of(&pipeline).await?;
            let found = show::find_release(&releases, release, (&pipeline, PROGRAM))?;
            return show::release(found, &cluster.runs_of(&pipeline).await?, output);
        }
        if let Some(name) = wanted {
            cluster.pipeline(Some(name)).await?;
            return show::releases(cluster.releases_of(name).await?, Lead::None, output);
        }
        let scope = self.everywhere.scope();
        let releases: Vec<MemoryRelease> = cluster.list(scope).await?;
        // A release's name begins with its pipeline's.
        let lead = if scope == Scope::Namespace {
            Lead::None
        } else {
            lead(scope)
        };
        show::releases(releases, lead, output)
    }
}
