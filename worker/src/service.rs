//! A worker: takes work items of its class, as many at a time as it has slots, and does them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use loci_bus::{Lease, Outcome, WorkItem, WorkQueue};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::step::{self, FetchContext, Reporter, StepContext, StepError, StepOutput};

/// How long one pull waits for work.
const PULL: Duration = Duration::from_secs(30);

/// The pauses after a bus that does not answer.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];

/// What one process fetches at once: most of that is waiting for others.
pub const FETCHES: usize = 8;

/// Does work items.
#[async_trait]
pub trait Work: Clone + Send + Sync + 'static {
    /// Does an item, or looks up what it came to.
    ///
    /// # Errors
    /// [`StepError::reason`] names the kind.
    async fn work(&self, item: &WorkItem, reporter: &Reporter) -> Result<StepOutput, StepError>;
}

#[async_trait]
impl Work for StepContext {
    async fn work(&self, item: &WorkItem, reporter: &Reporter) -> Result<StepOutput, StepError> {
        step::run(self, &item.pipeline, &payload(item)?, reporter).await
    }
}

#[async_trait]
impl Work for FetchContext {
    async fn work(&self, item: &WorkItem, reporter: &Reporter) -> Result<StepOutput, StepError> {
        self.fetch(&item.pipeline, payload(item)?, reporter).await
    }
}

fn payload<T: DeserializeOwned>(item: &WorkItem) -> Result<T, StepError> {
    serde_json::from_value(item.payload.clone()).map_err(|e| StepError::Payload(e.to_string()))
}

/// Works until `shutdown`; what is under way then is left to be delivered again. A bus that does not answer is asked
/// again, ever more slowly.
pub async fn serve(
    queue: &dyn WorkQueue,
    class: &str,
    work: &impl Work,
    slots: usize,
    shutdown: CancellationToken,
) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    let free = Arc::new(Semaphore::new(slots.max(1)));
    let mut busy = JoinSet::new();
    let turns = async {
        // The semaphore is never closed.
        while let Ok(slot) = free.clone().acquire_owned().await {
            match queue.pull(class, PULL).await {
                Ok(lease) => {
                    pause = first;
                    if let Some(lease) = lease {
                        busy.spawn(one(work.clone(), lease, slot));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, ?pause, "no work can be had; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
            while busy.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = turns => {}
    }
    busy.shutdown().await;
}

/// Does what was leased.
async fn one(work: impl Work, lease: Lease, _slot: OwnedSemaphorePermit) {
    let item = lease.item();
    let span =
        tracing::info_span!("step", run = %item.run, step = %item.step, attempt = item.attempt);
    let reporter = Reporter::new(&lease);
    let done = tracing::Instrument::instrument(work.work(item, &reporter), span).await;
    if let Err(why @ (StepError::Elsewhere(_) | StepError::Yielded)) = done {
        // Dropped, it is offered again.
        tracing::info!(id = item.id, %why, "an item is left to others");
        return;
    }
    if let Err(error) = lease.finish(outcome(done)).await {
        tracing::warn!(%error, "an outcome is not told");
    }
}

fn outcome(result: Result<StepOutput, StepError>) -> Outcome {
    match result.and_then(|output| Ok(serde_json::to_value(output)?)) {
        Ok(output) => Outcome::Done { output },
        Err(StepError::Cancelled) => Outcome::Cancelled,
        Err(error) => Outcome::Failed {
            reason: error.reason().to_owned(),
            message: error.to_string(),
            retryable: error.retryable(),
        },
    }
}
