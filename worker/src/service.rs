//! A worker: takes work items of its class, as many at a time as it has slots, and does them.

mod hands;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use loci_bus::{Lease, Outcome, Priority, WorkItem, WorkQueue};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::devices::{Card, Item};
use crate::step::{self, FetchContext, Reporter, StepContext, StepError, StepOutput, Way};
use hands::Hands;

/// How long one pull waits for work.
const PULL: Duration = Duration::from_secs(30);

/// The pauses after a bus that does not answer.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];

/// How long steps are waited for that hear that the process is about to end: those that write down where they are, and the
/// rest, whose work is done again.
const ENDING: [Duration; 2] = [Duration::from_secs(45), Duration::from_secs(10)];

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

    /// The device that it is done on, if that is none of the CPU's.
    fn card(&self) -> Option<&Card> {
        None
    }
}

#[async_trait]
impl Work for StepContext {
    async fn work(&self, item: &WorkItem, reporter: &Reporter) -> Result<StepOutput, StepError> {
        step::run(self, &item.pipeline, &payload(item)?, reporter).await
    }

    fn card(&self) -> Option<&Card> {
        self.card.as_ref()
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

/// Works until `shutdown`, or until the device that it is done on has failed as often as it may; what is under way then
/// hears of it, and goes back into the queue. A step that can make way for something more urgent is asked to. A bus that
/// does not answer is asked again, ever more slowly.
pub async fn serve(
    queue: &dyn WorkQueue,
    class: &str,
    work: &impl Work,
    slots: usize,
    shutdown: CancellationToken,
) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    let (slots, hands) = (slots.max(1), Hands::default());
    let drained = work.card().map(Card::drained).unwrap_or_default();
    let ending = shutdown.child_token();
    let free = Arc::new(Semaphore::new(slots));
    let mut busy = JoinSet::new();
    let turns = async {
        // The semaphore is never closed.
        while let Ok(slot) = free.clone().acquire_owned().await {
            let (least, wait) = hands.asks(PULL);
            match queue.pull_at_least(class, least, wait).await {
                Ok(lease) => {
                    pause = first;
                    if let Some(lease) = lease {
                        let (hands, ending) = (hands.clone(), ending.clone());
                        busy.spawn(one(work.clone(), lease, hands, ending, slot));
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
        // Before anything else is asked for.
        biased;
        () = shutdown.cancelled() => {}
        () = drained.cancelled() => {}
        () = turns => {}
        () = hands.watch(queue, class, slots) => {}
    }
    ending.cancel();
    let [keeping, other] = ENDING;
    let patience = if hands.keep() { keeping } else { other };
    let ended = async { while busy.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, ended).await.is_err() {
        tracing::warn!(
            ?patience,
            "what has not ended is left to be delivered again"
        );
    }
    busy.shutdown().await;
}

/// Does what was leased.
async fn one(
    work: impl Work,
    lease: Lease,
    hands: Hands,
    ending: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    let item = lease.item();
    let (priority, way) = (item.priority, Way::default());
    let span =
        tracing::info_span!("step", run = %item.run, step = %item.step, attempt = item.attempt);
    let held = hands.hold(priority, way.clone());
    let reporter = Reporter::new(&lease).until(ending.clone()).with_way(way);
    let done = tracing::Instrument::instrument(work.work(item, &reporter), span).await;
    drop(held);
    if priority < Priority::P2 || matches!(done, Err(StepError::Yielded)) {
        hands.was_urgent();
    }
    let ending = ending.is_cancelled() && !lease.cancelled().is_cancelled();
    let failed = match &done {
        Err(error) if error.device_failed() => {
            let card = work.card();
            card.map(|card| card.failed(&error.to_string(), lease.item().attempt))
        }
        _ => None,
    };
    match failed.map(|after| after.item) {
        // Dropped, it is offered again after a pause.
        Some(Item::Later) => return,
        Some(Item::AtOnce) => return lease.give_back(),
        Some(Item::Told) | None => {}
    }
    match done {
        Err(why @ StepError::Elsewhere(_)) => {
            // Dropped, it is offered again after a pause.
            tracing::info!(id = item.id, %why, "an item is left to others");
        }
        Err(StepError::Yielded) => {
            tracing::info!(id = item.id, "an item makes way");
            lease.give_back();
        }
        Err(StepError::Cancelled) if ending => lease.give_back(),
        done => {
            if let Err(error) = lease.finish(outcome(done)).await {
                tracing::warn!(%error, "an outcome is not told");
            }
        }
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
