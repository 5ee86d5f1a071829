//! Manifests as files: the YAML that `kubectl apply` reads, read by `loci up` with the same result.
//!
//! A file holds documents; MemoryPipelines, ConfigMaps and Secrets are taken from it. Each is checked against the
//! schema and the CEL rules of its CustomResourceDefinition, as an API server would with strict field validation.
//! All that is wrong is reported at once, each with file, line, column, field, reason and way out.

mod check;
mod document;
mod file;
mod loaded;
mod nearest;
mod node;
mod object;
mod pattern;
mod problem;
mod reader;
mod reference;
mod schemas;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use loci_crds::MemoryPipeline;

pub use loaded::Loaded;
pub use object::{ConfigMap, Secret};
pub use problem::{Note, Position, Problem};
pub use reference::{for_cluster, for_machine};

use loaded::Origin;
use reader::Reader;

const GROUP_VERSION: &str = "loci.dev/v1alpha1";

/// The objects of some files. Within each list no two have the same namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The pipelines, each with its namespace set and without a status.
    pub pipelines: Vec<Loaded<MemoryPipeline>>,
    /// The ConfigMaps.
    pub config_maps: Vec<Loaded<ConfigMap>>,
    /// The Secrets.
    pub secrets: Vec<Loaded<Secret>>,
    /// Worth knowing, but not wrong: what was skipped.
    pub notes: Vec<Note>,
}

impl Manifests {
    /// The ConfigMap of that namespace and name.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<&Loaded<ConfigMap>> {
        let is = |c: &ConfigMap| c.namespace == namespace && c.name == name;
        self.config_maps.iter().find(|c| is(&c.object))
    }

    /// The Secret of that namespace and name.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Loaded<Secret>> {
        let is = |s: &Secret| s.namespace == namespace && s.name == name;
        self.secrets.iter().find(|s| is(&s.object))
    }

    /// Objects that were declared before.
    fn twice(&self) -> Vec<Problem> {
        let pipelines = self.pipelines.iter().map(|p| {
            let meta = &p.object.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            (
                "MemoryPipeline",
                namespace.unwrap_or_default(),
                name.unwrap_or_default(),
                &p.origin,
            )
        });
        let config_maps = self.config_maps.iter().map(|c| {
            (
                "ConfigMap",
                &*c.object.namespace,
                &*c.object.name,
                &c.origin,
            )
        });
        let secrets = self
            .secrets
            .iter()
            .map(|s| ("Secret", &*s.object.namespace, &*s.object.name, &s.origin));
        let mut seen: HashMap<_, &Origin> = HashMap::new();
        let mut problems = Vec::new();
        for (kind, namespace, name, origin) in pipelines.chain(config_maps).chain(secrets) {
            if let Some(first) = seen.insert((kind, namespace, name), origin) {
                let reason = format!("{kind} {namespace}/{name} is declared twice");
                let way_out = format!(
                    "it stands at {} already: keep one of them",
                    first.place("metadata.name")
                );
                problems.push(origin.problem("metadata.name", reason, Some(way_out)));
            }
        }
        problems
    }
}

/// Reads files.
///
/// # Errors
/// All that is wrong with them: files that cannot be read, that are no UTF-8, larger than 3 MiB or no YAML, unknown
/// fields and kinds, values that schema or rules refuse, objects declared twice.
pub fn load(paths: &[PathBuf]) -> Result<Manifests, Vec<Problem>> {
    let mut reader = Reader::new();
    for path in paths {
        match file::read(path) {
            Ok(text) => reader.read(path, &text),
            Err(problem) => reader.refuse(vec![problem]),
        }
    }
    reader.finish()
}

/// Reads text as if it stood in a file of that name.
///
/// # Errors
/// As [`load`].
pub fn load_str(name: impl AsRef<Path>, text: &str) -> Result<Manifests, Vec<Problem>> {
    let mut reader = Reader::new();
    reader.read(name.as_ref(), text);
    reader.finish()
}
