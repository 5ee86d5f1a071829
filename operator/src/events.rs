//! Kubernetes events, on transitions only.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use loci_crds::release::ReleasePhase;
use loci_crds::run::RunPhase;
use loci_crds::{MemoryPipeline, MemoryPipelineStatus, MemoryRelease, MemoryRun, MemoryRunStatus};
use loci_plan::StepOutcome;
use loci_shell::Told;
use tokio::sync::mpsc;

use crate::MANAGER;

/// The API server's limit for a note, in bytes.
const NOTE: usize = 1024;

/// Publishes events about one pipeline, in order, beside what the pipeline does.
#[derive(Clone)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// Publishes until the last clone is gone. An event that cannot be published is logged.
    pub fn new(client: Client, pipeline: &MemoryPipeline) -> Self {
        let (sender, mut inbox) = mpsc::unbounded_channel::<Event>();
        let about = ObjectReference {
            resource_version: None,
            ..pipeline.object_ref(&())
        };
        let recorder = Recorder::new(client, Reporter::from(MANAGER));
        tokio::spawn(async move {
            while let Some(event) = inbox.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::warn!(reason = event.reason, "an event was not published: {error}");
                }
            }
        });
        Self(sender)
    }

    /// Publishes what people should hear of.
    pub fn tell(&self, told: &Told<'_>) {
        self.publish(of(told));
    }

    /// Publishes why a spec is refused, as its `Stalled` condition says it.
    pub fn refused(&self, status: &MemoryPipelineStatus) {
        self.publish(of_refusal(status));
    }

    fn publish(&self, parts: Option<Parts>) {
        let Some((type_, reason, action, mut note)) = parts else {
            return;
        };
        while note.len() > NOTE {
            note.pop();
        }
        // The receiver lives as long as this sender.
        let _ = self.0.send(Event {
            type_,
            reason,
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        });
    }
}

type Parts = (EventType, String, &'static str, String);

fn of(told: &Told<'_>) -> Option<Parts> {
    match told {
        Told::Run(run) => of_run(run),
        Told::Release(release) => of_release(release),
        Told::Step(outcome) => of_step(outcome),
        Told::Serving { release, .. } => {
            let note = format!("{release} serves");
            Some((EventType::Normal, "Serving".to_owned(), "Rollout", note))
        }
        Told::Trouble(what) => {
            let reason = "Trouble".to_owned();
            Some((EventType::Warning, reason, "Reconcile", what.clone()))
        }
    }
}

fn of_refusal(status: &MemoryPipelineStatus) -> Option<Parts> {
    let stalled = |c: &&Condition| c.type_ == "Stalled" && c.status == "True";
    let why = status.conditions.iter().find(stalled)?;
    let (reason, note) = (why.reason.clone(), why.message.clone());
    Some((EventType::Warning, reason, "Reconcile", note))
}

fn of_run(run: &MemoryRun) -> Option<Parts> {
    let name = run.name_any();
    // An API server gives what is new a first status.
    let looked_at = |s: &&MemoryRunStatus| s.observed_generation.is_some_and(|g| g > 0);
    let Some(status) = run.status.as_ref().filter(looked_at) else {
        let note = format!("{name} was created: {:?}", run.spec.trigger);
        return Some((EventType::Normal, "RunCreated".to_owned(), "Refresh", note));
    };
    let type_ = match status.phase {
        RunPhase::Failed | RunPhase::Held => EventType::Warning,
        RunPhase::Succeeded => EventType::Normal,
        _ => return None,
    };
    let message = status.message.as_deref().unwrap_or_default();
    let reason = format!("Run{:?}", status.phase);
    Some((type_, reason, "Refresh", format!("{name}: {message}")))
}

fn of_release(release: &MemoryRelease) -> Option<Parts> {
    let status = release.status.as_ref()?;
    let type_ = match status.phase {
        ReleasePhase::Rejected | ReleasePhase::Inconclusive => EventType::Warning,
        ReleasePhase::Withdrawn => EventType::Normal,
        _ => return None,
    };
    let message = status.message.clone().unwrap_or_default();
    let reason = format!("Release{:?}", status.phase);
    Some((type_, reason, "Rollout", message))
}

fn of_step(outcome: &StepOutcome) -> Option<Parts> {
    let failure = outcome.result.as_ref().err()?;
    let note = format!(
        "{} of {}: {}",
        outcome.key.step.as_str(),
        outcome.key.run,
        failure.message
    );
    Some((EventType::Warning, failure.reason.clone(), "Refresh", note))
}
