//! What a worker has in hand, and what it lets go of when something more urgent waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loci_bus::{Priority, WorkQueue};

use crate::step::Way;

/// How often it is asked whether something more urgent waits, while a step can make way for it.
const LOOK: Duration = Duration::from_secs(2);
/// How long after urgent work nothing else is asked for: the next step of a run follows a moment later, and what made way
/// would have begun again by then.
const URGENT: Duration = Duration::from_secs(10);

/// What is worked on, and what is asked for next. All clones are the same.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    held: HashMap<u64, (Priority, Way)>,
    last: u64,
    urgent: Option<Instant>,
}

/// An item that is worked on until this is dropped.
pub(super) struct Held {
    hands: Hands,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hands.state().held.remove(&self.number);
    }
}

impl Hands {
    /// Takes an item in hand, whose step may be asked to make way.
    pub fn hold(&self, priority: Priority, way: Way) -> Held {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.held.insert(number, (priority, way));
        Held {
            hands: self.clone(),
            number,
        }
    }

    /// Urgent work has just been done, or is about to be.
    pub fn was_urgent(&self) {
        self.state().urgent = Some(Instant::now());
    }

    /// What the next item must be as urgent as, and how long to wait for it.
    pub fn asks(&self, longest: Duration) -> (Priority, Duration) {
        let since = self.state().urgent.map(|then| then.elapsed());
        match since.and_then(|since| URGENT.checked_sub(since)) {
            Some(left) => (Priority::P1, left.min(longest)),
            None => (Priority::P2, longest),
        }
    }

    /// Whether a step in hand keeps what it has done when it is told to end.
    pub fn keep(&self) -> bool {
        self.state().held.values().any(|(_, way)| way.offered())
    }

    /// Asks the least urgent step to make way, as soon as something waits that is more urgent and there is no free slot
    /// for. Never ends.
    pub async fn watch(&self, queue: &dyn WorkQueue, class: &str, slots: usize) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some((priority, way)) = self.least_urgent(slots) else {
                continue;
            };
            match queue.urgent(class, priority).await {
                Ok(true) => {
                    tracing::info!(class, "a step is asked to make way");
                    way.ask();
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "whether something more urgent waits is not known");
                }
            }
        }
    }

    /// The least urgent step in hand that can make way, if all slots are taken.
    fn least_urgent(&self, slots: usize) -> Option<(Priority, Way)> {
        let state = self.state();
        if state.held.len() < slots {
            return None;
        }
        let able = state.held.values().filter(|(_, way)| way.offered());
        able.max_by_key(|(priority, _)| *priority).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_urgent_work_nothing_else_is_asked_for_a_while() {
        let (hands, long) = (Hands::default(), Duration::from_secs(30));
        assert_eq!(hands.asks(long), (Priority::P2, long));
        hands.was_urgent();
        let (least, wait) = hands.asks(long);
        assert!(least == Priority::P1 && wait <= URGENT && wait > URGENT / 2);
        let short = Duration::from_millis(1);
        assert_eq!(hands.asks(short), (Priority::P1, short));
        hands.state().urgent = Instant::now().checked_sub(URGENT + short);
        assert_eq!(hands.asks(long), (Priority::P2, long));
    }

    #[test]
    fn the_least_urgent_step_that_can_makes_way_when_there_is_no_free_slot() {
        let hands = Hands::default();
        let ways = [Way::default(), Way::default(), Way::default()];
        let priorities = [Priority::P1, Priority::P2, Priority::P0];
        let pairs = priorities.into_iter().zip(&ways);
        let held: Vec<Held> = pairs.map(|(p, way)| hands.hold(p, way.clone())).collect();
        let least = |slots| hands.least_urgent(slots).map(|(priority, _)| priority);
        assert!(least(3).is_none() && !hands.keep());
        ways[0].offer();
        assert_eq!((least(3), least(4)), (Some(Priority::P1), None));
        ways[1].offer();
        assert_eq!(least(3), Some(Priority::P2));
        drop(held);
        assert!(least(0).is_none() && !hands.keep());
    }
}
