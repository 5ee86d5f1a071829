//! The bus within one process.
//!
//! A dropped lease is noticed at once, so there is no wait for acknowledgements; items live as long
//! as the bus does. Items travel as the same bytes as on any other bus.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::{Claim, Lease, Recorded};
use crate::{
    Cancelled, Dispatcher, Event, Events, Outcome, Priority, Progress, Published, Result, WorkItem,
    WorkQueue, wire,
};
use state::{Next, State};

/// A bus within one process. Cheap to clone; all clones are the same bus.
#[derive(Clone, Default)]
pub struct LocalBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

impl LocalBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Dispatcher for LocalBus {
    async fn publish(&self, item: WorkItem) -> Result<Published> {
        item.check()?;
        let message = wire::encode(&item)?;
        Ok(self.shared.state().publish(&item, message))
    }

    async fn cancel(&self, id: &str) -> Result<Cancelled> {
        Ok(self.shared.state().cancel(id))
    }

    async fn redeliver(&self, id: &str, attempt: u32) -> Result<bool> {
        Ok(self.shared.state().redeliver(id, attempt))
    }

    async fn forget(&self, pipeline: &str) -> Result<()> {
        self.shared.state().forget(pipeline);
        Ok(())
    }

    async fn events(&self) -> Result<Events> {
        Ok(self.shared.state().listeners.add())
    }
}

#[async_trait]
impl WorkQueue for LocalBus {
    async fn pull_at_least(
        &self,
        class: &str,
        least: Priority,
        timeout: Duration,
    ) -> Result<Option<Lease>> {
        let deadline = Instant::now().checked_add(timeout);
        let arrival = self.shared.state().arrival(class);
        loop {
            // Made before looking, so that what arrives in between is not missed.
            let arrived = arrival.notified();
            let next = self.shared.state().next(class, least, Instant::now());
            let due = match next {
                Next::Item(delivery) => return self.lease(delivery).map(Some),
                Next::Due(due) => Some(due),
                Next::Nothing => None,
            };
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            tokio::select! {
                () = arrived => {}
                () = sleep_until(due.into_iter().chain(deadline).min()) => {}
            }
        }
    }

    async fn urgent(&self, class: &str, than: Priority) -> Result<bool> {
        Ok(self.shared.state().urgent(class, than, Instant::now()))
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// An item on its way to a worker.
struct Delivery {
    /// Unlike any other delivery's number on this bus.
    number: u64,
    message: Vec<u8>,
    attempt: u32,
    fence: u64,
    cancelled: CancellationToken,
}

impl LocalBus {
    fn lease(&self, delivery: Delivery) -> Result<Lease> {
        let Delivery {
            number,
            message,
            attempt,
            fence,
            cancelled,
        } = delivery;
        let item = WorkItem {
            attempt,
            fence,
            ..wire::decode(&message)?
        };
        let id = item.id.clone();
        let claim = LocalClaim {
            shared: Arc::clone(&self.shared),
            id,
            number,
        };
        Ok(Lease::new(item, cancelled, Arc::new(claim)))
    }
}

struct LocalClaim {
    shared: Arc<Shared>,
    id: String,
    number: u64,
}

#[async_trait]
impl Claim for LocalClaim {
    fn report(&self, progress: Progress) {
        let mut state = self.shared.state();
        if state.holds(&self.id, self.number) {
            state.listeners.send(&Event::Progress(progress));
        }
    }

    fn abandon(&self) {
        self.shared.state().abandon(&self.id, self.number);
    }

    fn give_back(&self) {
        self.shared.state().give_back(&self.id, self.number);
    }

    async fn finish(&self, outcome: Outcome) -> Result<Recorded> {
        Ok(self.shared.state().finish(&self.id, self.number, outcome))
    }
}
