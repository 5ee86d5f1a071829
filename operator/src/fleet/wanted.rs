//! What replicas are told and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
            latency_budget_ms: load.latency_budget.map(milliseconds),
            url,
            key,
            adapters: load.adapters.iter().map(adapter).collect(),
            base: load.adapters.first().map(|a| a.base.clone()),
        }
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
mod tests {
    use super::*;

    fn replica(name: &str, ready: bool, report: Option<(Option<&str>, &[&str])>) -> Replica {
        let report = report.map(|(serving, prepared)| Report {
            serving: serving.map(str::to_owned),
            prepared: prepared.iter().map(|s| (*s).to_owned()).collect(),
            failures: BTreeMap::new(),
        });
        Replica {
            name: name.to_owned(),
            ready,
            report,
        }
    }

    #[test]
    fn a_release_is_everywhere_when_every_replica_that_queries_reach_has_it() {
        let old = |name| replica(name, true, Some((Some("r-1"), &[])));
        let both = |name| replica(name, true, Some((Some("r-1"), &["r-2"])));
        assert_eq!(
            standing("r-2", &[both("a"), both("b")]),
            Standing::Everywhere
        );
        assert_eq!(
            standing("r-2", &[both("a"), old("b")]),
            Standing::Underway("b".to_owned())
        );
        assert_eq!(
            standing("r-1", &[both("a"), old("b")]),
            Standing::Everywhere
        );
        // Starting: not waited for. Silent though ready: waited for.
        let starting = replica("c", false, None);
        assert_eq!(
            standing("r-2", &[both("a"), starting.clone()]),
            Standing::Everywhere
        );
        let silent = replica("c", true, None);
        assert!(matches!(
            standing("r-2", &[both("a"), silent]),
            Standing::Underway(_)
        ));
        assert!(matches!(
            standing("r-2", &[starting]),
            Standing::Underway(_)
        ));
        assert!(matches!(standing("r-2", &[]), Standing::Underway(_)));
    }

    #[test]
    fn a_failure_counts_once_nobody_is_at_it() {
        let mut failed = replica("a", true, Some((Some("r-1"), &[])));
        let why = ("r-2".to_owned(), "no space".to_owned());
        failed.report.as_mut().unwrap().failures.extend([why]);
        let done = replica("b", true, Some((Some("r-1"), &["r-2"])));
        let busy = replica("c", true, Some((Some("r-1"), &[])));
        let all = [failed.clone(), done.clone(), busy];
        assert_eq!(standing("r-2", &all), Standing::Underway("c".to_owned()));
        assert_eq!(
            standing("r-2", &[failed, done]),
            Standing::Failed("a: no space".to_owned())
        );
    }

    #[test]
    fn replicas_that_differ_serve_no_one_release() {
        let on = |name, release| replica(name, true, Some((release, &[])));
        assert_eq!(
            serving(&[on("a", Some("r-1")), on("b", Some("r-1"))]).as_deref(),
            Some("r-1")
        );
        assert_eq!(serving(&[on("a", Some("r-1")), on("b", Some("r-2"))]), None);
        assert_eq!(
            serving(&[on("a", Some("r-1")), on("b", None)]).as_deref(),
            Some("r-1")
        );
        assert_eq!(
            serving(&[on("a", Some("r-1")), replica("b", true, None)]),
            None
        );
        assert_eq!(serving(&[]), None);
        // Loaded, but not ready yet: no query would reach it.
        assert_eq!(
            serving(&[replica("a", false, Some((Some("r-1"), &[])))]),
            None
        );
    }
}
