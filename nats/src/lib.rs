//! The bus over NATS JetStream: planners and workers in processes of their own.
//!
//! Two streams. `LOCI_JOBS`, a work queue, says which items may be due; `LOCI_ITEMS` keeps where each item stands, one
//! record per item, changed only by compare-and-swap. Claim, cancellation, redelivery and outcome are changes of that one
//! record, so each excludes the others: a worker that was silent for too long, or whom the server delivered twice, finds
//! at its outcome that it is not the holder any more. Progress and hints are plain messages that may be lost.
//!
//! Losing the server's store costs time, never work: whoever published an item has it still and publishes it again as
//! soon as the store is back, or the job is missing.

mod depth;
mod dispatch;
mod hold;
mod ledger;
mod options;
mod presence;
mod pull;
mod record;
mod user;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_nats::jetstream::consumer::PullConsumer;
use loci_bus::{Listeners, Priority};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use depth::Depth;
use dispatch::Live;
use ledger::Ledger;
pub use options::{ConnectError, NatsOptions, Server};
pub use presence::Roster;

/// The bus over NATS. Cheap to clone; all clones are the same connection, and the events end with the last of them.
#[derive(Clone)]
pub struct NatsBus {
    shared: Arc<Shared>,
    _watching: Arc<DropGuard>,
    /// Whose items these are.
    term: u64,
}

pub(crate) struct Shared {
    ledger: Ledger,
    options: NatsOptions,
    link: tokio::sync::watch::Receiver<options::Link>,
    /// What was published here and has not ended.
    live: Mutex<HashMap<String, Live>>,
    /// Classes whose consumers are there.
    classes: Mutex<HashSet<String>>,
    /// Consumers that a worker found.
    consumers: Mutex<HashMap<(String, Priority), PullConsumer>>,
    listeners: Mutex<Listeners>,
    watch: OnceCell<()>,
    roster: OnceLock<tokio::sync::watch::Receiver<Roster>>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

impl NatsBus {
    /// Begins to connect. The server need not be up: until it is, what is asked of the bus fails as
    /// [`loci_bus::BusError::Unreachable`].
    ///
    /// # Errors
    /// A file that cannot be read, or a URL that is none.
    pub async fn connect(options: NatsOptions) -> Result<Self, ConnectError> {
        let (client, link) = options::connect(&options).await?;
        let ledger = Ledger::new(client, link.clone(), &options);
        let closed = CancellationToken::new();
        let shared = Shared {
            ledger,
            options,
            link,
            live: Mutex::default(),
            classes: Mutex::default(),
            consumers: Mutex::default(),
            listeners: Mutex::default(),
            watch: OnceCell::new(),
            roster: OnceLock::new(),
            tasks: TaskTracker::new(),
            closed: closed.clone(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            _watching: Arc::new(closed.drop_guard()),
            term: 0,
        })
    }

    /// The same connection, for the leader of this term: what it publishes, cancels or redelivers is refused once a
    /// later leader has touched the item. A bus as it is connected speaks for term 0, which is that of no election.
    pub fn of_term(&self, term: u64) -> Self {
        Self {
            term,
            ..self.clone()
        }
    }

    /// Comes back when the file that names the servers names others: who goes on would wait for the old ones.
    pub async fn moved(&self) -> ConnectError {
        options::moved(&self.shared.options.server).await
    }

    /// Whether the server answers now.
    pub fn connected(&self) -> bool {
        self.shared.ledger.connected()
    }

    /// Says what is still to be said: that dropped leases are given back. Call it before the process ends.
    pub async fn close(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        if let Err(error) = self.shared.ledger.client.flush().await {
            tracing::debug!(%error, "the last messages may not have been sent");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
