//! `loci runs` and `loci releases`.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Shared, one_pipeline};
use crate::show::{self, Lead};

/// `loci runs`.
#[derive(Debug, Args)]
pub struct Runs {
    /// A run to show with its steps
    name: Option<String>,
    /// The pipeline; needed when there are several
    #[arg(long)]
    pipeline: Option<String>,
}

/// `loci releases`.
#[derive(Debug, Args)]
pub struct Releases {
    #[command(subcommand)]
    command: Option<ReleasesCommand>,
    /// The pipeline; needed when there are several
    #[arg(long, global = true)]
    pipeline: Option<String>,
}

/// What is to be seen of releases.
#[derive(Debug, Subcommand)]
pub enum ReleasesCommand {
    /// Shows one release with what its gates said
    Show {
        /// Its number, or its name
        release: String,
    },
}

impl Runs {
    /// Prints them.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (pipeline, state) = one_pipeline(shared, self.pipeline.as_deref())?;
        let runs = state.runs().list()?;
        match &self.name {
            Some(name) => show::run(
                show::find_run(&runs, name, (&pipeline, "loci"))?,
                shared.output,
            ),
            None => show::runs(runs, Lead::None, shared.output),
        }
    }
}

impl Releases {
    /// Prints them.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (pipeline, state) = one_pipeline(shared, self.pipeline.as_deref())?;
        let releases = state.releases().list()?;
        match &self.command {
            Some(ReleasesCommand::Show { release }) => {
                let found = show::find_release(&releases, release, (&pipeline, "loci"))?;
                show::release(found, shared.output)
            }
            None => show::releases(releases, Lead::None, shared.output),
        }
    }
}
