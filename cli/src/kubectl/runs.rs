//! `kubectl loci runs` and `kubectl loci run`.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use kube::api::PostParams;
use kube::{Resource, ResourceExt};
use loci_crds::run::{RunKind, RunTrigger};
use loci_crds::source::LocalRef;
use loci_crds::{MemoryPipeline, MemoryRun, MemoryRunSpec};
use loci_operator::PIPELINE;

use super::cluster::{Cluster, Scope, lead};
use super::follow::{Follow, Wanted};
use super::{Everywhere, PROGRAM, Which};
use crate::output::{Output, say};
use crate::show::{self, Lead};

/// `kubectl loci runs`.
#[derive(Debug, Args)]
pub struct Runs {
    /// A pipeline whose runs are meant, or a run to show with its steps
    #[arg(conflicts_with = "all_namespaces")]
    name: Option<String>,
    #[command(flatten)]
    everywhere: Everywhere,
    /// Follows what happens until interrupted: progress bars on a terminal, a line for each transition elsewhere
    #[arg(short, long)]
    watch: bool,
    /// Follows until no run is under way; fails when one of them did
    #[arg(long)]
    until_done: bool,
}

impl Runs {
    /// Prints or follows them.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let scope = self.everywhere.scope();
        let wanted = match &self.name {
            Some(name) => which(cluster, name).await?,
            None => Wanted::All,
        };
        if self.watch || self.until_done {
            let follow = Follow::new(output, self.until_done);
            return follow.run(cluster, scope, &wanted).await;
        }
        match wanted {
            Wanted::Run(name) => {
                let run = cluster.api::<MemoryRun>().get(&name).await;
                show::run(&run.map_err(|e| cluster.explain(e))?, output)
            }
            Wanted::Pipeline(name) => show::runs(cluster.runs_of(&name).await?, Lead::None, output),
            Wanted::All => {
                let runs = cluster.list::<MemoryRun>(scope).await?;
                // A run's name begins with its pipeline's.
                let lead = if scope == Scope::Namespace {
                    Lead::None
                } else {
                    lead(scope)
                };
                show::runs(runs, lead, output)
            }
        }
    }
}

/// What a name means.
async fn which(cluster: &Cluster, name: &str) -> Result<Wanted> {
    let run = cluster.api::<MemoryRun>().get_opt(name).await;
    if run.map_err(|e| cluster.explain(e))?.is_some() {
        return Ok(Wanted::Run(name.to_owned()));
    }
    let pipeline = cluster.pipeline(Some(name)).await;
    pipeline
        .with_context(|| format!("there is no run {name} either; `{PROGRAM} runs` lists them"))?;
    Ok(Wanted::Pipeline(name.to_owned()))
}

/// `kubectl loci run`.
#[derive(Debug, Subcommand)]
pub enum Run {
    /// Looks at all sources now and brings the index up to date; prints the run's name
    Refresh(Refresh),
    /// Trains an adapter now, if what it learns from changed; prints the run's name
    Finetune(Finetune),
}

/// `kubectl loci run refresh`.
#[derive(Debug, Args)]
pub struct Refresh {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

/// `kubectl loci run finetune`.
#[derive(Debug, Args)]
pub struct Finetune {
    /// The adapter; may be left out where the pipeline has one only
    adapter: Option<String>,
    /// The pipeline; may be left out where the namespace has one only
    #[arg(long)]
    pipeline: Option<String>,
    #[command(flatten)]
    how: How,
}

/// What becomes of a run that was started.
#[derive(Debug, Args)]
struct How {
    /// Follows the run to its end; fails when the run does
    #[arg(long)]
    wait: bool,
}

impl Run {
    /// Starts it.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let (pipeline, adapter, How { wait }) = match self {
            Self::Refresh(of) => (of.which.pipeline, None, of.how),
            Self::Finetune(of) => (of.pipeline, Some(of.adapter), of.how),
        };
        let pipeline = cluster.pipeline(pipeline.as_deref()).await?;
        let name = pipeline.name_any();
        let adapter = match &adapter {
            Some(wanted) => Some(show::adapter(&pipeline, wanted.as_deref(), &name)?),
            None => None,
        };
        if pipeline.spec.suspend {
            bail!(
                "{name} is suspended, and would not start the run: `{PROGRAM} suspend --off` first"
            );
        }
        if let Some(adapter) = adapter.filter(|a| is_suspended(&pipeline, a)) {
            bail!(
                "{adapter} of {name} is suspended, and would not be trained: `{PROGRAM} suspend {name} --adapter {adapter} --off` first, or change spec.adapters"
            );
        }
        let params = PostParams {
            field_manager: Some("kubectl-loci".to_owned()),
            ..PostParams::default()
        };
        let run = of(&pipeline, adapter);
        let created = cluster.api().create(&params, &run).await;
        let run = created.map_err(|e| cluster.explain(e))?;
        match output {
            Output::Json if wait => {}
            Output::Json => crate::output::json(&run)?,
            Output::Table => say!("{}", run.name_any()),
        }
        if !wait {
            return Ok(());
        }
        let follow = Follow::new(output, true);
        let wanted = Wanted::Run(run.name_any());
        follow.run(cluster, Scope::Namespace, &wanted).await
    }
}

/// Whether an adapter starts no runs.
fn is_suspended(pipeline: &MemoryPipeline, adapter: &str) -> bool {
    let by_hand = pipeline.annotations().get(loci_operator::SUSPEND);
    let mut by_hand = by_hand.iter().flat_map(|all| all.split(','));
    let mut declared = pipeline.spec.adapters.iter();
    declared.any(|a| a.name == adapter && a.suspend) || by_hand.any(|name| name.trim() == adapter)
}

/// A run as a person makes it: the operator does it when no other of the index, or of the adapter, is under way. It goes
/// with its pipeline.
fn of(pipeline: &MemoryPipeline, adapter: Option<&str>) -> MemoryRun {
    let name = pipeline.name_any();
    let about = adapter.map_or_else(|| "refresh".to_owned(), |a| format!("{a}-finetune"));
    let spec = MemoryRunSpec {
        pipeline_ref: LocalRef { name: name.clone() },
        kind: match adapter {
            None => RunKind::Refresh,
            Some(_) => RunKind::FineTune,
        },
        adapter: adapter.map(str::to_owned),
        release: None,
        trigger: RunTrigger::Requested,
        generation: None,
        scheduled_time: None,
        look_time: None,
        request: None,
    };
    let mut run = MemoryRun::new("", spec);
    run.metadata.name = None;
    run.metadata.generate_name = Some(format!("{name}-{about}-"));
    run.metadata.labels = Some([(PIPELINE.to_owned(), name)].into());
    run.metadata.owner_references = pipeline.owner_ref(&()).map(|owner| vec![owner]);
    run
}
