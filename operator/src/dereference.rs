//! From a pipeline's resource to what a controller takes: validates the spec and reads what it names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};
use loci_crds::{MemoryPipeline, machine_only};
use loci_digest::Digest;
use loci_plan::Pipeline;
use loci_plan::spec::{FieldError, Location, SuiteData};
use loci_shell::{Data, Declared, Objects};
use loci_store::Store;
use loci_worker::source::SourceSpec;

use crate::facts::version;
use crate::pointed::References;

/// A pipeline whose references were all found.
pub struct Dereferenced {
    /// As the controller takes it.
    pub declared: Declared,
    /// Its sources, opened, if it is this process that reads them.
    pub sources: Vec<SourceSpec>,
    /// What was read.
    pub references: References,
}

/// What a spec asks for cannot be had, for these reasons.
pub struct Refused(pub Vec<FieldError>);

/// The ConfigMaps and Secrets of the pipeline's namespace that the spec names.
#[derive(Default)]
pub struct Found {
    /// ConfigMaps; without their data where nobody here reads them.
    pub config_maps: HashMap<String, Data>,
    /// Their versions.
    pub versions: BTreeMap<String, u64>,
    /// Secrets.
    pub secrets: HashMap<String, BTreeMap<String, Vec<u8>>>,
}

impl Objects for Found {
    fn config_map(&self, _: &str, name: &str) -> Option<Data> {
        self.config_maps.get(name).cloned()
    }

    fn secret(&self, _: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.secrets.get(name).cloned()
    }

    fn place(&self) -> &'static str {
        "in the pipeline's namespace"
    }
}

/// The names of the ConfigMaps that a spec goes by: when one changes, all is read again.
pub fn references(resource: &MemoryPipeline) -> BTreeSet<String> {
    Pipeline::from_resource(resource)
        .map(|p| config_maps(&p))
        .unwrap_or_default()
}

/// The names of the ConfigMaps that a pipeline goes by.
pub fn config_maps(pipeline: &Pipeline) -> BTreeSet<String> {
    let of_sources = pipeline.sources.iter().filter_map(|s| match &s.location {
        Location::ConfigMap { name, .. } => Some(name.clone()),
        _ => None,
    });
    of_sources.chain(suite_maps(pipeline)).collect()
}

fn suite_maps(pipeline: &Pipeline) -> BTreeSet<String> {
    let names = pipeline.suites.iter().filter_map(|s| match &s.data {
        SuiteData::ConfigMap { name, .. } => Some(name.clone()),
        SuiteData::File(_) | SuiteData::Builtin(_) => None,
    });
    names.collect()
}

fn secrets(pipeline: &Pipeline) -> BTreeSet<String> {
    let names = pipeline.sources.iter();
    let names = names.filter_map(|s| s.location.secret().map(str::to_owned));
    names.collect()
}

/// Reads all that `resource` names: its sources too, where they are read with repositories cached in `git_cache`; without,
/// a fetcher does. `before` is what was taken in already. The outer error is trouble that may pass; the inner one is the spec's.
pub async fn dereference(
    client: &Client,
    store: &Store,
    git_cache: Option<&Path>,
    resource: &MemoryPipeline,
    before: Option<&References>,
) -> Result<Result<Dereferenced, Refused>> {
    let pipeline = match Pipeline::from_resource(resource) {
        Ok(pipeline) => pipeline,
        Err(errors) => return Ok(Err(Refused(errors))),
    };
    // Where no policy refuses them at admission.
    let local = machine_only(&resource.spec).into_iter();
    let local: Vec<_> = local
        .map(|(at, why, way_out)| field(&at, format!("{why}: {way_out}")))
        .collect();
    if !local.is_empty() {
        return Ok(Err(Refused(local)));
    }
    let namespace = resource.namespace().unwrap_or_default();
    let found = find(client, &namespace, &pipeline, git_cache.is_some()).await?;
    let mut errors = Vec::new();
    let suites = match suites(store, &pipeline, &found).await? {
        Ok(suites) => suites,
        Err(wrong) => {
            errors.extend(wrong);
            HashMap::new()
        }
    };
    let sources = match git_cache {
        Some(cache) => loci_shell::resolve(&pipeline, &found, Path::new("/"), cache),
        None => absent(&pipeline, &found).map(|()| Vec::new()),
    };
    let sources = sources.unwrap_or_else(|wrong| {
        errors.extend(wrong);
        Vec::new()
    });
    if !errors.is_empty() {
        return Ok(Err(Refused(errors)));
    }
    // A controller starts anew when a ConfigMap changes, and then looks at these first.
    let changed =
        |name: &String| found.versions.get(name) != before.and_then(|before| before.maps.get(name));
    let maps = pipeline.sources.iter();
    let maps =
        maps.filter(|s| matches!(&s.location, Location::ConfigMap { name, .. } if changed(name)));
    let references = References {
        generation: resource.metadata.generation.unwrap_or_default(),
        suites: suites.clone().into_iter().collect(),
        maps: found.versions.clone(),
    };
    let declared = Declared {
        resource: resource.clone(),
        model: pipeline.model.clone(),
        base: pipeline.adapters.first().map(|a| a.base.clone()),
        cross_encoder: pipeline.rerank.as_ref().and_then(|r| r.model.clone()),
        suites,
        watched: maps.map(|s| s.name.clone()).collect(),
        pipeline: Arc::new(pipeline),
    };
    Ok(Ok(Dereferenced {
        declared,
        sources,
        references,
    }))
}

fn field(field: &str, reason: impl Into<String>) -> FieldError {
    FieldError {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// The ConfigMaps of sources that a fetcher would not find.
fn absent(pipeline: &Pipeline, found: &Found) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    for (i, source) in pipeline.sources.iter().enumerate() {
        if let Location::ConfigMap { name, .. } = &source.location
            && !found.config_maps.contains_key(name)
        {
            let at = format!("spec.sources[{i}].configMap");
            let place = found.place();
            errors.push(field(
                &at,
                format!("there is no ConfigMap {name} {place}: add it"),
            ));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// What a ConfigMap holds.
pub fn data(map: ConfigMap) -> Data {
    let binary = map.binary_data.unwrap_or_default().into_iter();
    Data {
        text: map.data.unwrap_or_default(),
        binary: binary.map(|(key, bytes)| (key, bytes.0)).collect(),
    }
}

/// What is not there is left out: whoever needs it says so. Of what only sources name, no more than that it is there is
/// read unless it is for this process to read `sources`.
async fn find(
    client: &Client,
    namespace: &str,
    pipeline: &Pipeline,
    sources: bool,
) -> Result<Found> {
    let mut found = Found::default();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let of_suites = suite_maps(pipeline);
    for name in config_maps(pipeline) {
        let cannot = || format!("cannot read the ConfigMap {name}");
        let map = if sources || of_suites.contains(&name) {
            let map = maps.get_opt(&name).await.with_context(cannot)?;
            map.map(|map| (version(&map), data(map)))
        } else {
            let there = maps.get_metadata_opt(&name).await.with_context(cannot)?;
            there.map(|map| (version(&map), Data::default()))
        };
        if let Some((version, map)) = map {
            found.versions.insert(name.clone(), version);
            found.config_maps.insert(name, map);
        }
    }
    if !sources {
        return Ok(found);
    }
    let all: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for name in secrets(pipeline) {
        let secret = all.get_opt(&name).await;
        if let Some(secret) = secret.with_context(|| format!("cannot read the Secret {name}"))? {
            let data = secret.data.unwrap_or_default().into_iter();
            let data = data.map(|(key, bytes)| (key, bytes.0)).collect();
            found.secrets.insert(name, data);
        }
    }
    Ok(found)
}

/// The suites' data, in the store.
async fn suites(
    store: &Store,
    pipeline: &Pipeline,
    found: &Found,
) -> Result<Result<HashMap<String, Digest>, Vec<FieldError>>> {
    let (mut digests, mut errors) = (HashMap::new(), Vec::new());
    for (i, declared) in pipeline.suites.iter().enumerate() {
        let text = match suite_text(&declared.data, found) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(reason) => {
                errors.push(field(&declared.field(i), reason));
                continue;
            }
        };
        match loci_shell::questions((i, declared), &pipeline.gates, text.as_bytes()) {
            Ok(_) => {
                let digest = store.put(text.to_owned().into_bytes().into()).await?;
                digests.insert(declared.name.clone(), digest);
            }
            Err(error) => errors.push(error),
        }
    }
    Ok(if errors.is_empty() {
        Ok(digests)
    } else {
        Err(errors)
    })
}

/// The lines of a suite; none where they are a file of one machine.
fn suite_text<'a>(data: &SuiteData, found: &'a Found) -> Result<Option<&'a str>, String> {
    let (name, key) = match data {
        SuiteData::ConfigMap { name, key } => (name, key),
        SuiteData::Builtin(suite) => return Ok(Some(loci_shell::builtin(*suite))),
        SuiteData::File(_) => return Ok(None),
    };
    let Some(map) = found.config_maps.get(name) else {
        return Err(format!(
            "there is no ConfigMap {name} in the pipeline's namespace: add it"
        ));
    };
    let text = map.text.get(key).map(String::as_str);
    let missing = || format!("the ConfigMap {name} has no text under the key {key}: add it");
    text.map(Some).ok_or_else(missing)
}
