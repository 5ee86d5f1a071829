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

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }
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

    /// Whether something waits for the class that is due and more urgent than `than`.
    pub(super) fn urgent(&self, class: &str, than: Priority, now: Instant) -> bool {
        let class = self.classes.get(class);
        let mut waiting = class.into_iter().flat_map(|class| &class.waiting);
        waiting.any(|(place, waiting)| place.priority < than && waiting.is_due(now))
    }

    /// What a worker of the class may do that is as urgent as `least`.
    pub(super) fn next(&mut self, class: &str, least: Priority, now: Instant) -> Next {
        let Some(class) = self.classes.get_mut(class) else {
            return Next::Nothing;
        };
        let waiting = class.waiting.iter();
        let mut waiting = waiting.take_while(|(place, _)| place.priority <= least);
        let mut due = None;
        let Some(place) = waiting.find_map(|(place, waiting)| {
            due = due.into_iter().chain(waiting.due).min();
            waiting.is_due(now).then_some(*place)
        }) else {
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

    /// The delivery is lost: the item waits for the next, after a pause.
    pub(super) fn abandon(&mut self, id: &str, number: u64) {
        let Some(live) = self.taken_back(id, number) else {
            return;
        };
        live.redeliveries += 1;
        let pause = redelivery_pause(live.redeliveries);
        tracing::warn!(
            id,
            attempt = live.attempt,
            ?pause,
            "an item lost its worker, to be delivered again"
        );
        self.again(id, Some(Instant::now() + pause));
    }

    /// The delivery ends on purpose without an outcome: the item waits for the next.
    pub(super) fn give_back(&mut self, id: &str, number: u64) {
        if self.taken_back(id, number).is_some() {
            self.again(id, None);
        }
    }

    /// Takes the item from the delivery that holds it; none when that does not hold it, and when it ends because it was
    /// cancelled.
    fn taken_back(&mut self, id: &str, number: u64) -> Option<&mut Live> {
        if !self.holds(id, number) {
            return None;
        }
        if self.holder(id).is_some_and(|holder| holder.cancelled) {
            self.end(id, Outcome::Cancelled);
            return None;
        }
        let live = self.live.get_mut(id)?;
        live.holder = None;
        live.attempt = live.attempt.saturating_add(1);
        live.fence = live.fence.saturating_add(1);
        Some(live)
    }

    /// Puts the item into its old place.
    fn again(&mut self, id: &str, due: Option<Instant>) {
        let Some(live) = self.live.get(id) else {
            return;
        };
        let (class, place) = (live.class.clone(), live.place);
        let id = id.to_owned();
        self.wait(&class, place, Waiting { id, due });
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
