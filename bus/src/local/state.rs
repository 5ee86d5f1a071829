//! The live items. All that changes them happens here, under one lock, and never waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Delivery;
use crate::lease::Recorded;
use crate::{
    Cancelled, Event, Listeners, Outcome, Priority, Published, WorkItem, redelivery_pause,
};

#[derive(Default)]
pub(super) struct State {
    live: HashMap<String, Live>,
    classes: HashMap<String, Class>,
    pub(super) listeners: Listeners,
    /// The last number given to a publication or a delivery.
    last: u64,
}

/// What waits for a class of workers.
#[derive(Default)]
struct Class {
    waiting: BTreeMap<Place, Waiting>,
    arrival: Arc<Notify>,
}

/// Urgent first, then by age.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Priority,
    number: u64,
}

struct Waiting {
    id: String,
    /// Not before this, after a failed delivery.
    due: Option<Instant>,
}

/// An item from its publication to its outcome.
struct Live {
    message: Vec<u8>,
    pipeline: String,
    class: String,
    place: Place,
    /// Of the current delivery, or of the next one while it waits.
    attempt: u32,
    fence: u64,
    redeliveries: u32,
    /// The delivery that holds it; none while it waits.
    holder: Option<Holder>,
}

struct Holder {
    number: u64,
    token: CancellationToken,
    cancelled: bool,
}

/// What a worker of some class may do.
pub(super) enum Next {
    Item(Delivery),
    /// Nothing before then.
    Due(Instant),
    Nothing,
}

impl State {
    pub(super) fn publish(&mut self, item: &WorkItem, message: Vec<u8>) -> Published {
        if self.live.contains_key(&item.id) {
            return Published::Duplicate;
        }
        let place = Place {
            priority: item.priority,
            number: self.number(),
        };
        let live = Live {
            message,
            pipeline: item.pipeline.clone(),
            class: item.class.clone(),
            place,
            attempt: item.attempt,
            fence: item.fence,
            redeliveries: 0,
            holder: None,
        };
        self.live.insert(item.id.clone(), live);
        self.wait(
            &item.class,
            place,
            Waiting {
                id: item.id.clone(),
                due: None,
            },
        );
        Published::Accepted
    }

    pub(super) fn cancel(&mut self, id: &str) -> Cancelled {
        let Some(live) = self.live.get_mut(id) else {
            return Cancelled::NotLive;
        };
        if let Some(holder) = &mut live.holder {
            holder.cancelled = true;
            holder.token.cancel();
            return Cancelled::Running;
        }
        if let Some(class) = self.classes.get_mut(&live.class) {
            class.waiting.remove(&live.place);
        }
        self.end(id, Outcome::Cancelled);
        Cancelled::Queued
    }

    pub(super) fn redeliver(&mut self, id: &str, attempt: u32) -> bool {
        let holder = self
            .live
            .get(id)
            .filter(|live| live.attempt == attempt)
            .and_then(|live| live.holder.as_ref());
        let Some(holder) = holder else {
            return false;
        };
        holder.token.cancel();
        self.abandon(id, holder.number);
        true
    }

    pub(super) fn forget(&mut self, pipeline: &str) {
        for (_, live) in self.live.extract_if(|_, live| live.pipeline == pipeline) {
            if let Some(holder) = live.holder {
                holder.token.cancel();
            } else if let Some(class) = self.classes.get_mut(&live.class) {
                class.waiting.remove(&live.place);
            }
        }
    }

    /// Woken when something arrives for the class.
    pub(super) fn arrival(&mut self, class: &str) -> Arc<Notify> {
        Arc::clone(&self.classes.entry(class.to_owned()).or_default().arrival)
    }

    pub(super) fn next(&mut self, class: &str, now: Instant) -> Next {
        let Some(class) = self.classes.get_mut(class) else {
            return Next::Nothing;
        };
        let ready = |waiting: &Waiting| waiting.due.is_none_or(|due| due <= now);
        let Some(place) = class
            .waiting
            .iter()
            .find(|(_, w)| ready(w))
            .map(|(place, _)| *place)
        else {
            let due = class
                .waiting
                .values()
                .filter_map(|waiting| waiting.due)
                .min();
            return due.map_or(Next::Nothing, Next::Due);
        };
        let id = class.waiting.remove(&place).map(|waiting| waiting.id);
        let number = self.number();
        let Some((id, live)) = id.and_then(|id| self.live.get_mut(&id).map(|live| (id, live)))
        else {
            return Next::Nothing;
        };
        let token = CancellationToken::new();
        live.holder = Some(Holder {
            number,
            token: token.clone(),
            cancelled: false,
        });
        let delivery = Delivery {
            number,
            message: live.message.clone(),
            attempt: live.attempt,
            fence: live.fence,
            cancelled: token,
        };
        self.listeners.send(&Event::Claimed {
            id,
            attempt: delivery.attempt,
        });
        Next::Item(delivery)
    }

    /// Whether this delivery holds the item.
    pub(super) fn holds(&self, id: &str, number: u64) -> bool {
        self.holder(id)
            .is_some_and(|holder| holder.number == number)
    }

    /// The delivery ends without an outcome: the item waits for the next, unless it was cancelled.
    pub(super) fn abandon(&mut self, id: &str, number: u64) {
        if !self.holds(id, number) {
            return;
        }
        if self.holder(id).is_some_and(|holder| holder.cancelled) {
            self.end(id, Outcome::Cancelled);
            return;
        }
        let Some(live) = self.live.get_mut(id) else {
            return;
        };
        live.holder = None;
        live.redeliveries += 1;
        let pause = redelivery_pause(live.redeliveries);
        live.attempt = live.attempt.saturating_add(1);
        live.fence = live.fence.saturating_add(1);
        tracing::warn!(
            id,
            attempt = live.attempt,
            ?pause,
            "an item lost its worker, to be delivered again"
        );
        let (class, place) = (live.class.clone(), live.place);
        let due = Some(Instant::now() + pause);
        self.wait(
            &class,
            place,
            Waiting {
                id: id.to_owned(),
                due,
            },
        );
    }

    pub(super) fn finish(&mut self, id: &str, number: u64, outcome: Outcome) -> Recorded {
        if !self.holds(id, number) {
            return Recorded::Stale;
        }
        self.end(id, outcome);
        Recorded::Won
    }

    fn holder(&self, id: &str) -> Option<&Holder> {
        self.live.get(id)?.holder.as_ref()
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn wait(&mut self, class: &str, place: Place, waiting: Waiting) {
        let class = self.classes.entry(class.to_owned()).or_default();
        class.waiting.insert(place, waiting);
        // All of them: who is woken may be about to give up.
        class.arrival.notify_waiters();
    }

    fn end(&mut self, id: &str, outcome: Outcome) {
        if let Some(live) = self.live.remove(id) {
            let id = id.to_owned();
            self.listeners.send(&Event::Finished {
                id,
                attempt: live.attempt,
                outcome,
            });
        }
    }
}
