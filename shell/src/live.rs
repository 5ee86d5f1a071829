//! What was asked for at the bus and is not answered yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use loci_bus::Progress;
use loci_plan::{Pipeline, Probe, Reported, StepKey, Subjects};
use tokio::sync::mpsc;

use crate::asks::Ask;
use crate::news::News;

/// How often a pipeline's loop hears of progress, at most.
const BEAT: Duration = Duration::from_secs(1);

/// What was asked for and has not been answered.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) asked: Asked,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) reply: mpsc::UnboundedSender<News>,
    /// When the loop last heard of progress.
    pub(crate) heard: Option<Instant>,
}

impl Live {
    /// Tells the loop how far its step is, unless it has just heard of it.
    pub(crate) fn report(&mut self, progress: &Progress) {
        if self.heard.is_some_and(|h| h.elapsed() < BEAT) {
            return;
        }
        let Some(key) = self.key().cloned() else {
            return;
        };
        self.heard = Some(Instant::now());
        // A closed channel is a controller that has ended.
        let _ = self.reply.send(News::Progress(Reported {
            key,
            done: progress.done,
            total: progress.total,
            unit: progress.unit.to_string(),
            device_seconds: progress.device_seconds,
        }));
    }
}

#[derive(Clone)]
pub(crate) enum Asked {
    Step {
        key: StepKey,
        subjects: Subjects,
        /// What an evaluation asks about the adapter that is new in a candidate.
        asks: Option<Vec<Ask>>,
        /// The adapter that the run is about.
        adapter: Option<String>,
    },
    Probe {
        probe: Probe,
        time: Timestamp,
    },
}

impl Live {
    pub(crate) fn key(&self) -> Option<&StepKey> {
        match &self.asked {
            Asked::Step { key, .. } => Some(key),
            Asked::Probe { .. } => None,
        }
    }

    /// The adapter that a step is about; none when that is the index.
    pub(crate) fn adapter(&self) -> Option<&str> {
        match &self.asked {
            Asked::Step { adapter, .. } => adapter.as_deref(),
            Asked::Probe { .. } => None,
        }
    }
}
