//! Commands that ask something of a pipeline.

use anyhow::{Result, bail};
use clap::Args;
use kube::ResourceExt;
use loci_crds::{MemoryPipeline, MemoryRun};
use serde_json::json;

use super::cluster::{Cluster, Scope};
use super::{PROGRAM, Which, owned};
use crate::output::Output;
use crate::show::{self, say};

/// `kubectl loci rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The pipeline; may be left out where the namespace has one only
    #[arg(value_name = "PIPELINE")]
    first: Option<String>,
    /// The release's number; by default the one that served before
    #[arg(value_name = "N")]
    second: Option<i64>,
}

/// `kubectl loci resume`.
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    which: Which,
}

/// `kubectl loci approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// The held run; by default the only one of the namespace
    run: Option<String>,
}

/// `kubectl loci suspend`.
#[derive(Debug, Args)]
pub struct Suspend {
    #[command(flatten)]
    which: Which,
    /// Only this adapter: the index is refreshed further
    #[arg(long)]
    adapter: Option<String>,
    /// Starts runs again
    #[arg(long)]
    off: bool,
}

impl Rollback {
    /// `rollback 3` names a release; a pipeline of that name wants its release said as well.
    fn split(self) -> (Option<String>, Option<i64>) {
        let number = self.first.as_deref().and_then(|f| f.parse().ok());
        match (number, self.second) {
            (Some(number), None) => (None, Some(number)),
            (_, second) => (self.first, second),
        }
    }

    /// Asks for it.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let (pipeline, number) = self.split();
        let pipeline = cluster.pipeline(pipeline.as_deref()).await?;
        let name = pipeline.name_any();
        let releases = cluster.releases_of(&name).await?;
        let target = show::rollback_target(&releases, number, (&name, PROGRAM))?;
        let number = target.spec.number;
        owned::ROLLBACK
            .set(cluster, &pipeline, json!(number.to_string()))
            .await?;
        let text = format!(
            "{name} goes back to release {number} and stays there until `{PROGRAM} resume`"
        );
        say(output, &text)
    }
}

impl Resume {
    /// Asks for it.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let pipeline = cluster.pipeline(self.which.pipeline.as_deref()).await?;
        let name = pipeline.name_any();
        if !pipeline.annotations().contains_key(loci_operator::ROLLBACK) {
            match pipeline.spec.rollout.pin {
                Some(_) => bail!("{name} is held by spec.rollout.pin: remove it from the manifest"),
                None => bail!("{name} is not held by a rollback"),
            }
        }
        owned::ROLLBACK.unset(cluster, &pipeline).await?;
        say(output, &format!("{name} takes new releases again"))
    }
}

impl Approve {
    /// Asks for it. Approvals of runs that are gone are dropped.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let runs: Vec<MemoryRun> = cluster.list(Scope::Namespace).await?;
        let place = format!("the namespace {}", cluster.namespace);
        let run = show::held_run(&runs, self.run.as_deref(), (&place, PROGRAM))?;
        let pipeline = cluster.pipeline(Some(&run.spec.pipeline_ref.name)).await?;
        let before = pipeline.annotations().get(loci_operator::APPROVE).cloned();
        let mut approved: Vec<&str> = before
            .iter()
            .flat_map(|b| b.split(','))
            .map(str::trim)
            .collect();
        approved.retain(|name| runs.iter().any(|r| r.name_any() == *name));
        let name = run.name_any();
        if !approved.contains(&name.as_str()) {
            approved.push(&name);
        }
        owned::APPROVE
            .set(cluster, &pipeline, json!(approved.join(",")))
            .await?;
        say(output, &format!("{name} may delete what it would delete"))
    }
}

impl Suspend {
    /// Asks for it.
    pub async fn run(self, cluster: &Cluster, output: Output) -> Result<()> {
        let pipeline = cluster.pipeline(self.which.pipeline.as_deref()).await?;
        let name = pipeline.name_any();
        if let Some(adapter) = &self.adapter {
            let text = suspend(cluster, &pipeline, adapter, self.off).await?;
            return say(output, &text);
        }
        let text = match (self.off, pipeline.spec.suspend) {
            (false, _) => {
                owned::SUSPEND.set(cluster, &pipeline, json!(true)).await?;
                format!(
                    "{name} starts no more runs until `{PROGRAM} suspend --off`; what serves goes on serving"
                )
            }
            (true, true) => {
                owned::SUSPEND.unset(cluster, &pipeline).await?;
                format!("{name} starts runs again")
            }
            (true, false) => bail!("{name} is not suspended"),
        };
        say(output, &text)
    }
}

/// Suspends an adapter, or takes that back; what to say of it. Adapters that are not declared any more are dropped.
async fn suspend(
    cluster: &Cluster,
    pipeline: &MemoryPipeline,
    adapter: &str,
    off: bool,
) -> Result<String> {
    let name = pipeline.name_any();
    let adapter = show::adapter(pipeline, Some(adapter), &name)?;
    let before = pipeline.annotations().get(loci_operator::SUSPEND);
    let mut suspended: Vec<&str> = before.iter().flat_map(|b| b.split(',')).collect();
    for of in &mut suspended {
        *of = of.trim();
    }
    let there = suspended.contains(&adapter);
    suspended.retain(|of| *of != adapter && pipeline.spec.adapters.iter().any(|a| a.name == *of));
    if off && !there {
        let mut declared = pipeline.spec.adapters.iter();
        if declared.any(|a| a.name == adapter && a.suspend) {
            bail!("{adapter} of {name} is suspended by spec.adapters: change it in the manifest");
        }
        bail!("{adapter} of {name} is not suspended");
    }
    if !off {
        suspended.push(adapter);
    }
    let owned = owned::SUSPEND_ADAPTERS;
    match suspended.is_empty() {
        true => owned.unset(cluster, pipeline).await?,
        false => {
            let all = json!(suspended.join(","));
            owned.set(cluster, pipeline, all).await?;
        }
    }
    Ok(match off {
        true => format!("{name} trains {adapter} again"),
        false => format!(
            "{name} trains {adapter} no more until `{PROGRAM} suspend {name} --adapter {adapter} --off`; what serves goes on serving"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_a_release() {
        let split = |first: Option<&str>, second| {
            let first = first.map(str::to_owned);
            Rollback { first, second }.split()
        };
        assert_eq!(split(None, None), (None, None));
        assert_eq!(split(Some("3"), None), (None, Some(3)));
        assert_eq!(split(Some("shop"), None), (Some("shop".to_owned()), None));
        assert_eq!(split(Some("7"), Some(3)), (Some("7".to_owned()), Some(3)));
    }
}
