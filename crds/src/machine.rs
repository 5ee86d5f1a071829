//! Paths of one machine, which mean something to `loci up` alone. A cluster refuses them: at admission by
//! `policies/machine-paths.yaml`, and in the operator, should that not be installed. And what means something to a cluster alone.

use crate::MemoryPipelineSpec;

/// Why a cluster refuses them.
pub const MACHINE_PATH: &str = "a path of one machine, which a cluster cannot read";

/// Every field of a spec that is such a path, and what to write instead.
pub fn machine_paths(spec: &MemoryPipelineSpec) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    if is_file(&spec.embedder.model) {
        found.push((
            "spec.embedder.model".to_owned(),
            "use hf://org/name@revision",
        ));
    }
    for (i, source) in spec.sources.iter().enumerate() {
        if source.directory.is_some() {
            found.push((
                format!("spec.sources[{i}].directory"),
                "use git, http, bucket or configMap",
            ));
        }
        if source.git.as_ref().is_some_and(|git| is_file(&git.url)) {
            found.push((format!("spec.sources[{i}].git.url"), "use an https:// URL"));
        }
    }
    for (i, adapter) in spec.adapters.iter().enumerate() {
        if is_file(&adapter.base) {
            let field = format!("spec.adapters[{i}].base");
            found.push((field, "use hf://org/name@revision"));
        }
    }
    for (i, suite) in spec.suites.iter().enumerate() {
        let files = suite.data().filter(|(_, data)| data.file.is_some());
        let field =
            |(data, _): (&str, _)| (format!("spec.suites[{i}].{data}.file"), "use configMap");
        found.extend(files.map(field));
    }
    found
}

/// The field of a spec that means something in a cluster alone, if it is there; why, and what to do instead.
pub fn cluster_only(
    spec: &MemoryPipelineSpec,
) -> Option<(&'static str, &'static str, &'static str)> {
    let why = "only replicas of a cluster ask vLLM: loci up answers chats itself";
    let given = spec.serving.runtime.is_some();
    given.then_some(("spec.serving.runtime", why, "remove the field"))
}

fn is_file(url: &str) -> bool {
    url.starts_with("file://")
}
