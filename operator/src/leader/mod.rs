//! One operator of several leads: it alone writes. The others are warm and wait.
//!
//! Who leads is decided by a Lease. [`Elector`] decides from what was seen of it, [`Candidate`] asks the API server, and
//! [`Standing`] says at any moment whether this process may write; [`client`] makes a client that asks it before each
//! write. A leader's term is the Lease's `leaseTransitions`: it rises with every leader, and what reaches places that
//! compare terms (work items, the ConfigMap of what is served) under a lower one is refused.

mod candidate;
mod elector;
mod guard;
mod standing;

use kube::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use candidate::Candidate;
pub use elector::Timing;
pub use guard::client;
pub use standing::Standing;

/// Which Lease the operators share, and who this one is.
#[derive(Clone, Debug)]
pub struct Election {
    /// The Lease's namespace.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// This process; unlike any other, also of the same pod.
    pub identity: String,
    /// The service account of that namespace that the Lease goes with; none lets it stay.
    pub account: Option<String>,
    /// How fast a leader is missed.
    pub timing: Timing,
}

/// Stands for election until `stop`, and gives the Lease back then. Ends with an error when it has led and leads no
/// more. Without an election this process leads alone.
///
/// # Errors
/// When no client can be made of `config`.
pub fn stand(
    config: Config,
    election: Option<&Election>,
    standing: &Standing,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let Some(election) = election else {
        return Ok(tokio::spawn(async move {
            stop.cancelled().await;
            Ok(())
        }));
    };
    let candidate = Candidate::new(config, election, standing.clone())?;
    Ok(tokio::spawn(candidate.run(stop)))
}
