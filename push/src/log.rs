//! A log as others use it: one at a time continues it, for all who wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use loci_digest::Digest;
use loci_store::Store;
use tokio::sync::{Mutex as Turn, oneshot, watch};

use crate::change::{Change, Written};
use crate::decide::{Backlog, Bounds, decide};
use crate::error::{PushError, Refused};
use crate::name;
use crate::state::State;
use crate::tail::Tail;

/// Changes of one commit, about: those of the first who waits are always in it.
const TOGETHER: usize = 4096;
/// How often another process may be faster.
const ATTEMPTS: usize = 100;

/// What becomes of each change, in the order of the request.
pub type Outcome = Result<Vec<Result<Written, Refused>>, Arc<PushError>>;

/// The documents of a push source. Cheap to clone.
#[derive(Clone)]
pub struct PushLog(Arc<Inner>);

struct Inner {
    store: Store,
    name: String,
    bounds: Bounds,
    waiting: Mutex<Vec<Waiting>>,
    tail: Turn<Tail>,
    commits: watch::Sender<u64>,
}

struct Waiting {
    changes: Vec<Change>,
    done: oneshot::Sender<Outcome>,
}

impl std::fmt::Debug for PushLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PushLog({})", self.0.name)
    }
}

impl PushLog {
    /// Opens the log of a source of `pipeline` (`namespace/name`); nothing is written before the first change.
    ///
    /// # Errors
    /// When what was written cannot be read: it is named.
    pub async fn open(
        store: Store,
        pipeline: &str,
        source: &str,
        bounds: Bounds,
    ) -> Result<Self, PushError> {
        let name = name::log(pipeline, source);
        let mut tail = Tail::new(store.clone(), name.clone());
        tail.refresh().await?;
        let commits = watch::channel(tail.state.commit).0;
        Ok(Self(Arc::new(Inner {
            store,
            name,
            bounds,
            waiting: Mutex::default(),
            tail: Turn::new(tail),
            commits,
        })))
    }

    /// How much it takes.
    pub fn bounds(&self) -> Bounds {
        self.0.bounds
    }

    /// Stores the content of a document that is about to be put.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_content(&self, content: Bytes) -> Result<Digest, PushError> {
        Ok(self.0.store.put(content).await?)
    }

    /// The content of a document.
    ///
    /// # Errors
    /// When it is not there, or damaged.
    pub async fn content(&self, digest: &Digest) -> Result<Bytes, PushError> {
        Ok(self.0.store.get(digest).await?)
    }

    /// What would become of changes, were they made now. Nothing is written.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn foresee(
        &self,
        changes: &[Change],
    ) -> Result<Vec<Result<Written, Refused>>, PushError> {
        let mut tail = self.0.tail.lock().await;
        tail.refresh().await?;
        Ok(decide(&tail.state, &tail.backlog, self.0.bounds, changes).answers)
    }

    /// Makes changes, in their order and all that are not refused at once. They are durable when this returns, also if
    /// the caller gives up waiting.
    ///
    /// # Errors
    /// When the store cannot be written: none is made, or, when the store does not tell, all are.
    pub async fn write(&self, changes: Vec<Change>) -> Outcome {
        let (done, outcome) = oneshot::channel();
        self.0.waiting().push(Waiting { changes, done });
        let inner = self.0.clone();
        // A task of its own: who waits together with others must not take them along when they give up.
        tokio::spawn(async move { inner.turn().await });
        outcome
            .await
            .unwrap_or_else(|_| Err(Arc::new(PushError::Interrupted)))
    }

    /// All documents, as of the last commit.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn read(&self) -> Result<Arc<State>, PushError> {
        let mut tail = self.0.tail.lock().await;
        tail.refresh().await?;
        Ok(tail.state.clone())
    }

    /// All documents, as this process knows them: no later than its own last change.
    pub async fn known(&self) -> Arc<State> {
        self.0.tail.lock().await.state.clone()
    }

    /// How many documents differ from what was last indexed.
    pub async fn pending(&self) -> usize {
        self.0.tail.lock().await.backlog.pending()
    }

    /// Says which documents are indexed, in which versions.
    pub async fn indexed(&self, versions: Arc<BTreeMap<String, Digest>>) {
        let mut tail = self.0.tail.lock().await;
        tail.backlog = Backlog::new(&tail.state, versions);
    }

    /// Tells of each commit of this process.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.0.commits.subscribe()
    }
}

impl Inner {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those who have waited longest. There are as many turns as have waited, so that nobody is left.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let mut changes = 0;
        let fits = |w: &&Waiting| {
            changes += w.changes.len();
            changes <= TOGETHER
        };
        let fitting = waiting.iter().take_while(fits).count();
        let count = fitting.max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    async fn turn(&self) {
        let mut tail = self.tail.lock().await;
        let together = self.take();
        if together.is_empty() {
            return;
        }
        match self.commit(&mut tail, &together).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for Waiting { changes, done } in together {
                    let own = answers.by_ref().take(changes.len()).collect();
                    // Who gave up waiting needs no answer.
                    let _ = done.send(Ok(own));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for Waiting { done, .. } in together {
                    let _ = done.send(Err(error.clone()));
                }
            }
        }
        tail.tidy().await;
    }

    async fn commit(
        &self,
        tail: &mut Tail,
        together: &[Waiting],
    ) -> Result<Vec<Result<Written, Refused>>, PushError> {
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let changes = together.iter().flat_map(|w| &w.changes);
            let decided = decide(&tail.state, &tail.backlog, self.bounds, changes);
            let nothing = decided.ops.is_empty();
            if nothing && fresh {
                return Ok(decided.answers);
            }
            // A commit proves that nobody else wrote; where there is none, that is looked at.
            if !nothing && tail.append(decided.ops).await? {
                self.commits.send_replace(tail.state.commit);
                return Ok(decided.answers);
            }
            tail.refresh().await?;
            fresh = true;
        }
        Err(PushError::Contended {
            name: self.name.clone(),
        })
    }
}
