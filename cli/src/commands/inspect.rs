//! `loci status`, `loci runs` and `loci releases`.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use loci_crds::MemoryPipeline;

use super::{Shared, one_pipeline};
use crate::kubectl::status::{self, State};
use crate::show::{self, Lead};
use crate::state::read_json;

/// `loci status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The pipeline; needed when there are several
    #[arg(long)]
    pipeline: Option<String>,
}

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

impl Status {
    /// Prints it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.pipeline.as_deref())?;
        let pipeline: Option<MemoryPipeline> = read_json(&state.resource())?;
        let pipeline = pipeline.with_context(|| format!("{name} is not declared any more"))?;
        let (runs, releases) = (state.runs().list()?, state.releases().list()?);
        status::print(&State::of(pipeline, runs, releases), shared.output)
    }
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
                show::release(found, &state.runs().list()?, shared.output)
            }
            None => show::releases(releases, Lead::None, shared.output),
        }
    }
}
