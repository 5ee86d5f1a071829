//! `kubectl loci runs` and `kubectl loci run refresh`.

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
}

/// `kubectl loci run refresh`.
#[derive(Debug, Args)]
pub struct Refresh {
    #[command(flatten)]
    which: Which,
    /// Follows the run to its end; fails when the run does
    #[arg(long)]
    wait: bool,
}

impl Run {
    /// Starts it.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let Self::Refresh(refresh) = self;
        let pipeline = cluster.pipeline(refresh.which.pipeline.as_deref()).await?;
        if pipeline.spec.suspend {
            bail!(
                "{} is suspended, and would not start the run: `{PROGRAM} suspend --off` first",
                pipeline.name_any()
            );
        }
        let params = PostParams {
            field_manager: Some("kubectl-loci".to_owned()),
            ..PostParams::default()
        };
        let created = cluster.api().create(&params, &of(&pipeline)).await;
        let run = created.map_err(|e| cluster.explain(e))?;
        match output {
            Output::Json if refresh.wait => {}
            Output::Json => crate::output::json(&run)?,
            Output::Table => say!("{}", run.name_any()),
        }
        if !refresh.wait {
            return Ok(());
        }
        let follow = Follow::new(output, true);
        let wanted = Wanted::Run(run.name_any());
        follow.run(cluster, Scope::Namespace, &wanted).await
    }
}

/// A run as a person makes it: the operator does it when no other is under way. It goes with its pipeline.
fn of(pipeline: &MemoryPipeline) -> MemoryRun {
    let name = pipeline.name_any();
    let spec = MemoryRunSpec {
        pipeline_ref: LocalRef { name: name.clone() },
        kind: RunKind::Refresh,
        adapter: None,
        release: None,
        trigger: RunTrigger::Requested,
        generation: None,
        scheduled_time: None,
        look_time: None,
        request: None,
    };
    let mut run = MemoryRun::new("", spec);
    run.metadata.name = None;
    run.metadata.generate_name = Some(format!("{name}-refresh-"));
    run.metadata.labels = Some([(PIPELINE.to_owned(), name)].into());
    run.metadata.owner_references = pipeline.owner_ref(&()).map(|owner| vec![owner]);
    run
}
