//! A bus that is away costs time: what was not taken is brought again until it is.

use std::time::Duration;

use loci_bus::{BusError, Outcome, WorkItem};

use super::Dispatch;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether the bus may take it later.
pub(super) fn away(error: &BusError) -> bool {
    matches!(error, BusError::Unreachable { .. })
}

impl Dispatch {
    /// Until the bus has it, or nobody wants it any more.
    pub(super) async fn publish_again(self, item: WorkItem) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let _sending = self.forgetting.read().await;
            let wanted = |live: &super::Live| !live.reply.is_closed();
            if !self.live().get(&item.id).is_some_and(wanted) {
                return;
            }
            match self.bus.publish(item.clone()).await {
                Err(error) if away(&error) => {}
                Err(error) => {
                    let failed = Outcome::Failed {
                        reason: "NotDispatched".to_owned(),
                        message: format!("the bus refuses it: {error}"),
                        retryable: true,
                    };
                    let live = self.live().remove(&item.id);
                    if let Some(live) = live {
                        self.answer(live, failed).await;
                    }
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// Until the bus knows of it, or it is wanted again.
    pub(super) async fn cancel_again(self, id: String) {
        loop {
            tokio::time::sleep(PAUSE).await;
            if self.live().contains_key(&id) {
                return;
            }
            match self.bus.cancel(&id).await {
                Err(error) if away(&error) => {}
                Err(error) => {
                    tracing::warn!(id, %error, "a step that nobody wants is not stopped");
                    return;
                }
                Ok(_) => return,
            }
        }
    }
}
