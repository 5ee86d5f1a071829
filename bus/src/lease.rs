//! A worker's hold on an item.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{BusError, Outcome, Progress, Result, Unit, WorkItem, wire};

/// Whether an outcome counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is the item's outcome.
    Won,
    /// The attempt had lost the item: another attempt holds or has finished it.
    Stale,
}

/// How a form of the bus is told what a lease does. Workers use [`Lease`].
#[async_trait]
pub trait Claim: Send + Sync {
    /// Passes progress on. Never blocks; only the latest has to arrive.
    fn report(&self, progress: Progress);

    /// Gives the item back without an outcome: its worker is gone.
    fn abandon(&self);

    /// Gives the item back without an outcome, on purpose.
    fn give_back(&self);

    /// Records the outcome, unless the attempt has lost the item.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn finish(&self, outcome: Outcome) -> Result<Recorded>;
}

/// An item held by this worker, until it is finished, given back or dropped. Dropped without an outcome, the item
/// is delivered again after a pause.
pub struct Lease {
    item: WorkItem,
    cancelled: CancellationToken,
    claim: Arc<dyn Claim>,
    ended: bool,
}

/// Reports progress of a lease from another thread.
#[derive(Clone)]
pub struct Reporter {
    id: String,
    attempt: u32,
    device_seconds: Option<u64>,
    claim: Arc<dyn Claim>,
}

impl Lease {
    /// A lease on `item`. `cancelled` fires when the item is cancelled or taken away.
    pub fn new(item: WorkItem, cancelled: CancellationToken, claim: Arc<dyn Claim>) -> Self {
        Self {
            item,
            cancelled,
            claim,
            ended: false,
        }
    }

    /// The work.
    pub fn item(&self) -> &WorkItem {
        &self.item
    }

    /// Fires when the work is no longer wanted from this worker: finish as [`Outcome::Cancelled`].
    pub fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// Reports how far the work is: `done` of `total`, in `unit`. Cheap; never blocks.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: Unit, message: Option<String>) {
        self.reporter().progress(done, total, unit, message);
    }

    /// Something that reports progress from wherever the work is done.
    pub fn reporter(&self) -> Reporter {
        Reporter {
            id: self.item.id.clone(),
            attempt: self.item.attempt,
            device_seconds: None,
            claim: Arc::clone(&self.claim),
        }
    }

    /// Ends the lease with an outcome. An outcome too large to carry ends it as failed for the reason
    /// `OutputTooLarge`, since another attempt would fare no better.
    ///
    /// # Errors
    /// When the bus cannot be reached; the item will be delivered again.
    pub async fn finish(mut self, outcome: Outcome) -> Result<Recorded> {
        let outcome = match wire::encode(&outcome) {
            Ok(_) => outcome,
            Err(e @ BusError::TooLarge { .. }) => Outcome::Failed {
                reason: "OutputTooLarge".to_owned(),
                message: e.to_string(),
                retryable: false,
            },
            Err(e) => return Err(e),
        };
        let recorded = self.claim.finish(outcome).await?;
        self.ended = true;
        Ok(recorded)
    }

    /// Ends the lease without an outcome, on purpose: because others are more urgent, or because this process is about
    /// to end. The item is due again at once, as the next attempt; nothing is taken to be lost.
    pub fn give_back(mut self) {
        self.ended = true;
        self.claim.give_back();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended {
            self.claim.abandon();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("item", &self.item)
            .finish_non_exhaustive()
    }
}

impl Reporter {
    /// The same, for a run that has used so many seconds on a device.
    pub fn with_device_seconds(&self, seconds: u64) -> Self {
        Self {
            device_seconds: Some(seconds),
            ..self.clone()
        }
    }

    /// As [`Lease::progress`]. Ignored once the lease has ended.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: Unit, message: Option<String>) {
        let (id, attempt) = (self.id.clone(), self.attempt);
        self.claim.report(Progress {
            id,
            attempt,
            done,
            total,
            unit,
            message,
            device_seconds: self.device_seconds,
        });
    }
}
