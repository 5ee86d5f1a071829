use serde::{Deserialize, Serialize};

use crate::wire;

/// A worker, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Unlike that of any other worker.
    pub id: String,
    /// The class of items that it takes.
    pub class: String,
    /// How many it does at once.
    pub slots: usize,
    /// Its build.
    pub version: String,
    /// What it computes on beside its processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// It takes no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// A device that computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// What its maker calls it.
    pub name: String,
    /// Its memory.
    pub memory_bytes: u64,
    /// What it can: `9.0`.
    pub compute_capability: String,
}

impl wire::Message for Worker {
    const KIND: &'static str = "Worker";
}
