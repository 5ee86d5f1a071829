//! The planning side.

use std::time::Duration;

use async_trait::async_trait;
use loci_bus::{
    BusError, Cancelled, Dispatcher, Events, Published, Result, WorkItem, redelivery_pause, wire,
};

use crate::ledger::{ANY, class_hint, item_hint, item_subject, owned_by};
use crate::record::{Back, Record, State};
use crate::{NatsBus, Shared, lock, watch};

/// How long a server is waited for that nothing is to be published to yet.
const PROMPT: Duration = Duration::from_secs(1);

/// An item published here: kept to be published again if the server loses it.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) item: WorkItem,
    pub(crate) publication: String,
}

#[async_trait]
impl Dispatcher for NatsBus {
    async fn publish(&self, item: WorkItem) -> Result<Published> {
        item.check()?;
        let item = WorkItem {
            term: self.term,
            ..item
        };
        let json = wire::encode(&item)?;
        watch::start(&self.shared).await?;
        self.shared.publish(item, &json, None).await
    }

    async fn cancel(&self, id: &str) -> Result<Cancelled> {
        let cancel = |record: &Record| match record.under(self.term) {
            Ok(record) => {
                let (cancelled, changed) = record.cancel();
                (Ok(cancelled), changed)
            }
            Err(superseded) => (Err(superseded), None),
        };
        let changed = self.shared.ledger.update(ANY, id, 0, cancel).await?;
        let Some((cancelled, changed)) = changed else {
            return Ok(Cancelled::NotLive);
        };
        let cancelled = cancelled?;
        match cancelled {
            // Without its record the job is worth nothing; whoever gets it before it is gone finds that out.
            Cancelled::Queued => self.shared.ledger.withdraw_job(id).await?,
            Cancelled::Running if changed.is_some() => {
                self.shared.ledger.hint(item_hint(id)).await?;
            }
            _ => {}
        }
        Ok(cancelled)
    }

    async fn redeliver(&self, id: &str, attempt: u32) -> Result<bool> {
        let given = self
            .shared
            .give_back((ANY, id, 0), attempt, Back::Lost, |record| {
                record.under(self.term).map(Some)
            })
            .await?;
        if given {
            self.shared.ledger.hint(item_hint(id)).await?;
        }
        Ok(given)
    }

    async fn forget(&self, pipeline: &str) -> Result<()> {
        // First, or they would be published again.
        lock(&self.shared.live).retain(|_, live| live.item.pipeline != pipeline);
        for id in self.shared.ledger.forget(pipeline).await? {
            self.shared.ledger.hint(item_hint(&id)).await?;
        }
        Ok(())
    }

    async fn events(&self) -> Result<Events> {
        let events = lock(&self.shared.listeners).add();
        // A server that is away is asked again by whoever publishes: before that there is nothing to hear of.
        match tokio::time::timeout(PROMPT, watch::start(&self.shared)).await {
            Ok(Err(error)) if !matches!(error, BusError::Unreachable { .. }) => Err(error),
            _ => Ok(events),
        }
    }
}

impl Shared {
    /// Enters the item into the ledger unless it is live, and sees to it that its job is in the queue. An item that is
    /// published again, because the server may have lost its publication `again`, is left alone if that has ended.
    async fn publish(&self, item: WorkItem, json: &[u8], again: Option<&str>) -> Result<Published> {
        self.ensure_class(&item.class).await?;
        let publication = self.ledger.client.new_inbox();
        let owner = owned_by(&item.pipeline);
        let subject = item_subject(&owner, &item.id);
        loop {
            let found = self.ledger.read(&owner, &item.id, 0).await?;
            let found = match found {
                Some((_, record, sequence)) => match record.under(item.term) {
                    Ok(ours) => Some((ours != record, ours, sequence)),
                    Err(superseded) => {
                        lock(&self.live).remove(&item.id);
                        return Err(superseded);
                    }
                },
                None => None,
            };
            let sequence = match found {
                Some((_, record, _)) if record.ends(&publication) => {
                    return Ok(Published::Accepted);
                }
                Some((_, record, _)) if again.is_some_and(|again| record.ends(again)) => {
                    self.over(&item.id, &record.publication);
                    self.over(&item.id, &publication);
                    return Ok(Published::Duplicate);
                }
                Some((raised, record, sequence)) if record.live() => {
                    if raised {
                        let written = self.ledger.write(&subject, &record, sequence).await?;
                        if written.is_none() {
                            continue;
                        }
                    }
                    let published = match record.publication == publication {
                        true => Published::Accepted,
                        false => Published::Duplicate,
                    };
                    if published == Published::Duplicate {
                        self.keep(&item, &record.publication);
                    }
                    self.ledger.offer(&item, &record.publication, json).await?;
                    return Ok(published);
                }
                Some((_, _, sequence)) => sequence,
                None => 0,
            };
            // Kept first: its outcome may be heard before this returns. Written or not, the next look tells.
            self.keep(&item, &publication);
            let record = Record::new(&item, publication.clone());
            self.ledger.write(&subject, &record, sequence).await?;
        }
    }

    fn keep(&self, item: &WorkItem, publication: &str) {
        let live = Live {
            item: item.clone(),
            publication: publication.to_owned(),
        };
        lock(&self.live).insert(item.id.clone(), live);
    }

    /// The publication of an item has ended: it is not published again.
    pub(crate) fn over(&self, id: &str, publication: &str) {
        let mut live = lock(&self.live);
        if live
            .get(id)
            .is_some_and(|live| live.publication == publication)
        {
            live.remove(id);
        }
    }

    /// Publishes what has not ended and is not in the server any more. Errors are left to the next time.
    pub(crate) async fn republish(&self) -> Result<()> {
        let live: Vec<Live> = lock(&self.live).values().cloned().collect();
        for Live { item, publication } in live {
            let json = wire::encode(&item)?;
            let published = self.publish(item, &json, Some(&publication)).await?;
            tracing::debug!(?published, "a live item was looked after");
        }
        Ok(())
    }

    async fn ensure_class(&self, class: &str) -> Result<()> {
        if lock(&self.classes).contains(class) {
            return Ok(());
        }
        self.ledger.ensure_class(class).await?;
        lock(&self.classes).insert(class.to_owned());
        Ok(())
    }

    /// Takes the item from an attempt, if `of` gives its record as it is for who does, and has it delivered again: what
    /// is lost after a pause. False when that attempt does not hold it.
    pub(crate) async fn give_back(
        &self,
        (owner, id, since): (&str, &str, u64),
        attempt: u32,
        back: Back,
        of: impl Fn(&Record) -> Result<Option<Record>>,
    ) -> Result<bool> {
        let change = |record: &Record| {
            let changed = match of(record) {
                Ok(ours) => ours.and_then(|ours| ours.give_back(attempt, back)),
                Err(superseded) => return (Err(superseded), None),
            };
            let reply = match &record.state {
                State::Held { reply, .. } => Some(reply.clone()),
                _ => None,
            };
            (Ok(reply), changed)
        };
        let Some((reply, changed)) = self.ledger.update(owner, id, since, change).await? else {
            return Ok(false);
        };
        let (Some(reply), Some(record)) = (reply?, changed) else {
            return Ok(false);
        };
        if !record.live() {
            // As its worker would say that it is done with.
            self.ledger.tell(reply, b"+ACK".to_vec()).await?;
            return Ok(true);
        }
        if back == Back::Given {
            self.ledger.tell(reply, b"-NAK".to_vec()).await?;
            self.ledger.hint(class_hint(&record.class)).await?;
            return Ok(true);
        }
        let pause = redelivery_pause(record.redeliveries);
        tracing::warn!(
            id,
            attempt = record.attempt,
            ?pause,
            "an item lost its worker, to be delivered again"
        );
        let nak = format!("-NAK {{\"delay\": {}}}", pause.as_nanos());
        self.ledger.tell(reply, nak.into_bytes()).await?;
        let ledger = self.ledger.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // Unheard, workers look by themselves a little later.
            ledger.hint(class_hint(&record.class)).await
        });
        Ok(true)
    }
}
