//! The API of Loci, group `loci.dev/v1alpha1`: Rust types that derive the CustomResourceDefinitions.
//!
//! The generated YAML stands in `crds/yaml`; `cargo run -p loci-crds --example generate` writes it anew.

pub mod pipeline;
pub mod release;
pub mod run;
mod schema;
pub mod source;
pub mod suite;
pub mod values;

pub use pipeline::{MemoryPipeline, MemoryPipelineSpec, MemoryPipelineStatus};
pub use release::{MemoryRelease, MemoryReleaseSpec, MemoryReleaseStatus};
pub use run::{MemoryRun, MemoryRunSpec, MemoryRunStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group.
pub const GROUP: &str = "loci.dev";

/// All CustomResourceDefinitions, by the name of their file.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("memorypipelines.yaml", MemoryPipeline::crd()),
        ("memoryreleases.yaml", MemoryRelease::crd()),
        ("memoryruns.yaml", MemoryRun::crd()),
    ]
}
