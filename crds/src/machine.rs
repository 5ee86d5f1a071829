//! What means something to `loci up` alone. A cluster refuses it: paths of one machine at admission by `policies/machine-paths.yaml`,
//! and all of it in the operator. And what means something to a cluster alone.

use crate::MemoryPipelineSpec;

/// Why a cluster refuses a path.
const MACHINE_PATH: &str = "a path of one machine, which a cluster cannot read";
/// Why it refuses to take documents.
const PUSH: &str = "push sources are not built yet in a cluster: its replicas take no documents, only loci up does";

/// Every field of a spec that a cluster refuses; why, and what to do instead.
pub fn machine_only(spec: &MemoryPipelineSpec) -> Vec<(String, &'static str, &'static str)> {
    let paths = machine_paths(spec).into_iter();
    let paths = paths.map(|(field, way_out)| (field, MACHINE_PATH, way_out));
    let sources = spec.sources.iter().enumerate();
    let pushed = sources.filter(|(_, source)| source.push.is_some());
    let way_out = "put the documents where git, http or configMap find them";
    let pushed = pushed.map(|(i, _)| (format!("spec.sources[{i}].push"), PUSH, way_out));
    paths.chain(pushed).collect()
}

/// Every field of a spec that is a path of one machine, and what to write instead.
fn machine_paths(spec: &MemoryPipelineSpec) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    if is_file(&spec.embedder.model) {
        found.push((
            "spec.embedder.model".to_owned(),
            "use hf://org/name@revision",
        ));
    }
    let rerank = spec.retrieval.as_ref().and_then(|r| r.rerank.as_ref());
    let cross = rerank.and_then(|rerank| rerank.model.as_deref());
    if cross.is_some_and(is_file) {
        found.push((
            "spec.retrieval.rerank.model".to_owned(),
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
