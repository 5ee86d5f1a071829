//! What who serves a pipeline is to have and to answer with, as its ConfigMap says.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fleet::{DESIRED, RELEASES, Releases};

/// What the ConfigMap says; nothing until it has been read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Goal {
    /// The release to answer with.
    pub desired: Option<String>,
    /// Releases to have loaded.
    pub releases: Releases,
}

/// Does `task`, until `stop`.
pub async fn until(stop: CancellationToken, task: impl Future<Output = ()>) -> Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        () = task => {}
    }
    Ok(())
}

/// Keeps the goal as the ConfigMap says. One that does not read, or is gone, changes nothing: what serves is better than
/// nothing.
pub async fn follow(maps: Api<ConfigMap>, name: String, goals: watch::Sender<Goal>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(maps, only).default_backoff().boxed();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(map) | Event::InitApply(map))) => match goal(&map) {
                Ok(goal) => drop(goals.send_if_modified(|old| {
                    let changed = *old != goal;
                    *old = goal;
                    changed
                })),
                Err(error) => tracing::warn!("ConfigMap {name}: {error:#}"),
            },
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("ConfigMap {name} cannot be watched; trying again: {error}")
            }
        }
    }
}

fn goal(map: &ConfigMap) -> Result<Goal> {
    let data = map.data.clone().unwrap_or_default();
    let releases = match data.get(RELEASES) {
        Some(json) => serde_json::from_str(json).context(RELEASES)?,
        None => Releases::new(),
    };
    Ok(Goal {
        desired: data.get(DESIRED).cloned(),
        releases,
    })
}
