//! What a pipeline refers to: other objects, and paths of one machine.

use loci_crds::{MemoryPipeline, cluster_only, machine_only};

use crate::nearest::suggestion;
use crate::problem::Problem;
use crate::{Loaded, Manifests};

/// What stands in the way of `loci up`: ConfigMaps and Secrets, or keys of them, that a pipeline refers to and that no
/// file declares, which may stand in a cluster already; and what only a cluster does.
pub fn for_machine(manifests: &Manifests) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pipeline in &manifests.pipelines {
        let references = References {
            manifests,
            pipeline,
        };
        problems.extend(references.missing());
        if let Some((field, why, way_out)) = cluster_only(&pipeline.object.spec) {
            problems.push(pipeline.problem(field, why, Some(way_out.to_owned())));
        }
    }
    problems
}

/// What stands in the way of a cluster: every path of one machine, and what only `loci up` does.
pub fn for_cluster(manifests: &Manifests) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pipeline in &manifests.pipelines {
        for (field, why, way_out) in machine_only(&pipeline.object.spec) {
            problems.push(pipeline.problem(&field, why, Some(way_out.to_owned())));
        }
    }
    problems
}

struct References<'a> {
    manifests: &'a Manifests,
    pipeline: &'a Loaded<MemoryPipeline>,
}

impl References<'_> {
    fn missing(&self) -> Vec<Problem> {
        let spec = &self.pipeline.object.spec;
        let mut found = Vec::new();
        for (i, source) in spec.sources.iter().enumerate() {
            let at = |rest: &str| format!("spec.sources[{i}].{rest}");
            if let Some(config_map) = &source.config_map {
                found.extend(self.config_map(&at("configMap.name"), &config_map.name, None));
            }
            if let Some(secret) = source.git.as_ref().and_then(|git| git.secret_ref.as_ref()) {
                found.extend(self.secret(&at("git.secretRef.name"), &secret.name, "password"));
            }
            if let Some(secret) = source
                .http
                .as_ref()
                .and_then(|http| http.secret_ref.as_ref())
            {
                found.extend(self.secret(&at("http.secretRef.name"), &secret.name, "token"));
            }
            let bucket = source.bucket.as_ref();
            if let Some((bucket, secret)) =
                bucket.and_then(|bucket| Some((bucket, bucket.secret_ref.as_ref()?)))
            {
                let field = at("bucket.secretRef.name");
                found.extend(self.bucket_secret(&field, &secret.name, &bucket.url));
            }
        }
        for (i, suite) in spec.suites.iter().enumerate() {
            for (field, data) in suite.data() {
                if let Some(map) = &data.config_map {
                    let at = format!("spec.suites[{i}].{field}.configMap");
                    found.extend(self.config_map(&at, &map.name, Some(&map.key)));
                }
            }
        }
        found
    }

    /// With a key, `field` is the mapping that has `name` and `key`.
    fn config_map(&self, field: &str, name: &str, key: Option<&str>) -> Option<Problem> {
        let name_field = key.map_or_else(|| field.to_owned(), |_| format!("{field}.name"));
        let Some(found) = self.manifests.config_map(self.namespace(), name) else {
            let all = self
                .manifests
                .config_maps
                .iter()
                .map(|c| (&*c.object.namespace, &*c.object.name));
            return Some(self.undeclared(&name_field, "ConfigMap", name, all));
        };
        let key = key.filter(|key| found.object.get(key).is_none())?;
        let reason = format!("ConfigMap {name} has no key {key:?}");
        let way_out = suggestion(key, found.object.keys(), "its keys are");
        Some(
            self.pipeline
                .problem(&format!("{field}.key"), reason, Some(way_out)),
        )
    }

    fn secret(&self, field: &str, name: &str, key: &str) -> Option<Problem> {
        let Some(found) = self.manifests.secret(self.namespace(), name) else {
            let all = self
                .manifests
                .secrets
                .iter()
                .map(|s| (&*s.object.namespace, &*s.object.name));
            return Some(self.undeclared(field, "Secret", name, all));
        };
        let missing = found.object.get(key).is_none();
        let reason = format!("Secret {name} has no key {key:?}");
        let way_out = suggestion(key, found.object.keys(), "its keys are");
        missing.then(|| self.pipeline.problem(field, reason, Some(way_out)))
    }

    /// The first key that the bucket's provider wants; of Azure's two, either will do.
    fn bucket_secret(&self, field: &str, name: &str, url: &str) -> Option<Problem> {
        let keys: &[&str] = match url.split_once("://") {
            Some(("gs", _)) => &["serviceAccount"],
            Some(("az", _)) => {
                let found = self.manifests.secret(self.namespace(), name);
                match found.is_some_and(|secret| secret.object.get("sasToken").is_some()) {
                    true => &["sasToken"],
                    false => &["accountKey"],
                }
            }
            _ => &["accessKeyId", "secretAccessKey"],
        };
        keys.iter().find_map(|key| self.secret(field, name, key))
    }

    fn undeclared<'a>(
        &self,
        field: &str,
        kind: &str,
        name: &str,
        declared: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Problem {
        let namespace = self.namespace();
        let reason = format!("no file declares {kind} {namespace}/{name}");
        let here: Vec<_> = declared
            .filter(|(ns, _)| *ns == namespace)
            .map(|(_, name)| name)
            .collect();
        let way_out = if here.is_empty() {
            format!(
                "declare it, beside the pipeline or in another file that is named, in namespace {namespace}"
            )
        } else {
            suggestion(name, here, "declared are")
        };
        self.pipeline.problem(field, reason, Some(way_out))
    }

    fn namespace(&self) -> &str {
        self.pipeline
            .object
            .metadata
            .namespace
            .as_deref()
            .unwrap_or("default")
    }
}
