//! A worker's hold on an item: kept up while it works, ended once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use futures::StreamExt;
use loci_bus::{
    BusError, Claim, Event, Lease, Outcome, Progress, Recorded, Result, WorkItem, wire,
};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::ledger::{item_hint, owned_by};
use crate::record::{Back, Ending, Record};
use crate::{Shared, lock};

/// The least time between two messages of progress.
const PROGRESS: Duration = Duration::from_millis(250);
/// How long an outcome is offered to a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Hold {
    shared: Arc<Shared>,
    tenant: String,
    /// As in the item's subject.
    owner: String,
    id: String,
    publication: String,
    attempt: u32,
    /// The sequence of the record that says so.
    since: u64,
    message: Message,
    /// Told to the worker.
    cancelled: CancellationToken,
    ended: CancellationToken,
    latest: Mutex<Option<Progress>>,
    reported: Notify,
}

impl Hold {
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        item: WorkItem,
        record: Record,
        since: u64,
        message: Message,
    ) -> Result<Lease> {
        let client = &shared.ledger.client;
        let hints = client.subscribe(item_hint(&item.id)).await;
        let hints = hints.map_err(|e| shared.ledger.unreachable("listen for cancellation", &e))?;
        let hold = Arc::new(Self {
            shared: Arc::clone(shared),
            tenant: item.tenant().to_owned(),
            owner: owned_by(&item.pipeline),
            id: item.id.clone(),
            publication: record.publication,
            attempt: record.attempt,
            since,
            message,
            cancelled: CancellationToken::new(),
            ended: CancellationToken::new(),
            latest: Mutex::default(),
            reported: Notify::new(),
        });
        tokio::spawn(Arc::clone(&hold).keep(hints));
        Ok(Lease::new(item, hold.cancelled.clone(), hold))
    }

    /// Tells the server that the worker lives, the worker what becomes of its item, and listeners how far it is.
    async fn keep(self: Arc<Self>, mut hints: Subscriber) {
        let mut beat = tokio::time::interval(self.shared.options.ack_wait / 6);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet_until = Instant::now();
        let mut lost = false;
        // A subscription ends with its connection only.
        while !lost {
            tokio::select! {
                () = self.ended.cancelled() => break,
                _ = beat.tick() => {
                    let _ = self.message.ack_with(AckKind::Progress).await;
                    lost = self.look().await;
                }
                Some(_) = hints.next() => lost = self.look().await,
                () = self.reported.notified() => {
                    tokio::select! {
                        () = self.ended.cancelled() => {}
                        () = tokio::time::sleep_until(quiet_until) => {}
                    }
                    self.send_progress().await;
                    quiet_until = Instant::now() + PROGRESS;
                }
            }
        }
    }

    /// Whether the item is lost to this attempt; if so, or if it is cancelled, the worker is told.
    async fn look(&self) -> bool {
        let ledger = &self.shared.ledger;
        let held = match ledger.read(&self.owner, &self.id, self.since).await {
            Ok(found) => {
                found.and_then(|(_, record, _)| record.held_by(&self.publication, self.attempt))
            }
            // Nobody else can take the item from a server that does not answer.
            Err(_) => return false,
        };
        if held != Some(false) {
            self.cancelled.cancel();
        }
        held.is_none()
    }

    async fn send_progress(&self) {
        let Some(progress) = lock(&self.latest).take() else {
            return;
        };
        let subject = format!("evt.v1.{}.{}.{}", self.tenant, self.id, self.attempt);
        let sent = match wire::encode(&Event::Progress(progress)) {
            Ok(json) => self.shared.ledger.tell(subject, json).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "progress is not told");
        }
    }

    async fn record(&self, outcome: &Outcome) -> Result<Recorded> {
        let change = |record: &Record| match record.finish(&self.publication, self.attempt, outcome)
        {
            Ending::Counts(record) => (Recorded::Won, Some(record)),
            Ending::Counted => (Recorded::Won, None),
            Ending::Stale => (Recorded::Stale, None),
        };
        let changed = self
            .shared
            .ledger
            .update(&self.owner, &self.id, self.since, change)
            .await?;
        // Without a record the server has lost the item, and its planner will publish it again.
        Ok(changed.map_or(Recorded::Stale, |(recorded, _)| recorded))
    }

    /// Ends without an outcome.
    fn let_go(&self, back: Back) {
        self.ended.cancel();
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let (owner, since) = (self.owner.clone(), self.since);
        let (publication, attempt) = (self.publication.clone(), self.attempt);
        // Outside of a runtime the process is about to end; its silence will be noticed.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let given = async move {
            let ours = |record: &Record| {
                let ours = record.publication == publication;
                Ok(ours.then(|| record.clone()))
            };
            let given = shared.give_back((&owner, &id, since), attempt, back, ours);
            if let Err(error) = given.await {
                tracing::warn!(id, %error, "an item is given back by silence");
            }
        };
        runtime.spawn(self.shared.tasks.track_future(given));
    }
}

#[async_trait]
impl Claim for Hold {
    fn report(&self, progress: Progress) {
        *lock(&self.latest) = Some(progress);
        self.reported.notify_one();
    }

    fn abandon(&self) {
        self.let_go(Back::Lost);
    }

    fn give_back(&self) {
        self.let_go(Back::Given);
    }

    async fn finish(&self, outcome: Outcome) -> Result<Recorded> {
        let patient_until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(100);
        let recorded = loop {
            match self.record(&outcome).await {
                Err(BusError::Unreachable { .. }) if Instant::now() < patient_until => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                recorded => break recorded?,
            }
        };
        self.ended.cancel();
        if recorded == Recorded::Won {
            // Unheard, the job is delivered once more and found to be done with.
            let _ = self.message.double_ack().await;
        }
        Ok(recorded)
    }
}
