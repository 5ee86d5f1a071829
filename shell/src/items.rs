//! What those are asked to do who take steps, and who they are.

use std::sync::Arc;

use loci_bus::{Priority, WorkItem};
use loci_digest::Digest;
use loci_plan::metrics::Kind;
use loci_plan::{Pipeline, StepInput, Subjects};
use loci_worker::chunk::ChunkerConfig;
use loci_worker::step::{self, SourceInput, SuiteInput, Upload};

use crate::controller::Declared;

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
        StepInput::Evaluate { subjects, .. } => subjects.clone(),
        _ => Subjects::default(),
    }
}

/// How urgent a step is: those of a run that a person asked for come first, and a training waits for all that is short.
pub(crate) fn priority(requested: bool, work: Option<&step::StepInput>) -> Priority {
    match work {
        Some(step::StepInput::Train(_)) => Priority::P2,
        _ if requested => Priority::P0,
        _ => Priority::P1,
    }
}

/// What a worker is asked to do; none when that is a fetcher's part.
pub(crate) fn payload(declared: &Declared, input: &StepInput) -> Option<step::StepInput> {
    let pipeline = &declared.pipeline;
    Some(match input {
        StepInput::Snapshot { .. } => return None,
        StepInput::Embed { snapshot, previous } => step::StepInput::Embed {
            snapshot: *snapshot,
            previous: *previous,
            model: declared.model.clone(),
            chunking: ChunkerConfig {
                max_tokens: pipeline.chunking.max_tokens,
                overlap_tokens: pipeline.chunking.overlap_tokens,
            },
        },
        StepInput::Assemble { change, .. } => step::StepInput::Assemble { delta: *change },
        StepInput::Evaluate {
            revision,
            baseline,
            anchor,
            ..
        } => step::StepInput::Evaluate {
            revisions: [Some(*revision), *baseline, *anchor]
                .into_iter()
                .flatten()
                .collect(),
            suites: pipeline
                .suites
                .iter()
                .filter(|s| s.kind == Kind::Retrieval)
                .filter_map(|s| {
                    let data = *declared.suites.get(&s.name)?;
                    Some(SuiteInput {
                        name: s.name.clone(),
                        data,
                        depth: pipeline.depth_of(&s.name),
                    })
                })
                .collect(),
            // Of behaviour nobody can be asked before a pipeline has adapters, and the spec refuses such suites.
            behaviors: Vec::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_asked_comes_first_and_a_training_waits() {
        let delta = Digest::of("delta");
        let assemble = step::StepInput::Assemble { delta };
        let train = json!({
            "step": "train",
            "run": "support-1",
            "base": "hf://org/model@main",
            "dataset": Digest::of("dataset"),
            "lora": {"rank": 8, "alpha": "16", "dropout": "0", "targets": ["q_proj"]},
            "training": {
                "epochs": 1, "learningRate": 1e-4, "schedule": "cosine", "warmup": 0.0, "batchTokens": 1024, "seed": 0
            },
        });
        let train: step::StepInput = serde_json::from_value(train).unwrap();
        for (requested, work, expected) in [
            (true, None, Priority::P0),
            (true, Some(&assemble), Priority::P0),
            (false, Some(&assemble), Priority::P1),
            (false, None, Priority::P1),
            (false, Some(&train), Priority::P2),
            (true, Some(&train), Priority::P2),
        ] {
            assert_eq!(priority(requested, work), expected, "{work:?}");
        }
    }
}
