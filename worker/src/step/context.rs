//! What steps need of their surroundings.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loci_bus::{Lease, Unit};
use loci_store::Store;
use tokio_util::sync::CancellationToken;

use super::models::{Decoders, Encoders};
use super::{Revisions, StepError};
use crate::devices::Card;
use crate::document::Parsers;

/// The surroundings of a worker's steps.
#[derive(Clone)]
pub struct StepContext {
    /// Artefacts.
    pub store: Store,
    /// Models that embed.
    pub encoders: Encoders,
    /// Models that are trained and asked.
    pub decoders: Decoders,
    /// Who reads documents that are no text.
    pub parsers: Parsers,
    /// Revisions, unpacked once.
    pub revisions: Revisions,
    /// Called between batches of bulk work; may block while queries run.
    pub pace: Arc<dyn Fn() + Send + Sync>,
    /// How often a training writes down where it is: what a crash costs at most. [`CHECKPOINTS`] is what the shells take.
    pub checkpoints: Duration,
    /// The device that models compute on; none for the CPU.
    pub card: Option<Card>,
}

/// How often a training writes down where it is.
pub const CHECKPOINTS: Duration = Duration::from_secs(60);

/// Tells the bus how far a step is, and hears when to stop.
#[derive(Clone)]
pub struct Reporter {
    bus: loci_bus::Reporter,
    /// The work is not wanted any more, or not from this worker.
    unwanted: CancellationToken,
    /// This process is about to end.
    ending: CancellationToken,
    way: Way,
}

/// Why a step is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// Nobody wants its work any more, or not from this worker.
    Unwanted,
    /// This process is about to end, and another will go on.
    Ending,
    /// What is more urgent waits, and the step has offered to make way.
    Urgent,
}

/// Between a step that can make way for others and who knows when it should. All clones are the same.
#[derive(Clone, Default)]
pub struct Way(Arc<Flags>);

#[derive(Default)]
struct Flags {
    offered: AtomicBool,
    wanted: AtomicBool,
}

impl Way {
    /// Whether the step can stop at any moment and go on later.
    pub fn offered(&self) -> bool {
        self.0.offered.load(Ordering::Relaxed)
    }

    /// Asks the step to make way.
    pub fn ask(&self) {
        self.0.wanted.store(true, Ordering::Relaxed);
    }

    /// Says that the step can.
    pub(crate) fn offer(&self) {
        self.0.offered.store(true, Ordering::Relaxed);
    }
}

impl Reporter {
    /// Of a lease.
    pub fn new(lease: &Lease) -> Self {
        Self {
            bus: lease.reporter(),
            unwanted: lease.cancelled(),
            ending: CancellationToken::new(),
            way: Way::default(),
        }
    }

    /// The same, in a process that is about to end when `ending` fires.
    pub fn until(self, ending: CancellationToken) -> Self {
        Self { ending, ..self }
    }

    /// The same, for a step that may be asked to make way.
    pub fn with_way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// `done` of `total` units.
    pub(super) fn report(
        &self,
        done: u64,
        total: Option<u64>,
        unit: Unit,
        message: Option<String>,
    ) {
        self.bus.progress(done, total, unit, message);
    }

    /// The same, for a run that has used so many seconds on a device.
    pub(super) fn with_device_seconds(&self, seconds: u64) -> Self {
        Self {
            bus: self.bus.with_device_seconds(seconds),
            ..self.clone()
        }
    }

    /// Says that the step can make way: it keeps what it has done.
    pub(super) fn offer_way(&self) {
        self.way.offer();
    }

    /// Whether the step should stop, for whoever asks between two pieces of work.
    pub(super) fn halt(&self) -> Option<Halt> {
        if self.unwanted.is_cancelled() {
            Some(Halt::Unwanted)
        } else if self.ending.is_cancelled() {
            Some(Halt::Ending)
        } else if self.way.offered() && self.way.0.wanted.load(Ordering::Relaxed) {
            Some(Halt::Urgent)
        } else {
            None
        }
    }

    /// Fails when the step should stop.
    pub(super) fn check(&self) -> Result<(), StepError> {
        match self.flow() {
            ControlFlow::Break(()) => Err(StepError::Cancelled),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// The same for callbacks.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        if self.unwanted.is_cancelled() || self.ending.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Does `work` unless the step is told to stop before it is done.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, StepError> {
        tokio::select! {
            biased;
            () = self.unwanted.cancelled() => Err(StepError::Cancelled),
            () = self.ending.cancelled() => Err(StepError::Cancelled),
            done = work => Ok(done),
        }
    }
}
