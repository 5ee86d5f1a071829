//! What those are asked to do who take steps, and who they are.

use std::sync::Arc;

use anyhow::{Result, bail};
use loci_bus::{Priority, WorkItem};
use loci_digest::Digest;
use loci_plan::metrics::Kind;
use loci_plan::{Pipeline, StepInput, Subject, Subjects};
use loci_worker::chunk::ChunkerConfig;
use loci_worker::step::{self, CollectInput, SourceInput, SuiteInput, Upload};

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
        StepInput::Evaluate { subjects, .. } => subjects.clone(),
        _ => Subjects::default(),
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

/// What a worker is asked to do.
///
/// # Errors
/// When that is no worker's part, or nobody's yet.
pub(crate) fn payload(declared: &Declared, input: &StepInput) -> Result<step::StepInput> {
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
        StepInput::Assemble { change, .. } => step::StepInput::Assemble { delta: *change },
        StepInput::Collect {
            adapter,
            snapshot,
            last,
            min_new,
        } => {
            let Some(adapter) = pipeline.adapter(adapter) else {
                bail!("spec.adapters has no {adapter}");
            };
            let suites = declared.suites.iter();
            step::StepInput::Collect(CollectInput {
                snapshot: *snapshot,
                sources: adapter.sources.iter().cloned().collect(),
                suites: suites.map(|(name, data)| (name.clone(), *data)).collect(),
                held_out: adapter.held_out,
                min_examples: adapter.min_examples,
                min_new_examples: *min_new,
                last: *last,
            })
        }
        StepInput::Train { adapter, .. } => {
            bail!("adapter {adapter} is to be trained, and training is not built yet")
        }
        StepInput::Evaluate {
            candidate,
            baseline,
            anchor,
            ..
        } => {
            let subjects = [Some(candidate), baseline.as_ref(), anchor.as_ref()];
            let revisions = subjects.into_iter().flatten().map(revision);
            step::StepInput::Evaluate {
                revisions: revisions.collect::<Result<_>>()?,
                suites: suites(declared),
                // Of behaviour nobody can be asked before a pipeline has adapters, and the spec refuses such suites.
                behaviors: Vec::new(),
            }
        }
    })
}

fn revision(subject: &Subject) -> Result<Digest> {
    if let Some(adapter) = subject.adapters.keys().next() {
        bail!("adapter {adapter} is to be judged, and judging adapters is not built yet");
    }
    Ok(subject.revision)
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
    use super::*;

    #[test]
    fn who_asked_comes_first_and_a_training_waits() {
        let (change, dataset) = (Digest::of("change"), Digest::of("dataset"));
        let assemble = StepInput::Assemble { change };
        let train = StepInput::Train {
            adapter: "escalation".into(),
            dataset,
            warm_start: None,
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
