//! Which of several operators leads.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use loci_operator::{Election, Timing};

use crate::up::duration;

/// Where a pod reads its namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How several operators agree on who leads.
#[derive(Debug, Args)]
pub struct Leadership {
    /// The namespace of the Lease by which several operators elect a leader. A pod's own, when it is not given; outside
    /// of a pod there is no election then
    #[arg(long, env = "LOCI_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// The name of that Lease
    #[arg(long, default_value = "loci-operator", value_name = "NAME")]
    lease_name: String,
    /// Leads without an election: there is no other operator for these namespaces
    #[arg(long)]
    no_leader_election: bool,
    /// What the Lease calls this process; some digits are added, so that no other has the same
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    /// A service account of that namespace: the Lease is deleted with it
    #[arg(long, env = "LOCI_SERVICE_ACCOUNT", value_name = "NAME")]
    lease_owner: Option<String>,
    /// How long others wait for a leader that is silent; whole seconds
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "TIME")]
    lease_duration: Duration,
    /// How long a leader goes on when it cannot renew the Lease; shorter than that
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    lease_renew_deadline: Duration,
    /// How often a leader renews the Lease
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "TIME")]
    lease_retry: Duration,
}

impl Leadership {
    /// Where operators are, as far as is known.
    pub fn namespace(&self) -> Result<Option<String>> {
        match self.lease_namespace.clone().filter(|n| !n.is_empty()) {
            Some(namespace) => Ok(Some(namespace)),
            None => pod_namespace(),
        }
    }

    /// None when this operator is the only one.
    pub fn election(self) -> Result<Option<Election>> {
        if self.no_leader_election {
            tracing::info!("no leader election: it is switched off");
            return Ok(None);
        }
        let Some(namespace) = self.namespace()? else {
            tracing::info!(
                "no leader election: this is no pod, and --lease-namespace is not given"
            );
            return Ok(None);
        };
        let timing = Timing {
            duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry: self.lease_retry,
        };
        let name = self.identity.unwrap_or_else(|| "loci-operator".to_owned());
        // A process started anew is another one: what the last one began may still be under way.
        let digits = RandomState::new().build_hasher().finish();
        Ok(Some(Election {
            namespace,
            lease: self.lease_name,
            identity: format!("{name}_{digits:016x}"),
            account: self.lease_owner,
            timing: timing.check().map_err(|why| anyhow!("--lease-…: {why}"))?,
        }))
    }
}

/// None outside of a pod, and in a pod that works for another cluster.
fn pod_namespace() -> Result<Option<String>> {
    let elsewhere = std::env::var_os("KUBECONFIG").is_some();
    if elsewhere || !Path::new(POD_NAMESPACE).exists() {
        return Ok(None);
    }
    let read = std::fs::read_to_string(POD_NAMESPACE);
    let read = read.with_context(|| format!("cannot read {POD_NAMESPACE}"))?;
    Ok(Some(read.trim().to_owned()))
}
