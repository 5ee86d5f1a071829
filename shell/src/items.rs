//! What those are asked to do who take steps, and who they are.

use std::sync::Arc;

use loci_bus::{Priority, WorkItem};
use loci_digest::Digest;
use loci_plan::metrics::Kind;
use loci_plan::{Pipeline, StepInput};
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
