//! Commands that ask something of a running `loci up`, or of the next one.

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use loci_crds::release::ReleasePhase;
use loci_crds::run::RunPhase;

use super::{Shared, one_pipeline};
use crate::output::{self, Output};
use crate::state::intents;

/// The pipeline to ask.
#[derive(Debug, Args)]
pub struct Which {
    /// The pipeline; needed when there are several
    #[arg(long)]
    pipeline: Option<String>,
}

/// `loci rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The release's number; by default the one that served before
    number: Option<i64>,
    #[command(flatten)]
    which: Which,
}

/// `loci resume`.
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    which: Which,
}

/// `loci approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// The held run; by default the only one
    run: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// `loci refresh`.
#[derive(Debug, Args)]
pub struct Refresh {
    #[command(flatten)]
    which: Which,
}

impl Rollback {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        let releases = state.releases().list()?;
        let served = |r: &&loci_crds::MemoryRelease| {
            r.status
                .as_ref()
                .is_some_and(|s| matches!(s.phase, ReleasePhase::Retired | ReleasePhase::Withdrawn))
        };
        let target = match self.number {
            Some(number) => releases.iter().find(|r| r.spec.number == number),
            None => releases
                .iter()
                .filter(served)
                .filter(|r| {
                    r.status
                        .as_ref()
                        .is_some_and(|s| s.phase == ReleasePhase::Retired)
                })
                .max_by_key(|r| {
                    r.status
                        .as_ref()
                        .and_then(|s| s.replaced_time.clone())
                        .map(|t| t.0)
                }),
        };
        let Some(target) = target else {
            match self.number {
                Some(number) => bail!(
                    "{name} has no release {number}: `loci releases` lists those that are kept"
                ),
                None => bail!("no release of {name} served before the one that serves now"),
            }
        };
        let serving = target
            .status
            .as_ref()
            .is_some_and(|s| s.phase == ReleasePhase::Serving);
        if !serving && !served(&target) {
            bail!(
                "{} never served, so there is nothing to go back to: `loci releases` shows which did",
                target.name_any()
            );
        }
        let number = target.spec.number;
        intents::change(&state, |i| i.hold = Some(number))?;
        say(
            shared,
            format!("{name} goes back to release {number} and stays there until `loci resume`"),
        )
    }
}

impl Resume {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        if intents::read(&state.intents())?.hold.is_none() {
            bail!("{name} is not held by a rollback");
        }
        intents::change(&state, |i| i.hold = None)?;
        say(shared, format!("{name} takes new releases again"))
    }
}

impl Approve {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        let held =
            |r: &loci_crds::MemoryRun| r.status.as_ref().is_some_and(|s| s.phase == RunPhase::Held);
        let runs = state.runs().list()?;
        let run = match &self.run {
            Some(wanted) => runs.iter().find(|r| r.name_any() == *wanted),
            None => runs.iter().find(|r| held(r)),
        };
        match (run, &self.run) {
            (Some(run), _) if held(run) => {
                let run = run.name_any();
                intents::change(&state, |i| _ = i.approved.insert(run.clone()))?;
                say(shared, format!("{run} may delete what it would delete"))
            }
            (Some(run), _) => bail!(
                "{} is not held: there is nothing to approve",
                run.name_any()
            ),
            (None, Some(wanted)) => bail!("{name} has no run {wanted}: `loci runs` lists them"),
            (None, None) => bail!("no run of {name} is held"),
        }
    }
}

impl Refresh {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        intents::change(&state, |i| i.refresh = Some(Timestamp::now().to_string()))?;
        say(shared, format!("{name} looks at all its sources now"))
    }
}

fn say(shared: &Shared, text: String) -> Result<()> {
    match shared.output {
        Output::Json => output::json(&serde_json::json!({ "message": text })),
        Output::Table => {
            println!("{text}");
            Ok(())
        }
    }
}
