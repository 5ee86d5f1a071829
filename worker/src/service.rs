//! A worker: takes work items of its class one at a time and does them.

use std::time::Duration;

use loci_bus::{BusError, Lease, Outcome, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::step::{self, Reporter, StepContext, StepError, StepInput};

/// How long one pull waits for work.
const PULL: Duration = Duration::from_secs(30);

/// The pauses after a bus that does not answer.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];

/// Works until `shutdown`; what is under way then is left to be delivered again. A bus that does not answer is asked
/// again, ever more slowly.
pub async fn serve(
    queue: &dyn WorkQueue,
    class: &str,
    context: &StepContext,
    shutdown: CancellationToken,
) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    let turns = async {
        loop {
            match turn(queue, class, context).await {
                Ok(()) => pause = first,
                Err(error) => {
                    tracing::warn!(%error, ?pause, "no work can be had; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = turns => {}
    }
}

/// Takes one item, if there is one, and does it.
async fn turn(queue: &dyn WorkQueue, class: &str, context: &StepContext) -> Result<(), BusError> {
    match queue.pull(class, PULL).await? {
        Some(lease) => work(context, lease).await,
        None => Ok(()),
    }
}

async fn work(context: &StepContext, lease: Lease) -> Result<(), BusError> {
    let item = lease.item();
    let span =
        tracing::info_span!("step", run = %item.run, step = %item.step, attempt = item.attempt);
    let outcome = match serde_json::from_value::<StepInput>(item.payload.clone()) {
        Ok(input) => {
            let reporter = Reporter::new(&lease);
            let work = step::run(context, &item.pipeline, &input, &reporter);
            outcome(tracing::Instrument::instrument(work, span).await)
        }
        Err(error) => failed(
            "InvalidPayload",
            format!("the work item's payload does not read: {error}"),
            false,
        ),
    };
    lease.finish(outcome).await?;
    Ok(())
}

fn outcome(result: Result<step::StepOutput, StepError>) -> Outcome {
    match result.and_then(|output| Ok(serde_json::to_value(output)?)) {
        Ok(output) => Outcome::Done { output },
        Err(StepError::Cancelled) => Outcome::Cancelled,
        Err(error) => failed(error.reason(), error.to_string(), error.retryable()),
    }
}

fn failed(reason: &str, message: String, retryable: bool) -> Outcome {
    Outcome::Failed {
        reason: reason.to_owned(),
        message,
        retryable,
    }
}
