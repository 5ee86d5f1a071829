//! What happens to items, in order, and what to do when the server has lost them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use async_nats::jetstream::stream::Info;
use futures::{StreamExt, TryStreamExt};
use loci_bus::{Event, Progress, Result, wire};
use tokio::time::MissedTickBehavior;

use crate::ledger::ITEMS;
use crate::record::{Record, State};
use crate::{Shared, lock};

/// How often the streams, and the jobs of what is live, are looked after.
const CARE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

/// Listens from now on, if it does not yet.
pub(crate) async fn start(shared: &Arc<Shared>) -> Result<()> {
    let begin = || async {
        let (items, jobs) = shared.ledger.ensure().await?;
        let watch = Watch {
            heard: items.state.last_sequence,
            made: made(&items, &jobs),
            held: HashMap::new(),
            early: HashMap::new(),
        };
        let closed = shared.closed.clone();
        let shared = Arc::downgrade(shared);
        tokio::spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = watch.run(&shared) => {}
            }
            if let Some(shared) = shared.upgrade() {
                lock(&shared.listeners).close();
            }
        });
        Ok(())
    };
    shared.watch.get_or_try_init(begin).await.map(drop)
}

/// When the streams were made: another time means that they are others.
type Made = [i128; 2];

fn made(items: &Info, jobs: &Info) -> Made {
    [items, jobs].map(|info| info.created.unix_timestamp_nanos())
}

struct Watch {
    /// The last sequence of the stream of items that was heard.
    heard: u64,
    made: Made,
    /// Which publication and attempt holds an item.
    held: HashMap<String, (String, u32)>,
    /// Progress heard before its claim.
    early: HashMap<String, Progress>,
}

impl Watch {
    async fn run(mut self, shared: &Weak<Shared>) {
        loop {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            if let Err(error) = self.session(&shared).await {
                tracing::warn!(%error, "what happens to work items is not heard; trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Hears until something is wrong.
    async fn session(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let ledger = &shared.ledger;
        let mut link = shared.link.clone();
        self.care(shared).await?;
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.heard + 1,
            },
            ..OrderedConfig::default()
        };
        let stream = ledger.stream(ITEMS).await?;
        let refused = |e: &dyn std::error::Error| ledger.unreachable("follow work items", e);
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|e| refused(&e))?;
        let mut records = consumer.messages().await.map_err(|e| refused(&e))?;
        let progress = ledger.client.subscribe("evt.v1.>").await;
        let mut progress = progress.map_err(|e| refused(&e))?;
        let mut care = tokio::time::interval(CARE);
        care.set_missed_tick_behavior(MissedTickBehavior::Delay);
        care.reset();
        loop {
            tokio::select! {
                record = records.try_next() => {
                    let Some(record) = record.map_err(|e| refused(&e))? else {
                        return Ok(());
                    };
                    let sequence = record.info().map_err(|e| refused(e.as_ref()))?.stream_sequence;
                    self.heard = self.heard.max(sequence);
                    match wire::decode(&record.payload) {
                        Ok(record) => self.record(shared, record),
                        Err(error) => tracing::warn!(%error, subject = %record.subject, "a record is passed over"),
                    }
                }
                Some(message) = progress.next() => {
                    if let Ok(Event::Progress(progress)) = wire::decode(&message.payload) {
                        self.progress(shared, progress);
                    }
                }
                _ = care.tick() => if self.care(shared).await? { return Ok(()) },
                changed = link.changed() => {
                    if changed.is_err() { return Ok(()) }
                    if link.borrow_and_update().problem.is_none() && self.care(shared).await? { return Ok(()) }
                }
            }
        }
    }

    /// Sees to it that the streams are there, and in them what is live. True when they had to be made anew.
    async fn care(&mut self, shared: &Arc<Shared>) -> Result<bool> {
        let (items, jobs) = shared.ledger.ensure().await?;
        let made = made(&items, &jobs);
        let lost = made != self.made;
        if lost {
            tracing::warn!("the server has lost its work items; publishing them again");
            if made[0] != self.made[0] {
                self.heard = 0;
            }
            self.made = made;
            lock(&shared.classes).clear();
        }
        shared.republish().await?;
        Ok(lost)
    }

    fn record(&mut self, shared: &Shared, record: Record) {
        let Record {
            id,
            publication,
            attempt,
            fence,
            ..
        } = record;
        match record.state {
            State::Waiting => {
                self.held.remove(&id);
                remember(shared, &id, &publication, attempt, fence);
            }
            State::Held { .. } => {
                let holder = (publication, attempt);
                if self.held.get(&id) == Some(&holder) {
                    return;
                }
                remember(shared, &id, &holder.0, attempt, fence);
                self.held.insert(id.clone(), holder);
                let early = self.early.remove(&id);
                say(shared, &Event::Claimed { id, attempt });
                if let Some(early) = early {
                    self.progress(shared, early);
                }
            }
            State::Finished { outcome } => {
                self.held.remove(&id);
                self.early.remove(&id);
                shared.over(&id, &publication);
                let finished = Event::Finished {
                    id,
                    attempt,
                    outcome,
                };
                say(shared, &finished);
            }
        }
    }

    fn progress(&mut self, shared: &Shared, progress: Progress) {
        match self.held.get(&progress.id) {
            Some((_, attempt)) if *attempt == progress.attempt => {
                say(shared, &Event::Progress(progress));
            }
            Some((_, attempt)) if *attempt > progress.attempt => {}
            _ if lock(&shared.live).contains_key(&progress.id) => {
                self.early.insert(progress.id.clone(), progress);
            }
            _ => {}
        }
    }
}

fn say(shared: &Shared, event: &Event) {
    lock(&shared.listeners).send(event);
}

/// Published again, the item goes on from here: attempts and fences only rise.
fn remember(shared: &Shared, id: &str, publication: &str, attempt: u32, fence: u64) {
    if let Some(live) = lock(&shared.live).get_mut(id)
        && live.publication == publication
    {
        live.item.attempt = attempt;
        live.item.fence = fence;
    }
}
