//! What replicas are told and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::ResourceExt;
use loci_crds::MemoryPipeline;
use loci_digest::Digest;
use loci_shell::{Load, StoredAdapter};
use serde::{Deserialize, Serialize};

use crate::artifacts::Artifacts;
use crate::cache::Place;

/// The key of the ConfigMap `<pipeline>-serving` that names the release to answer with.
pub const DESIRED: &str = "desired";
/// The key of the releases to have loaded, as JSON: [`Releases`].
pub const RELEASES: &str = "releases";

/// The key of what serves, as it was applied.
pub const APPLIED: &str = "applied";

/// The ConfigMap that replicas of a pipeline watch.
pub fn config_map(pipeline: &str) -> String {
    format!("{pipeline}-serving")
}

/// Releases to have loaded, by name: what answers, and what may follow it.
pub type Releases = BTreeMap<String, Wanted>;

/// A release as a replica has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// Its index revision.
    pub revision: Digest,
    /// Its embedder's reference.
    pub model: String,
    /// The reference of the cross-encoder that puts what is found into another order, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_encoder: Option<String>,
    /// Queries slower than this are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_budget_ms: Option<u64>,
    /// Where the revision's files are to be had.
    pub url: String,
    /// Lets in who asks there for this revision.
    pub key: String,
    /// Its adapters, by the names that the pipeline gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adapters: BTreeMap<String, WantedAdapter>,
    /// The reference of the model that they belong to; none where it has no adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The service that answers its chats; none where replicas do, or it has no adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<WantedService>,
}

/// A service that answers chats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedService {
    /// Where it is.
    pub url: String,
    /// Its name for the model without adapter.
    pub model: String,
}

impl WantedService {
    /// That of a pipeline, where it has one.
    pub fn of(pipeline: &MemoryPipeline) -> Option<Self> {
        let vllm = &pipeline.spec.serving.runtime.as_ref()?.vllm;
        let (service, port) = (&vllm.service, vllm.port());
        let namespace = pipeline.namespace().unwrap_or_default();
        Some(Self {
            url: format!("http://{service}.{namespace}.svc:{port}"),
            model: vllm.model().to_owned(),
        })
    }
}

impl Wanted {
    /// A release that is to be loaded, to be had from these artefacts.
    pub fn of(load: &Load, artifacts: &Artifacts) -> Self {
        let adapter = |adapter: &StoredAdapter| {
            let (url, key) = artifacts.of_adapter(&adapter.manifest);
            let wanted = WantedAdapter {
                manifest: adapter.manifest,
                adapter: adapter.adapter,
                url,
                key,
            };
            (adapter.name.clone(), wanted)
        };
        let milliseconds = |t: Duration| u64::try_from(t.as_millis()).unwrap_or(u64::MAX);
        let (url, key) = artifacts.of(&load.revision);
        Self {
            revision: load.revision,
            model: load.model.clone(),
            cross_encoder: load.cross_encoder.clone(),
            latency_budget_ms: load.latency_budget.map(milliseconds),
            url,
            key,
            adapters: load.adapters.iter().map(adapter).collect(),
            base: load.adapters.first().map(|a| a.base.clone()),
            service: None,
        }
    }

    /// The same, whose chats are answered by `service`, or where there is none by replicas.
    pub fn served_by(mut self, service: Option<&WantedService>) -> Self {
        self.service = service.filter(|_| self.base.is_some()).cloned();
        self
    }

    /// Whether who has loaded the one has loaded the other, wherever both are to be had.
    pub fn is_as(&self, other: &Self) -> bool {
        let bare = |wanted: &Self| {
            let mut bare = wanted.clone();
            let own = [(&mut bare.url, &mut bare.key)].into_iter();
            let adapters = bare.adapters.values_mut();
            for (url, key) in own.chain(adapters.map(|a| (&mut a.url, &mut a.key))) {
                url.clear();
                key.clear();
            }
            bare
        };
        bare(self) == bare(other)
    }

    /// The same, where these artefacts are given out.
    pub fn relocated(mut self, artifacts: &Artifacts) -> Self {
        (self.url, self.key) = artifacts.of(&self.revision);
        for adapter in self.adapters.values_mut() {
            (adapter.url, adapter.key) = artifacts.of_adapter(&adapter.manifest);
        }
        self
    }

    /// Where its revision is.
    pub fn place(&self) -> Place<'_> {
        Place {
            digest: &self.revision,
            url: &self.url,
            key: &self.key,
        }
    }
}

/// An adapter of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedAdapter {
    /// Its manifest.
    pub manifest: Digest,
    /// The adapter's own digest, by which it is called.
    pub adapter: Digest,
    /// Where manifest and files are to be had.
    pub url: String,
    /// Lets in who asks there for this adapter.
    pub key: String,
}

impl WantedAdapter {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place {
            digest: &self.manifest,
            url: &self.url,
            key: &self.key,
        }
    }
}

/// What a replica says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The release that answers.
    pub serving: Option<String>,
    /// Other releases that are loaded.
    pub prepared: BTreeSet<String>,
    /// Releases that could not be loaded when last tried, and why.
    pub failures: BTreeMap<String, String>,
}

impl Report {
    fn has(&self, release: &str) -> bool {
        self.serving.as_deref() == Some(release) || self.prepared.contains(release)
    }
}

/// A pod that is to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// The pod.
    pub name: String,
    /// Whether queries reach it.
    pub ready: bool,
    /// What it says, if it says anything.
    pub report: Option<Report>,
}

/// How a release stands with all replicas.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Every replica has it.
    Everywhere,
    /// Some are at it; who is not done yet.
    Underway(String),
    /// Nobody is at it any more, and some have failed: who and why.
    Failed(String),
}

/// How `release` stands. A replica that is not ready and does not answer is starting, and is not waited for; one that
/// queries reach is.
pub fn standing(release: &str, replicas: &[Replica]) -> Standing {
    let (mut done, mut failures, mut underway) = (0, Vec::new(), Vec::new());
    for replica in replicas {
        match &replica.report {
            Some(report) if report.has(release) => done += 1,
            Some(report) => match report.failures.get(release) {
                Some(why) => failures.push(format!("{}: {why}", replica.name)),
                None => underway.push(replica.name.as_str()),
            },
            None if replica.ready => underway.push(&replica.name),
            None => {}
        }
    }
    if !underway.is_empty() {
        return Standing::Underway(underway.join(", "));
    }
    match failures.is_empty() {
        true if done > 0 => Standing::Everywhere,
        true => Standing::Underway("no replica has started".to_owned()),
        false => Standing::Failed(failures.join("; ")),
    }
}

/// How `release` stands with all replicas and, where its chats are answered elsewhere, with the agents there: they come first,
/// since replicas take nothing that has not what it needs.
pub fn standing_with(release: &str, replicas: &[Replica], agents: &[Replica]) -> Standing {
    match standing(release, agents) {
        _ if agents.is_empty() => standing(release, replicas),
        Standing::Everywhere => standing(release, replicas),
        other => other,
    }
}

/// The one release that all replicas answer with; none while they differ, or queries reach none of them.
pub fn serving(replicas: &[Replica]) -> Option<String> {
    let reached = |r: &Replica| r.ready && r.report.as_ref().is_some_and(|r| r.serving.is_some());
    if !replicas.iter().any(reached) {
        return None;
    }
    let mut serving = BTreeSet::new();
    for replica in replicas {
        match &replica.report {
            Some(report) => serving.extend(report.serving.clone()),
            None if replica.ready => return None,
            None => {}
        }
    }
    match serving.len() {
        1 => serving.pop_first(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
