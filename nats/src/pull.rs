//! The worker side: finding an item that is due.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use futures::StreamExt;
use loci_bus::{Lease, Priority, Result, WorkItem, WorkQueue, wire};
use tokio::time::Instant;

use crate::hold::Hold;
use crate::ledger::{self, PATIENCE, class_hint};
use crate::record::Delivery;
use crate::{NatsBus, Shared, lock};

/// A worker looks this often although nobody told it of an item: hints may be lost.
const LOOK: Duration = Duration::from_secs(2);

#[async_trait]
impl WorkQueue for NatsBus {
    async fn pull_at_least(
        &self,
        class: &str,
        least: Priority,
        timeout: Duration,
    ) -> Result<Option<Lease>> {
        let deadline = Instant::now().checked_add(timeout);
        // Heard before looking, so that what arrives in between is not missed.
        let hints = self.shared.ledger.client.subscribe(class_hint(class)).await;
        let mut hints = hints.map_err(|e| self.shared.ledger.unreachable("listen for work", &e))?;
        loop {
            // A task of its own: dropped half way, what it got would wait for its worker's silence to be noticed.
            let look = tokio::spawn(look(Arc::clone(&self.shared), class.to_owned(), least));
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

    async fn urgent(&self, class: &str, than: Priority) -> Result<bool> {
        for priority in Priority::ALL.into_iter().filter(|p| *p < than) {
            // Looked up anew each time: what a consumer is known by is as old as the look at it.
            let consumer = self.shared.ledger.consumer(class, priority).await?;
            if consumer.is_some_and(|consumer| consumer.cached_info().num_pending > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes what is due: urgent items first. One at a time, so that none waits behind work under way.
async fn look(shared: Arc<Shared>, class: String, least: Priority) -> Result<Option<Lease>> {
    for priority in Priority::ALL.into_iter().filter(|p| *p <= least) {
        let Some(consumer) = shared.consumer(&class, priority).await? else {
            continue;
        };
        loop {
            let message = match next(&shared, &consumer).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    // It may have been lost with the server's store: looked up again next time.
                    lock(&shared.consumers).remove(&(class, priority));
                    return Err(error);
                }
            };
            if let Some(lease) = take(&shared, message).await? {
                return Ok(Some(lease));
            }
        }
    }
    Ok(None)
}

/// A job of this consumer, if one is due.
async fn next(shared: &Shared, consumer: &PullConsumer) -> Result<Option<Message>> {
    let refused = |e: &dyn std::error::Error| shared.ledger.unreachable("pull a job", e);
    let batch = consumer.fetch().max_messages(1).messages().await;
    let mut batch = batch.map_err(|e| refused(&e))?;
    // A server that dies now never answers.
    let message = tokio::time::timeout(PATIENCE, batch.next()).await;
    let message = message.map_err(|e| refused(&e))?;
    message.transpose().map_err(|e| refused(e.as_ref()))
}

impl Shared {
    /// The consumer of a class and priority, looked up once; none while nothing was ever published for it.
    async fn consumer(&self, class: &str, priority: Priority) -> Result<Option<PullConsumer>> {
        let key = (class.to_owned(), priority);
        if let Some(known) = lock(&self.consumers).get(&key) {
            return Ok(Some(known.clone()));
        }
        let found = self.ledger.consumer(class, priority).await?;
        if let Some(found) = &found {
            lock(&self.consumers).insert(key, found.clone());
        }
        Ok(found)
    }
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
        let Some((subject, record, sequence)) = shared.ledger.read(&owner, id, 0).await? else {
            outdated(shared, &message).await;
            return Ok(None);
        };
        match record.deliver(&publication, &reply) {
            Delivery::Stale => {
                outdated(shared, &message).await;
                return Ok(None);
            }
            Delivery::End(record) => {
                let written = shared.ledger.write(&subject, &record, sequence).await?;
                if written.is_some() {
                    done_with(&message).await;
                    return Ok(None);
                }
            }
            Delivery::Hold(record) => {
                let written = shared.ledger.write(&subject, &record, sequence).await?;
                if let Some(written) = written {
                    let item = WorkItem {
                        attempt: record.attempt,
                        fence: record.fence,
                        term: record.term,
                        ..item
                    };
                    let hold = Hold::begin(shared, item, record, written, message).await;
                    return hold.map(Some);
                }
            }
        }
    }
}

/// There is nothing to do for a job any more. A replica of the stream may say so before it has heard of the job's record,
/// and is asked again.
async fn outdated(shared: &Shared, message: &Message) {
    let first = message.info().is_ok_and(|info| info.delivered <= 2);
    if shared.ledger.direct() && first {
        let soon = AckKind::Nak(Some(Duration::from_millis(500)));
        let _ = message.ack_with(soon).await;
    } else {
        done_with(message).await;
    }
}

async fn done_with(message: &Message) {
    if let Err(error) = message.ack().await {
        tracing::debug!(%error, "a job that is done with will be delivered once more");
    }
}
