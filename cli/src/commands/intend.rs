//! Commands that ask something of a running `loci up`, or of the next one.

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use loci_crds::MemoryPipeline;

use super::{Shared, one_pipeline};
use crate::show::{self, say};
use crate::state::{intents, read_json};

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

/// `loci tune`.
#[derive(Debug, Args)]
pub struct Tune {
    /// The adapter; by default the only one
    adapter: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Rollback {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        let releases = state.releases().list()?;
        let target = show::rollback_target(&releases, self.number, (&name, "loci"))?;
        let number = target.spec.number;
        intents::change(&state, |i| i.hold = Some(number))?;
        let text =
            format!("{name} goes back to release {number} and stays there until `loci resume`");
        say(shared.output, &text)
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
        say(shared.output, &format!("{name} takes new releases again"))
    }
}

impl Approve {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        let runs = state.runs().list()?;
        let run = show::held_run(&runs, self.run.as_deref(), (&name, "loci"))?.name_any();
        intents::change(&state, |i| _ = i.approved.insert(run.clone()))?;
        say(
            shared.output,
            &format!("{run} may delete what it would delete"),
        )
    }
}

impl Refresh {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        intents::change(&state, |i| i.refresh = Some(Timestamp::now().to_string()))?;
        say(
            shared.output,
            &format!("{name} looks at all its sources now"),
        )
    }
}

impl Tune {
    /// Asks for it.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let (name, state) = one_pipeline(shared, self.which.pipeline.as_deref())?;
        let pipeline: Option<MemoryPipeline> = read_json(&state.resource())?;
        let pipeline = pipeline.with_context(|| format!("{name} is not declared any more"))?;
        let adapter = show::adapter(&pipeline, self.adapter.as_deref(), &name)?.to_owned();
        let token = Timestamp::now().to_string();
        intents::change(&state, |i| _ = i.tune.insert(adapter.clone(), token))?;
        let text = format!("{name} trains {adapter} now, if what it learns from changed");
        say(shared.output, &text)
    }
}
