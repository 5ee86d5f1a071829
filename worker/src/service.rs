//! A worker: takes work items of its class one at a time and does them.

use std::time::Duration;

use loci_bus::{BusError, Lease, Outcome, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::step::{self, Reporter, StepContext, StepError, StepInput};

/// How long one pull waits for work.
const PULL: Duration = Duration::from_secs(30);

/// Works until `shutdown`; what is under way then is left to be delivered again.
///
/// # Errors
/// When the bus refuses a pull.
pub async fn serve(
    queue: &dyn WorkQueue,
    class: &str,
    context: &StepContext,
    shutdown: CancellationToken,
) -> Result<(), BusError> {
    loop {
        let pulled = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            pulled = queue.pull(class, PULL) => pulled?,
        };
        let Some(lease) = pulled else { continue };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            done = work(context, lease) => done?,
        }
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
