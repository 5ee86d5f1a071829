//! What those are asked to do who take steps, and who they are.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use loci_bus::{Priority, WorkItem};
use loci_crds::adapter::LearningRateSchedule;
use loci_digest::Digest;
use loci_models::{LoraConfig, Schedule};
use loci_plan::metrics::Kind;
use loci_plan::spec::{Adapter, Lora, Rerank, Training};
use loci_plan::{Pipeline, StepInput, Subjects};
use loci_worker::chunk::ChunkerConfig;
use loci_worker::step::{
    self, CollectInput, ContextInput, SourceInput, SuiteInput, TrainInput, TrainingOptions, Upload,
};

use crate::asks::behaviors;
use crate::declared::Declared;

/// Who takes the steps.
#[derive(Clone)]
pub enum Crew {
    /// This process, of whatever class they are.
    Here,
    /// Workers of the class that the pipeline names; what reads sources, this process.
    Workers,
    /// Workers of the class that the pipeline names; what reads sources, the fetcher of the pipeline's namespace, who
    /// puts it there.
    Fetchers(Arc<dyn Uploads>),
}

/// Says where fetchers put what they read.
pub trait Uploads: Send + Sync {
    /// The place of a namespace, with the keys to it and to one snapshot there.
    fn upload(&self, namespace: &str, snapshot: Option<&Digest>) -> Upload;
}

/// `namespace/name`.
pub fn full_name(pipeline: &Pipeline) -> String {
    format!("{}/{}", namespace(pipeline), pipeline.name)
}

pub(crate) fn namespace(pipeline: &Pipeline) -> &str {
    pipeline.namespace.as_deref().unwrap_or("default")
}

/// A pipeline's sources, as fetchers are told of them.
pub(crate) fn sources(pipeline: &Pipeline) -> impl Iterator<Item = SourceInput> {
    let sources = pipeline.sources.iter().enumerate();
    sources.map(|(i, source)| SourceInput {
        field: format!("spec.sources[{i}]"),
        source: source.clone(),
    })
}

/// Those that an adapter is trained on, or that are indexed.
pub(crate) fn sources_of(pipeline: &Pipeline, adapter: Option<&str>) -> Vec<SourceInput> {
    let read = |input: &SourceInput| {
        let mut read = pipeline.read_by(adapter);
        read.any(|source| source.name == input.source.name)
    };
    sources(pipeline).filter(read).collect()
}

/// An item that says what is to be done, and not yet for what.
pub(crate) fn blank(pipeline: &Pipeline, payload: serde_json::Value) -> WorkItem {
    WorkItem {
        id: String::new(),
        pipeline: full_name(pipeline),
        run: String::new(),
        step: String::new(),
        attempt: 1,
        fence: 0,
        priority: Priority::P1,
        class: String::new(),
        payload,
        // Who leads says so at the bus.
        term: 0,
        traceparent: None,
    }
}

/// What an evaluation judges.
pub(crate) fn subjects(input: &StepInput) -> Subjects {
    match input {
        StepInput::Evaluate { subjects, .. } => (**subjects).clone(),
        _ => Subjects::default(),
    }
}

/// The adapter that a step is about; none when that is the index.
pub(crate) fn adapter(input: &StepInput) -> Option<String> {
    match input {
        StepInput::Snapshot { adapter, .. } | StepInput::Evaluate { adapter, .. } => {
            adapter.clone()
        }
        StepInput::Collect { adapter, .. } | StepInput::Train { adapter, .. } => {
            Some(adapter.clone())
        }
        StepInput::Embed { .. } | StepInput::Assemble { .. } => None,
    }
}

/// How urgent a step is: those of a run that a person asked for come first, and a training waits for all that is short.
pub(crate) fn priority(requested: bool, input: &StepInput) -> Priority {
    match input {
        StepInput::Train { .. } => Priority::P2,
        _ if requested => Priority::P0,
        _ => Priority::P1,
    }
}

/// What a worker is asked to do for a run.
///
/// # Errors
/// When that is no worker's part.
pub(crate) fn payload(
    declared: &Declared,
    run: &str,
    input: &StepInput,
) -> Result<step::StepInput> {
    let pipeline = &declared.pipeline;
    Ok(match input {
        StepInput::Snapshot { .. } => bail!("a snapshot is a fetcher's part"),
        StepInput::Embed { snapshot, previous } => step::StepInput::Embed {
            snapshot: *snapshot,
            previous: *previous,
            model: declared.model.clone(),
            chunking: ChunkerConfig {
                max_tokens: pipeline.chunking.max_tokens,
                overlap_tokens: pipeline.chunking.overlap_tokens,
            },
        },
        StepInput::Assemble { change, .. } => step::StepInput::Assemble {
            delta: *change,
            fusion: pipeline.fusion,
            rerank: pipeline.rerank.clone().map(|rerank| Rerank {
                model: declared.cross_encoder.clone(),
                ..rerank
            }),
        },
        StepInput::Collect {
            adapter,
            snapshot,
            last,
            min_new,
            revision,
        } => {
            let adapter = declared_as(pipeline, adapter)?;
            let context = revision.map(|revision| ContextInput {
                revision,
                base: declared.absolute(&adapter.base).to_owned(),
                max_tokens: adapter.training.max_tokens as usize,
            });
            let suites = declared.suites.iter();
            step::StepInput::Collect(CollectInput {
                snapshot: *snapshot,
                sources: adapter.sources.iter().cloned().collect(),
                suites: suites.map(|(name, data)| (name.clone(), *data)).collect(),
                held_out: adapter.held_out,
                min_examples: adapter.min_examples,
                min_new_examples: *min_new,
                last: *last,
                context,
            })
        }
        StepInput::Train {
            adapter,
            dataset,
            warm_start,
            device_seconds,
            max_device_seconds,
        } => {
            let adapter = declared_as(pipeline, adapter)?;
            step::StepInput::Train(TrainInput {
                run: run.to_owned(),
                base: declared.absolute(&adapter.base).to_owned(),
                dataset: *dataset,
                lora: lora(&adapter.lora),
                training: training(&adapter.training),
                recompute: adapter.training.recompute,
                warm_start: *warm_start,
                // Replicas load any.
                max_lora_rank: pipeline.vllm.as_ref().map(|vllm| vllm.max_lora_rank),
                device_seconds: *device_seconds,
                max_device_seconds: *max_device_seconds,
            })
        }
        StepInput::Evaluate {
            candidate,
            baseline,
            anchor,
            ..
        } => {
            let subjects = [Some(candidate), baseline.as_ref(), anchor.as_ref()];
            let subjects = subjects.into_iter().flatten();
            step::StepInput::Evaluate {
                revisions: subjects.map(|subject| subject.revision).collect(),
                suites: suites(declared),
                behaviors: behaviors(declared, input),
            }
        }
    })
}

fn declared_as<'a>(pipeline: &'a Pipeline, adapter: &str) -> Result<&'a Adapter> {
    let found = pipeline.adapter(adapter);
    found.with_context(|| format!("spec.adapters has no {adapter}"))
}

fn lora(lora: &Lora) -> LoraConfig {
    LoraConfig {
        rank: lora.rank as usize,
        alpha: f64::from(lora.alpha),
        dropout: lora.dropout,
        targets: lora.target_modules.clone(),
    }
}

fn training(training: &Training) -> TrainingOptions {
    TrainingOptions {
        epochs: training.epochs as usize,
        learning_rate: training.learning_rate,
        schedule: match training.schedule {
            LearningRateSchedule::Cosine => Schedule::Cosine,
            LearningRateSchedule::Linear => Schedule::Linear,
            LearningRateSchedule::Constant => Schedule::Constant,
        },
        warmup: training.warmup,
        weight_decay: training.weight_decay,
        batch: training.batch as usize,
        max_tokens: Some(training.max_tokens as usize),
        seed: training.seed,
    }
}

fn suites(declared: &Declared) -> Vec<SuiteInput> {
    let suite = |name: &String| {
        let data = *declared.suites.get(name)?;
        Some(SuiteInput {
            name: name.clone(),
            data,
            depth: declared.pipeline.depth_of(name),
        })
    };
    let suites = declared.pipeline.suites.iter();
    let suites = suites.filter(|s| s.kind == Kind::Retrieval);
    suites.filter_map(|s| suite(&s.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use loci_crds::MemoryPipeline;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_training_is_told_how_it_computes_apart_from_what_it_learns() {
        let train = StepInput::Train {
            adapter: "escalation".into(),
            dataset: Digest::of("dataset"),
            warm_start: None,
            device_seconds: 0,
            max_device_seconds: None,
        };
        let told = |recompute: bool| {
            let resource: MemoryPipeline = serde_json::from_value(json!({
                "apiVersion": "loci.dev/v1alpha1",
                "kind": "MemoryPipeline",
                "metadata": {"name": "support"},
                "spec": {
                    "embedder": {"model": "file:///model"},
                    "sources": [
                        {"name": "docs", "memory": "factual", "directory": {"path": "/docs"}},
                        {"name": "runbooks", "memory": "procedural", "directory": {"path": "/runbooks"}},
                    ],
                    "adapters": [{
                        "name": "escalation", "base": "file:///base", "sources": ["runbooks"],
                        "training": {"epochs": 5, "recompute": recompute},
                    }],
                },
            }))
            .unwrap();
            let declared = Declared {
                pipeline: Arc::new(Pipeline::from_resource(&resource).unwrap()),
                resource,
                model: "file:///model".into(),
                base: Some("file:///base".into()),
                cross_encoder: None,
                suites: HashMap::new(),
                watched: Vec::new(),
            };
            match payload(&declared, "support-1", &train).unwrap() {
                step::StepInput::Train(input) => input,
                other => panic!("{other:?}"),
            }
        };
        let (kept, again) = (told(false), told(true));
        assert_eq!((kept.recompute, again.recompute), (false, true));
        assert_eq!((kept.training.epochs, &kept.training), (5, &again.training));
    }

    #[test]
    fn who_asked_comes_first_and_a_training_waits() {
        let (change, dataset) = (Digest::of("change"), Digest::of("dataset"));
        let assemble = StepInput::Assemble { change };
        let train = StepInput::Train {
            adapter: "escalation".into(),
            dataset,
            warm_start: None,
            device_seconds: 0,
            max_device_seconds: None,
        };
        for (requested, input, expected) in [
            (true, &assemble, Priority::P0),
            (false, &assemble, Priority::P1),
            (false, &train, Priority::P2),
            (true, &train, Priority::P2),
        ] {
            assert_eq!(priority(requested, input), expected, "{input:?}");
        }
    }
}
