//! From files to declared pipelines: everything that can be refused is refused before work begins.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::MemoryPipeline;
use loci_digest::Digest;
use loci_manifest::{Loaded, Manifests, Problem};
use loci_plan::gate::detectable_effect;
use loci_plan::spec::{Location, SuiteData};
use loci_plan::{FieldError, Pipeline};
use loci_push::PushLog;
use loci_shell::{Data, Declared, Objects, Questions};
use loci_store::Store;
use loci_worker::source::SourceSpec;

use crate::state::{State, read_json};

/// The share of questions whose answer changes between two releases, when power is reckoned.
const DISCORDANCE: f64 = 0.10;

/// Loads the files and reports all that is wrong with them, for `loci up`.
pub fn load(files: &[PathBuf]) -> Result<(Manifests, Vec<Pipeline>)> {
    load_for(files, loci_manifest::for_machine)
}

/// The same for a place that has demands of its own.
pub fn load_for(
    files: &[PathBuf],
    demands: fn(&Manifests) -> Vec<Problem>,
) -> Result<(Manifests, Vec<Pipeline>)> {
    let manifests = loci_manifest::load(files).map_err(refuse)?;
    let mut problems = demands(&manifests);
    let mut pipelines = Vec::new();
    for loaded in &manifests.pipelines {
        match Pipeline::from_resource(&loaded.object) {
            Ok(pipeline) => pipelines.push(pipeline),
            Err(errors) => problems.extend(
                errors
                    .into_iter()
                    .map(|e| loaded.problem(&e.field, e.reason, None)),
            ),
        }
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    if pipelines.is_empty() {
        bail!("there is no MemoryPipeline in the given files");
    }
    Ok((manifests, pipelines))
}

/// All problems as one error.
pub fn refuse(problems: Vec<Problem>) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

/// The text of a suite.
pub fn suite_text(
    manifests: &Manifests,
    loaded: &Loaded<MemoryPipeline>,
    pipeline: &Pipeline,
    data: &SuiteData,
) -> Result<Vec<u8>> {
    match data {
        SuiteData::File(path) => {
            let path = loaded.directory().join(path);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        }
        SuiteData::ConfigMap { name, key } => {
            let namespace = pipeline.namespace.as_deref().unwrap_or("default");
            let found = manifests
                .config_map(namespace, name)
                .and_then(|c| c.object.get(key));
            found
                .map(<[u8]>::to_vec)
                .with_context(|| format!("the ConfigMap {name} has no key {key}"))
        }
        SuiteData::Builtin(suite) => Ok(loci_shell::builtin(*suite).as_bytes().to_vec()),
    }
}

/// By suite: its bytes, and its questions.
pub type Suites = HashMap<String, (Vec<u8>, Questions)>;

/// The questions of each suite; a suite that does not parse is a problem. One in a ConfigMap that no file declares is
/// left out: it may stand in the cluster.
pub fn suites(
    manifests: &Manifests,
    loaded: &Loaded<MemoryPipeline>,
    pipeline: &Pipeline,
) -> Result<Suites, Vec<Problem>> {
    let mut found = HashMap::new();
    let mut problems = Vec::new();
    let namespace = pipeline.namespace.as_deref().unwrap_or("default");
    for (i, declared) in pipeline.suites.iter().enumerate() {
        if let SuiteData::ConfigMap { name, .. } = &declared.data
            && manifests.config_map(namespace, name).is_none()
        {
            continue;
        }
        let bytes = suite_text(manifests, loaded, pipeline, &declared.data);
        let bytes = bytes.map_err(|e| FieldError {
            field: declared.field(i),
            reason: format!("{e:#}"),
        });
        let read = bytes.and_then(|bytes| {
            let questions = loci_shell::questions((i, declared), &pipeline.gates, &bytes)?;
            Ok((bytes, questions))
        });
        match read {
            Ok(suite) => _ = found.insert(declared.name.clone(), suite),
            Err(e) => problems.push(loaded.problem(&e.field, e.reason, None)),
        }
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

/// What each gate can detect with its suite's questions, for people.
pub fn power(pipeline: &Pipeline, suites: &Suites) -> Vec<String> {
    let line = |gate: &loci_plan::spec::Gate| {
        let (_, questions) = suites.get(&gate.suite)?;
        let questions = questions.scored_by(gate.metric);
        let effect = detectable_effect(questions, DISCORDANCE);
        Some(format!(
            "suite {} has {questions} questions: {:?} tells a fall of {effect:.3} or more (80 % power, {:.0} % of the answers changing)",
            gate.suite,
            gate.metric,
            DISCORDANCE * 100.0
        ))
    };
    pipeline.gates.iter().filter_map(line).collect()
}

/// One pipeline, ready to run. Its generation counts changes of the spec.
pub async fn declare(
    manifests: &Manifests,
    loaded: &Loaded<MemoryPipeline>,
    pipeline: Pipeline,
    state: &State,
    store: &Store,
) -> Result<Declaration> {
    let base = std::path::absolute(loaded.directory())?;
    let namespace = pipeline
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    let resource = resource(
        loaded.object.clone(),
        &state.pipeline(&namespace, &pipeline.name).resource(),
    )?;
    let pipeline = Pipeline {
        uid: resource.metadata.uid.clone(),
        ..pipeline
    };
    let mut digests: HashMap<String, Digest> = HashMap::new();
    let mut question = "What is this about?".to_owned();
    for (name, (bytes, questions)) in suites(manifests, loaded, &pipeline).map_err(refuse)? {
        if let Some(first) = questions.queries.first() {
            question = first.replace(['"', '\'', '\\'], "");
        }
        digests.insert(name, store.put(bytes.into()).await?);
    }
    let logs = loci_shell::open_logs(store, &pipeline).await?;
    let specs = loci_shell::resolve(
        &pipeline,
        &Given {
            manifests,
            logs: &logs,
        },
        &base,
        &state.directory("git")?,
    );
    let specs = specs.map_err(|errors| {
        let problem = |e: FieldError| loaded.problem(&e.field, e.reason, None);
        refuse(errors.into_iter().map(problem).collect())
    })?;
    let watched = pipeline.sources.iter().filter(|s| {
        matches!(
            s.location,
            Location::Directory { .. } | Location::Push { .. }
        )
    });
    let adapted = pipeline.adapters.first();
    let cross = pipeline.rerank.as_ref().and_then(|r| r.model.as_ref());
    let declared = Declared {
        model: loci_shell::model(&pipeline.model, &base)?,
        base: adapted
            .map(|a| loci_shell::model(&a.base, &base))
            .transpose()?,
        cross_encoder: cross
            .map(|model| loci_shell::model(model, &base))
            .transpose()?,
        watched: watched.map(|s| s.name.clone()).collect(),
        suites: digests,
        resource,
        pipeline: Arc::new(pipeline),
    };
    Ok(Declaration {
        declared,
        sources: specs,
        logs,
        question,
    })
}

/// A pipeline that was accepted.
pub struct Declaration {
    /// As the controller takes it.
    pub declared: Declared,
    /// Its sources, opened.
    pub sources: Vec<SourceSpec>,
    /// The documents of its push sources, by their names.
    pub logs: BTreeMap<String, PushLog>,
    /// A question to try it with.
    pub question: String,
}

/// The objects of the given files, and what was pushed to a pipeline.
struct Given<'a> {
    manifests: &'a Manifests,
    logs: &'a BTreeMap<String, PushLog>,
}

impl Objects for Given<'_> {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Data> {
        let found = &self.manifests.config_map(namespace, name)?.object;
        Some(Data {
            text: found.data.clone(),
            binary: found.binary_data.clone(),
        })
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let found = &self.manifests.secret(namespace, name)?.object;
        let value = |key: &str| Some((key.to_owned(), found.get(key)?.to_vec()));
        Some(found.keys().filter_map(value).collect())
    }

    fn pushed(&self, source: &str) -> Option<PushLog> {
        self.logs.get(source).cloned()
    }

    fn place(&self) -> &'static str {
        "in the given files"
    }
}

/// The resource as an API server would keep it: uid and creation stay, the generation counts up.
fn resource(mut declared: MemoryPipeline, kept: &Path) -> Result<MemoryPipeline> {
    let before: Option<MemoryPipeline> = read_json(kept)?;
    let meta = &mut declared.metadata;
    match before {
        Some(before) => {
            let generation = before.metadata.generation.unwrap_or(1);
            meta.generation = Some(if before.spec == declared.spec {
                generation
            } else {
                generation + 1
            });
            meta.uid = before.metadata.uid;
            meta.creation_timestamp = before.metadata.creation_timestamp;
            declared.status = before.status;
        }
        None => {
            let now = Timestamp::now();
            meta.generation = Some(1);
            meta.uid = Some(Digest::of(format!("{}{now}", kept.display())).short());
            meta.creation_timestamp = Some(Time(now));
        }
    }
    Ok(declared)
}
