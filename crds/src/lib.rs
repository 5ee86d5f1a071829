//! The API of Loci, group `loci.dev/v1alpha1`: Rust types that derive the CustomResourceDefinitions.
//!
//! The generated YAML stands in `crds/yaml`; `cargo run -p loci-crds --example generate` writes it anew.
#![allow(
    clippy::duplicated_attributes,
    reason = "kube takes one printcolumn for each column, and types repeat"
)]

pub mod adapter;
pub mod behavior;
pub mod budget;
mod machine;
pub mod pipeline;
pub mod release;
pub mod retrieval;
pub mod run;
pub mod runtime;
mod schema;
pub mod source;
mod structural;
pub mod suite;
pub mod values;

pub use machine::{cluster_only, machine_only};
pub use pipeline::{MemoryPipeline, MemoryPipelineSpec, MemoryPipelineStatus};
pub use release::{MemoryRelease, MemoryReleaseSpec, MemoryReleaseStatus};
pub use run::{MemoryRun, MemoryRunSpec, MemoryRunStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::json;

/// The API group.
pub const GROUP: &str = "loci.dev";

/// All CustomResourceDefinitions as a cluster gets them, by the name of their file. They differ from what the derive
/// gives: no field is nullable, so that an API server drops a null as if it were not written, and a status begins with
/// `observedGeneration: -1`, so that no client takes a new object for one that was looked at.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    let mut all = vec![
        ("memorypipelines.yaml", MemoryPipeline::crd()),
        ("memoryreleases.yaml", MemoryRelease::crd()),
        ("memoryruns.yaml", MemoryRun::crd()),
    ];
    for (_, definition) in &mut all {
        structural::default_status(definition, json!({"observedGeneration": -1}));
        structural::forbid_null(definition);
    }
    all
}
