//! The ConfigMap `<pipeline>-serving`: what is to be served, and what was seen and applied when all was well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::fleet::{APPLIED, DESIRED, RELEASES};

/// When garbage was last collected.
const COLLECTED: &str = "collected";
/// What the spec named, when it was last looked at: [`References`].
const REFERENCES: &str = "references";

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pointer {
    /// The uid of the pipeline that it belongs to.
    pub owner: Option<String>,
    /// The release to answer with.
    pub desired: Option<String>,
    /// When garbage was last collected.
    pub collected: Option<Timestamp>,
    /// What the spec named when it was last looked at.
    pub references: Option<References>,
    /// Releases to have loaded, as JSON.
    pub releases: Option<String>,
    /// The objects that serve, as they were applied.
    pub applied: Option<String>,
}

/// The ConfigMaps that a spec names, at the versions whose content was taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct References {
    /// The spec's generation.
    pub generation: i64,
    /// Resource versions, by name.
    pub maps: BTreeMap<String, u64>,
    /// The suites' data in the store.
    pub suites: BTreeMap<String, Digest>,
}

impl Pointer {
    /// Reads it. What cannot be read counts as absent, and is written anew.
    pub fn read(map: &ConfigMap) -> Self {
        let get = |key: &str| map.data.as_ref().and_then(|d| d.get(key));
        let owner = map.owner_references().first();
        Self {
            owner: owner.map(|owner| owner.uid.clone()),
            desired: get(DESIRED).cloned(),
            collected: get(COLLECTED).and_then(|t| t.parse().ok()),
            references: get(REFERENCES).and_then(|r| serde_json::from_str(r).ok()),
            releases: get(RELEASES).cloned(),
            applied: get(APPLIED).cloned(),
        }
    }

    /// The part that a pipeline's loop writes; the rest is of who arranges serving.
    pub fn kept(&self) -> serde_json::Result<BTreeMap<String, String>> {
        let references = self.references.as_ref().map(serde_json::to_string);
        let parts = [
            (DESIRED, self.desired.clone()),
            (COLLECTED, self.collected.map(|t| t.to_string())),
            (REFERENCES, references.transpose()?),
        ];
        let there = parts
            .into_iter()
            .filter_map(|(k, v)| Some((k.to_owned(), v?)));
        Ok(there.collect())
    }
}
