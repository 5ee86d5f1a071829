//! Work items, their progress and their results, between who plans and who works.
//!
//! A [`Dispatcher`] publishes items and hears what becomes of them; a [`WorkQueue`] leases them to
//! workers of a class. The bus is a redeliverable transport, not the truth: an item is idempotent, its
//! output lies in the store under the item's id, and losing the bus costs time, never work.
//!
//! What holds for every form of the bus:
//! - **One live item per id.** An item is live from its publication until its outcome; publishing
//!   its id meanwhile is a [`Published::Duplicate`]. Afterwards the id may be published again.
//! - **Priority.** A worker gets items of P0 before P1 before P2, and the oldest first within one.
//! - **Redelivery.** A lease that ends without an outcome (dropped, panicked, its process gone) is
//!   offered again, with the next attempt and fence, after a pause that grows with the attempts.
//!   There is no limit: who dispatches counts attempts by [`Event::Claimed`] and cancels.
//! - **Making way.** A worker that [gives an item back](Lease::give_back) has lost nothing: it is due again at once, in its
//!   old place, as the next attempt. [`WorkQueue::urgent`] tells whether there is a reason to.
//! - **First writer wins.** The first outcome of the attempt that holds the item counts. Progress and
//!   outcomes of an attempt that lost the item are refused as [`Recorded::Stale`].
//! - **Cancellation** ends what is live at that moment and nothing published later: a queued item
//!   finishes as [`Outcome::Cancelled`] at once, a leased one when its worker heeds the token or lets
//!   go of the lease.
//! - **Events.** Claims and outcomes reach every listener, in order for each item. Progress may be
//!   conflated: a slow listener gets the latest.

mod event;
mod item;
mod lease;
mod listeners;
pub mod local;
pub mod wire;
mod worker;

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use event::{Event, Outcome, Progress, Unit};
pub use item::{Priority, WorkItem, owner, redelivery_pause};
pub use lease::{Claim, Lease, Recorded, Reporter};
pub use listeners::Listeners;
pub use local::LocalBus;
pub use worker::{Device, Trouble, Worker};

/// The bus's results.
pub type Result<T, E = BusError> = std::result::Result<T, E>;

/// What happens to items, from the moment of listening on. Ends with the bus.
pub type Events = BoxStream<'static, Event>;

/// An item or message that the bus cannot carry.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A field of the item cannot be part of a subject.
    #[error(
        "the {field} of a work item is \"{value}\": it has to be 1 to {max} characters long, \
         without spaces, control characters and \".\", \"*\", \">\"",
        max = item::NAME_LIMIT
    )]
    Name {
        /// `id`, `class`, …
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// The message exceeds what the bus carries.
    #[error(
        "a {kind} of {bytes} bytes exceeds the limit of {limit}: put its content into the store and send the digest",
        limit = wire::LIMIT
    )]
    TooLarge {
        /// What kind of message it is.
        kind: &'static str,
        /// Its size as JSON.
        bytes: usize,
    },
    /// The server of the bus does not answer, or refuses.
    #[error("NATS did not {action}: {reason}")]
    Unreachable {
        /// What was asked of it.
        action: String,
        /// Why that failed.
        reason: String,
    },
    /// Somebody with a higher term has published, cancelled or redelivered the item.
    #[error(
        "the work item {id} is of term {seen} and this process speaks for term {term}: another operator has come to lead since. \
         If none is to be elected any more, delete the stream LOCI_ITEMS: what is under way is published again"
    )]
    Superseded {
        /// The item.
        id: String,
        /// The term of this process; 0 without an election.
        term: u64,
        /// The highest term seen.
        seen: u64,
    },
    /// A message of a version that this build does not know.
    #[error("a {kind} of version {found} arrived but this build reads version {expected}: run the same version of loci everywhere", expected = wire::VERSION)]
    Version {
        /// What kind of message was expected.
        kind: &'static str,
        /// The version it has.
        found: u32,
    },
    /// A message that is not what was expected.
    #[error("a message that should be a {kind} cannot be read: {reason}")]
    Malformed {
        /// What kind of message was expected.
        kind: &'static str,
        /// Which part, and why.
        reason: String,
    },
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The item is queued.
    Accepted,
    /// An item of this id is live already; this one was not queued, and the live one's outcome is to
    /// be expected.
    Duplicate,
}

/// What a cancellation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It was queued, and has finished as [`Outcome::Cancelled`].
    Queued,
    /// A worker holds it and has been told; its outcome follows.
    Running,
    /// No item of this id is live.
    NotLive,
}

/// The planning side: publishes work and hears what becomes of it.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// Queues an item, unless one of its id is live.
    ///
    /// # Errors
    /// [`BusError::Name`], [`BusError::TooLarge`]: the item cannot be carried.
    async fn publish(&self, item: WorkItem) -> Result<Published>;

    /// Ends the live item of this id, if any. An item published later is not affected.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn cancel(&self, id: &str) -> Result<Cancelled>;

    /// Takes an item from the attempt that holds it and offers it again: the attempt passed its
    /// deadline, or its worker is gone. False when that attempt does not hold the item (any more).
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn redeliver(&self, id: &str, attempt: u32) -> Result<bool>;

    /// Removes all that the bus keeps of a pipeline (`namespace/name`) that is gone. Nothing of it is delivered any
    /// more; whoever holds an item of it is told, and its outcome is refused. Listeners hear nothing of it.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn forget(&self, pipeline: &str) -> Result<()>;

    /// Listens. Listen before publishing: earlier events are not repeated.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn events(&self) -> Result<Events>;
}

/// The worker side.
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// Waits up to `timeout` for an item of `class`, and leases it. A worker pulls once per free slot.
    /// Dropping the future loses no item.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn pull(&self, class: &str, timeout: Duration) -> Result<Option<Lease>> {
        self.pull_at_least(class, Priority::P2, timeout).await
    }

    /// The same of items that are as urgent as `least`, or more so.
    ///
    /// # Errors
    /// As [`Self::pull`].
    async fn pull_at_least(
        &self,
        class: &str,
        least: Priority,
        timeout: Duration,
    ) -> Result<Option<Lease>>;

    /// Whether an item of `class` that is more urgent than `than` waits for a worker.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn urgent(&self, class: &str, than: Priority) -> Result<bool>;
}
