//! The versions of all ConfigMaps: a spec's references are read again when one of them changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::watch::Key;

/// Resource versions by namespace and name, each with the listing that it was last seen in.
type Versions = HashMap<Key, (u32, u64)>;

/// Shared with who reads references.
#[derive(Clone, Default)]
pub struct Maps(Arc<RwLock<Versions>>);

impl Maps {
    /// Whether this is news.
    pub fn put(&self, listing: u32, key: Key, version: u64) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, (listing, version)).map(|(_, v)| v) != Some(version)
    }

    /// It was deleted.
    pub fn remove(&self, key: &Key) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(key);
    }

    /// Removes what a whole listing of a namespace, or of all, did not hold; gives the keys.
    pub fn sweep(&self, namespace: Option<&str>, listing: u32) -> Vec<Key> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let vanished = |key: &Key, (seen, _): &mut (u32, u64)| {
            namespace.is_none_or(|n| n == key.0) && *seen < listing
        };
        let gone = all.extract_if(vanished);
        gone.map(|(key, _)| key).collect()
    }

    /// The version of a ConfigMap, if it is there.
    pub fn version(&self, key: &Key) -> Option<u64> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(key).map(|(_, version)| *version)
    }
}

/// Pipelines by the ConfigMaps that their specs name.
#[derive(Default)]
pub struct Referrers(HashMap<Key, BTreeSet<Key>>);

impl Referrers {
    /// A pipeline names these ConfigMaps of its namespace, and no longer those before.
    pub fn refer(&mut self, pipeline: &Key, before: &BTreeSet<String>, now: &BTreeSet<String>) {
        let of = |name: &String| (pipeline.0.clone(), name.clone());
        for map in before.difference(now).map(of) {
            if let Some(all) = self.0.get_mut(&map) {
                all.remove(pipeline);
                if all.is_empty() {
                    self.0.remove(&map);
                }
            }
        }
        for map in now.difference(before).map(of) {
            self.0.entry(map).or_default().insert(pipeline.clone());
        }
    }

    /// The pipelines that name a ConfigMap.
    pub fn of(&self, map: &Key) -> BTreeSet<Key> {
        self.0.get(map).cloned().unwrap_or_default()
    }
}
