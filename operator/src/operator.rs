//! The operator's process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Config;
use loci_models::DeviceRequest;
use loci_nats::NatsOptions;
use loci_recall::Auth;
use loci_store::{RemoteOptions, StoreUrl};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::fetchers::FetcherTemplate;
use crate::fleet::Template;
use crate::leader::{self, Election, Standing};
use crate::pipelines::Pipelines;
use crate::sweep;
use crate::warm::Warm;
use crate::watch::watch;

/// How the operator runs.
pub struct Options {
    /// Namespaces to watch; all, when empty.
    pub namespaces: Vec<String>,
    /// Where caches are.
    pub state: PathBuf,
    /// Where artefacts are.
    pub store: StoreUrl,
    /// How that is reached when it is not a directory.
    pub remote: RemoteOptions,
    /// Who answers queries.
    pub serving: Serving,
    /// The hub that hf:// models come from.
    pub hub: Option<Url>,
    /// Where encoders run.
    pub device: DeviceRequest,
    /// Where workers take steps from. Without, they run in this process.
    pub nats: Option<NatsOptions>,
    /// Where `/metrics` of the work over NATS are.
    pub metrics: Option<SocketAddr>,
    /// Who leads of several operators. Without, this one is alone.
    pub election: Option<Election>,
    /// How long a pipeline has to be gone before its `deletionPolicy` is carried out.
    pub deletion_grace: Duration,
}

/// Who answers queries.
pub enum Serving {
    /// This process.
    Here {
        /// Where.
        listen: SocketAddr,
        /// Who may ask.
        auth: Auth,
    },
    /// Pods of each pipeline's own.
    Replicas {
        /// How they are made.
        template: Box<Template>,
        /// Where they get revisions from.
        artifacts: SocketAddr,
        /// How they reach that.
        artifacts_url: Url,
        /// How fetchers are made, which read sources if steps go over NATS.
        fetcher: Box<FetcherTemplate>,
    },
}

/// Runs until `shutdown`. With an election, it leads from when it is elected; until then it is warm: it serves artefacts
/// and knows all pipelines.
///
/// # Errors
/// When the state directory or the address cannot be had, a service of the process ends, or leadership is lost: what
/// the process has under way belongs to a term that is over, and ends with the process.
pub async fn run(config: Config, options: Options, shutdown: CancellationToken) -> Result<()> {
    let (mut tasks, mut leading) = (JoinSet::new(), JoinSet::new());
    let standing = Standing::new(options.election.is_some());
    let client = leader::client(config.clone(), &standing)?;
    let warm = Warm::up(
        client.clone(),
        standing.clone(),
        &options,
        &mut tasks,
        &shutdown,
    )
    .await?;
    let released = CancellationToken::new();
    let election = options.election.as_ref();
    let mut election = leader::stand(config, election, &standing, released.clone())?;
    let replicas = matches!(options.serving, Serving::Replicas { .. });
    let mut watching = watch(&client, &options.namespaces, replicas);
    let maps = warm.maps.clone();
    let mut pipelines = Pipelines::new(maps, watching.listings, shutdown.child_token());
    let ended = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            // At once: nothing that is under way may be finished.
            lost = &mut election => {
                shutdown.cancel();
                return lost.context("the election ended unexpectedly")?;
            }
            Some(ended) = tasks.join_next() => {
                break ended.context("a service ended unexpectedly").and_then(|r| r);
            }
            Some(ended) = leading.join_next() => {
                break ended.context("a service ended unexpectedly").and_then(|r| r);
            }
            term = standing.leads(), if !pipelines.leads() => {
                match warm.lead(term, &mut leading, &shutdown).await {
                    Ok(site) => {
                        let (watched, grace) = (options.namespaces.clone(), options.deletion_grace);
                        leading.spawn(sweep::run(site.clone(), watched, grace, shutdown.clone()));
                        pipelines.lead(site);
                    }
                    Err(error) => break Err(error),
                }
            }
            more = pipelines.step(&mut watching.seen) => if !more {
                break Ok(());
            }
        }
    };
    shutdown.cancel();
    pipelines.end().await;
    while leading.join_next().await.is_some() {}
    released.cancel();
    let election = election.await.context("the election ended unexpectedly")?;
    // Another may lead while the last downloads from here come to their end.
    while tasks.join_next().await.is_some() {}
    ended.and(election)
}
