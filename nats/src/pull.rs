//! The worker side: finding an item that is due.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use futures::StreamExt;
use loci_bus::{Lease, Priority, Result, WorkItem, WorkQueue, wire};
use tokio::time::Instant;

use crate::hold::Hold;
use crate::ledger::{self, class_hint};
use crate::record::Delivery;
use crate::{NatsBus, Shared};

/// A worker looks this often although nobody told it of an item: hints may be lost.
const LOOK: Duration = Duration::from_secs(2);

#[async_trait]
impl WorkQueue for NatsBus {
    async fn pull(&self, class: &str, timeout: Duration) -> Result<Option<Lease>> {
        let deadline = Instant::now().checked_add(timeout);
        // Heard before looking, so that what arrives in between is not missed.
        let hints = self.shared.ledger.client.subscribe(class_hint(class)).await;
        let mut hints = hints.map_err(|e| self.shared.ledger.unreachable("listen for work", &e))?;
        loop {
            // A task of its own: dropped half way, what it got would wait for its worker's silence to be noticed.
            let look = tokio::spawn(look(Arc::clone(&self.shared), class.to_owned()));
            if let Some(lease) = look.await.unwrap_or(Ok(None))? {
                return Ok(Some(lease));
            }
            let again = Instant::now() + LOOK;
            let again = deadline.map_or(again, |deadline| again.min(deadline));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            tokio::select! {
                _ = hints.next() => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }
}

/// Takes what is due: urgent items first. One at a time, so that none waits behind work under way.
async fn look(shared: Arc<Shared>, class: String) -> Result<Option<Lease>> {
    for priority in Priority::ALL {
        let Some(consumer) = shared.ledger.consumer(&class, priority).await? else {
            continue;
        };
        loop {
            let refused = |e: &dyn std::error::Error| shared.ledger.unreachable("pull a job", e);
            let mut batch = consumer
                .fetch()
                .max_messages(1)
                .messages()
                .await
                .map_err(|e| refused(&e))?;
            let Some(message) = batch.next().await else {
                break;
            };
            let message = message.map_err(|e| refused(e.as_ref()))?;
            if let Some(lease) = take(&shared, message).await? {
                return Ok(Some(lease));
            }
        }
    }
    Ok(None)
}

/// Claims the item of a message; none when there is nothing to do for it any more.
async fn take(shared: &Arc<Shared>, message: Message) -> Result<Option<Lease>> {
    let (Some(publication), Some(reply)) = (
        ledger::publication(message.headers.as_ref()).map(str::to_owned),
        message.reply.as_ref().map(ToString::to_string),
    ) else {
        tracing::warn!(subject = %message.subject, "a job that no build of loci wrote is dropped");
        done_with(&message).await;
        return Ok(None);
    };
    let item: WorkItem = match wire::decode(&message.payload) {
        Ok(item) => item,
        Err(error) => {
            // Left to a worker that can read it; this one would get it again at once.
            tracing::warn!(subject = %message.subject, %error, "a job is left to others");
            let later = AckKind::Nak(Some(Duration::from_secs(30)));
            let _ = message.ack_with(later).await;
            return Ok(None);
        }
    };
    let (owner, id) = (ledger::owned_by(&item.pipeline), &item.id);
    loop {
        let Some((subject, record, sequence)) = shared.ledger.read(&owner, id).await? else {
            done_with(&message).await;
            return Ok(None);
        };
        match record.deliver(&publication, &reply) {
            Delivery::Stale => {
                done_with(&message).await;
                return Ok(None);
            }
            Delivery::End(record) => {
                if shared.ledger.write(&subject, &record, sequence).await? {
                    done_with(&message).await;
                    return Ok(None);
                }
            }
            Delivery::Hold(record) => {
                if shared.ledger.write(&subject, &record, sequence).await? {
                    let item = WorkItem {
                        attempt: record.attempt,
                        fence: record.fence,
                        term: record.term,
                        ..item
                    };
                    return Hold::begin(shared, item, record, message).await.map(Some);
                }
            }
        }
    }
}

async fn done_with(message: &Message) {
    if let Err(error) = message.ack().await {
        tracing::debug!(%error, "a job that is done with will be delivered once more");
    }
}
