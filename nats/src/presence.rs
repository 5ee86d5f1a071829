//! Who works: workers tell of themselves by plain messages, and whoever wants to know keeps what it heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use loci_bus::{Result, Worker, wire};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{NatsBus, Shared};

/// How often a worker tells of itself.
const BEAT: Duration = Duration::from_secs(20);
/// One that was silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(65);
/// Who asks hears of all that are there within this time.
const ANSWER: Duration = Duration::from_secs(3);
/// All workers are asked to tell of themselves.
const ASK: &str = "ctl.v1.workers";

/// The workers that are there, by their ids; none as long as that is not known.
pub type Roster = Option<Arc<BTreeMap<String, Worker>>>;

impl NatsBus {
    /// Tells of a worker as it is, and of each change at once, until `stop`; and then that it leaves.
    ///
    /// # Errors
    /// When the connection was closed.
    pub async fn advertise(
        &self,
        mut worker: watch::Receiver<Worker>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let ledger = &self.shared.ledger;
        let asked = ledger.client.subscribe(ASK).await;
        let mut asked = asked.map_err(|e| ledger.unreachable("listen for who asks", &e))?;
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = beat.tick() => {}
                Some(_) = asked.next() => {}
                Ok(()) = worker.changed() => {}
            }
            let now = worker.borrow_and_update().clone();
            self.tell_of(&now).await?;
        }
        let leaving = Worker {
            leaving: true,
            ..worker.borrow().clone()
        };
        self.tell_of(&leaving).await
    }

    async fn tell_of(&self, worker: &Worker) -> Result<()> {
        let subject = format!("worker.v1.{}.{}", worker.class, worker.id);
        self.shared
            .ledger
            .tell(subject, wire::encode(worker)?)
            .await
    }

    /// The workers that are there, from now on.
    pub fn roster(&self) -> watch::Receiver<Roster> {
        let begin = || {
            let (told, roster) = watch::channel(None);
            let shared = Arc::downgrade(&self.shared);
            let closed = self.shared.closed.clone();
            tokio::spawn(closed.run_until_cancelled_owned(keep(shared, told)));
            roster
        };
        self.shared.roster.get_or_init(begin).clone()
    }
}

/// What was heard of a worker, and when last.
type Heard = BTreeMap<String, (Worker, Instant)>;

async fn keep(shared: Weak<Shared>, told: watch::Sender<Roster>) {
    loop {
        let begun = match shared.upgrade() {
            Some(shared) => begin(&shared).await,
            None => return,
        };
        match begun {
            Ok(beats) => return hear(&shared, beats, told).await,
            Err(error) => {
                tracing::warn!(%error, "which workers there are is not known; trying again");
                tokio::time::sleep(ANSWER).await;
            }
        }
    }
}

async fn begin(shared: &Shared) -> Result<Subscriber> {
    let ledger = &shared.ledger;
    let beats = ledger.client.subscribe("worker.v1.>").await;
    beats.map_err(|e| ledger.unreachable("listen for workers", &e))
}

/// Hears until the connection is closed.
async fn hear(shared: &Weak<Shared>, mut beats: Subscriber, told: watch::Sender<Roster>) {
    let mut heard = Heard::new();
    let mut look = tokio::time::interval(ANSWER);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut connections, mut asked) = (0, None::<Instant>);
    loop {
        tokio::select! {
            beat = beats.next() => {
                let Some(beat) = beat else { return };
                match wire::decode::<Worker>(&beat.payload) {
                    Ok(worker) if worker.leaving => _ = heard.remove(&worker.id),
                    Ok(worker) => _ = heard.insert(worker.id.clone(), (worker, Instant::now())),
                    Err(error) => tracing::debug!(%error, subject = %beat.subject, "a worker is passed over"),
                }
            }
            _ = look.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                let link = shared.link.borrow().connections;
                if link != connections {
                    // Nothing was heard while there was no connection.
                    connections = link;
                    heard.values_mut().for_each(|(_, when)| *when = Instant::now());
                    if shared.ledger.hint(ASK.to_owned()).await.is_ok() {
                        asked.get_or_insert_with(Instant::now);
                    }
                }
                if shared.ledger.connected() {
                    heard.retain(|_, (_, when)| when.elapsed() < SILENCE);
                }
            }
        }
        if asked.is_some_and(|asked| asked.elapsed() >= ANSWER) {
            let now: BTreeMap<_, _> = heard
                .iter()
                .map(|(id, (worker, _))| (id.clone(), worker.clone()))
                .collect();
            told.send_if_modified(|before| {
                let other = before.as_deref() != Some(&now);
                if other {
                    *before = Some(Arc::new(now));
                }
                other
            });
        }
    }
}
