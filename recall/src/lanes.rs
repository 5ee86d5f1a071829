//! Where requests are computed: queries on threads of their own, a bounded number at once and
//! a bounded number waiting; bulk work one piece at a time, and it yields to queries.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::RecallError;
use crate::urgency::answers_queries;

/// How long one call of [`BulkGate::yield_to_queries`] holds bulk work back at most.
const LONGEST_YIELD: Duration = Duration::from_millis(100);
/// Bulk requests that may wait for the one that is computed.
const BULK_QUEUE: usize = 16;

/// Holds bulk work back while queries are in flight. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct BulkGate(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    queries: Mutex<usize>,
    idle: Condvar,
}

impl BulkGate {
    /// Returns at once when no query is in flight; otherwise blocks the calling thread until
    /// there is none, or for 100 ms: under constant load bulk work gets slower, but it goes on.
    ///
    /// To be called between batches, from a thread that may block.
    pub fn yield_to_queries(&self) {
        let queries = self
            .0
            .queries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(
            self.0
                .idle
                .wait_timeout_while(queries, LONGEST_YIELD, |queries| *queries > 0),
        );
    }

    /// Counts a query in; `None` when there are `limit` already.
    fn enter(&self, limit: usize) -> Option<Ticket> {
        let mut queries = self
            .0
            .queries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *queries >= limit {
            return None;
        }
        *queries += 1;
        Some(Ticket(self.0.clone()))
    }
}

/// A query in flight.
struct Ticket(Arc<Gate>);

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queries = self
            .0
            .queries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *queries -= 1;
        if *queries == 0 {
            self.0.idle.notify_all();
        }
    }
}

/// Why a piece of work has no result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LaneError {
    /// Too much is waiting already.
    Busy,
    /// The work panicked.
    Panicked,
}

/// The lanes of one server.
pub(crate) struct Lanes {
    threads: ThreadPool,
    slots: Arc<Semaphore>,
    limit: usize,
    gate: BulkGate,
    bulk: Arc<Semaphore>,
    bulk_queue: Arc<Semaphore>,
}

impl Lanes {
    /// Lanes that compute `concurrency` queries at once (1 at least) while `queue` more wait.
    pub(crate) fn new(concurrency: usize, queue: usize) -> Result<Self, RecallError> {
        let threads = concurrency.max(1);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("recall-{i}"))
            .start_handler(|_| answers_queries())
            .build()
            .map_err(|e| RecallError::Threads {
                threads,
                reason: e.to_string(),
            })?;
        Ok(Self {
            threads: pool,
            slots: Arc::new(Semaphore::new(threads)),
            limit: threads.saturating_add(queue),
            gate: BulkGate::default(),
            bulk: Arc::new(Semaphore::new(1)),
            bulk_queue: Arc::new(Semaphore::new(1 + BULK_QUEUE)),
        })
    }

    pub(crate) fn gate(&self) -> &BulkGate {
        &self.gate
    }

    /// Computes a query; `work` is told how long it waited. A query whose future is dropped
    /// while it waits is never computed.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(Duration) -> T + Send + 'static,
    ) -> Result<T, LaneError> {
        let arrived = Instant::now();
        let ticket = self.gate.enter(self.limit).ok_or(LaneError::Busy)?;
        let slot = slot(&self.slots).await?;
        let (send, result) = oneshot::channel();
        self.threads.spawn(move || {
            // Held until the work ends, even when nobody waits for it any more.
            let held = (ticket, slot);
            if send.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| work(arrived.elapsed())));
            drop(held);
            let _ = send.send(result);
        });
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(LaneError::Panicked),
        }
    }

    /// Computes bulk work: one piece at a time, off the query threads. `work` calls its argument
    /// between batches: it yields to queries and breaks when nobody waits for the result any more.
    pub(crate) async fn bulk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn FnMut() -> ControlFlow<()>) -> T + Send + 'static,
    ) -> Result<T, LaneError> {
        let place = self
            .bulk_queue
            .clone()
            .try_acquire_owned()
            .map_err(|_| LaneError::Busy)?;
        let slot = slot(&self.bulk).await?;
        let gate = self.gate.clone();
        let abandoned = CancellationToken::new();
        let _abandon = abandoned.clone().drop_guard();
        let work = tokio::task::spawn_blocking(move || {
            let _held = (place, slot);
            gate.yield_to_queries();
            work(&mut || {
                gate.yield_to_queries();
                if abandoned.is_cancelled() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        work.await.map_err(|_| LaneError::Panicked)
    }
}

async fn slot(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, LaneError> {
    // Nobody closes the semaphores.
    slots
        .clone()
        .acquire_owned()
        .await
        .map_err(|_| LaneError::Busy)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Starts a query that computes until the returned sender is dropped.
    async fn occupy(
        lanes: &Arc<Lanes>,
    ) -> (
        mpsc::Sender<()>,
        tokio::task::JoinHandle<Result<(), LaneError>>,
    ) {
        let (release, held) = mpsc::channel();
        let (started, running) = oneshot::channel();
        let lanes = lanes.clone();
        let task = tokio::spawn(async move {
            lanes
                .query(move |_| {
                    let _ = started.send(());
                    let _ = held.recv();
                })
                .await
        });
        running.await.unwrap();
        (release, task)
    }

    #[tokio::test]
    async fn beyond_the_queue_queries_are_refused_and_the_waiting_are_served() {
        let lanes = Arc::new(Lanes::new(1, 1).unwrap());
        let (release, first) = occupy(&lanes).await;
        let mut second = Box::pin(lanes.query(|waited| waited));
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(lanes.query(|_| ()).await, Err(LaneError::Busy));
        drop(release);
        assert_eq!(first.await.unwrap(), Ok(()));
        assert!(second.await.unwrap() > Duration::ZERO);
        assert_eq!(lanes.query(|_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn an_abandoned_query_is_not_computed_and_frees_its_place() {
        let lanes = Arc::new(Lanes::new(1, 1).unwrap());
        let (release, first) = occupy(&lanes).await;
        let computed = Arc::new(AtomicBool::new(false));
        let flag = computed.clone();
        let mut second = Box::pin(lanes.query(move |_| flag.store(true, Ordering::SeqCst)));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        drop(release);
        first.await.unwrap().unwrap();
        assert_eq!(lanes.query(|_| 7).await, Ok(7));
        assert!(!computed.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer_only() {
        let lanes = Lanes::new(1, 0).unwrap();
        let query: Result<(), _> = lanes.query(|_| panic!("a test's panic")).await;
        assert_eq!(query, Err(LaneError::Panicked));
        let bulk: Result<(), _> = lanes.bulk(|_| panic!("a test's panic")).await;
        assert_eq!(bulk, Err(LaneError::Panicked));
        assert_eq!(lanes.query(|_| 7).await, Ok(7));
        assert_eq!(lanes.bulk(|_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn bulk_work_waits_for_queries_but_not_for_ever() {
        let lanes = Arc::new(Lanes::new(1, 0).unwrap());
        let (release, query) = occupy(&lanes).await;
        let passed = Arc::new(AtomicUsize::new(0));
        let (gate, count) = (lanes.gate().clone(), passed.clone());
        let bulk = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            gate.yield_to_queries();
            count.fetch_add(1, Ordering::SeqCst);
            start.elapsed()
        });
        assert_eq!(passed.load(Ordering::SeqCst), 0);
        assert!(
            bulk.await.unwrap() >= LONGEST_YIELD,
            "the query is in flight all the time"
        );
        drop(release);
        query.await.unwrap().unwrap();
        assert_eq!(
            *lanes.gate().0.queries.lock().unwrap(),
            0,
            "an idle gate is open"
        );
    }

    #[tokio::test]
    async fn abandoned_bulk_work_is_told_to_stop() {
        let lanes = Lanes::new(1, 0).unwrap();
        let (told, stopped) = mpsc::channel();
        let (started, running) = oneshot::channel();
        let mut bulk = Box::pin(lanes.bulk(move |proceed| {
            let _ = started.send(());
            while proceed().is_continue() {}
            let _ = told.send(());
        }));
        tokio::select! {
            _ = &mut bulk => panic!("it ends only when told to"),
            started = running => started.unwrap(),
        }
        drop(bulk);
        tokio::task::spawn_blocking(move || stopped.recv_timeout(Duration::from_secs(10)))
            .await
            .unwrap()
            .unwrap();
    }
}
