//! Answers, token by token: a thread for each decoder, which continues several chats together and yields to queries.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use loci_models::{Adapter, Added, Batch, Decoder, Generation, Token};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::RecallError;
use crate::lanes::BulkGate;

/// Writes the answers of one decoder. Its thread ends when it is dropped and the last answer is written.
pub(crate) struct Generator {
    decoder: Arc<Decoder>,
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
}

/// An answer to be written.
pub(crate) struct Task {
    pub(crate) prompt: Vec<u32>,
    pub(crate) options: Generation,
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// Dropped when the answer is written or given up.
    pub(crate) held: Box<dyn Any + Send>,
}

/// Why an answer is not written to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GenerateError {
    /// Its deadline has passed.
    Overdue,
    /// The computation failed, for this reason.
    Failed(String),
}

/// What whoever asked is told.
pub(crate) type Written = Result<Token, GenerateError>;

struct Job {
    task: Task,
    written: UnboundedSender<Written>,
    place: OwnedSemaphorePermit,
}

impl Generator {
    /// Starts the thread. It continues up to `seats` chats together while `queue` more wait.
    ///
    /// # Errors
    /// [`RecallError::Threads`] when the system has no thread to give.
    pub(crate) fn start(
        decoder: Arc<Decoder>,
        gate: BulkGate,
        seats: usize,
        queue: usize,
    ) -> Result<Self, RecallError> {
        let seats = seats.clamp(1, Batch::MAX_SEATS);
        let (jobs, received) = mpsc::channel();
        let own = decoder.clone();
        std::thread::Builder::new()
            .name("recall-chat".to_owned())
            .spawn(move || Desk::new(own, gate, seats).run(&received))
            .map_err(|e| RecallError::Threads {
                threads: 1,
                reason: e.to_string(),
            })?;
        let places = seats.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            decoder,
            jobs,
            places: Arc::new(Semaphore::new(places)),
        })
    }

    pub(crate) fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// A place for one answer, until it is written; none when too many are written or wait.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Has an answer written. Dropping the receiver gives it up, and frees its place.
    pub(crate) fn begin(
        &self,
        place: OwnedSemaphorePermit,
        task: Task,
    ) -> UnboundedReceiver<Written> {
        let (written, receiver) = unbounded_channel();
        let job = Job {
            task,
            written,
            place,
        };
        // Without a thread the job is dropped here, and the receiver is told that nothing comes.
        let _ = self.jobs.send(job);
        receiver
    }
}

impl Job {
    /// Whether somebody still waits for it, and may.
    fn is_wanted(&self, now: Instant) -> bool {
        if now >= self.task.deadline {
            self.tell(Err(GenerateError::Overdue));
            return false;
        }
        !self.written.is_closed()
    }

    fn tell(&self, written: Written) {
        // When nobody listens any more, the next look at it finds that out.
        let _ = self.written.send(written);
    }

    /// Says the last of it, when all that it held is given back: who hears that may go on from there.
    fn end(self, last: Written) {
        drop((self.task.held, self.place));
        let _ = self.written.send(last);
    }
}

/// What the thread has before it.
struct Desk {
    decoder: Arc<Decoder>,
    gate: BulkGate,
    batch: Batch,
    /// By their seats in the batch.
    seated: Vec<Option<Job>>,
    waiting: VecDeque<Job>,
}

impl Desk {
    fn new(decoder: Arc<Decoder>, gate: BulkGate, seats: usize) -> Self {
        Self {
            batch: Batch::new(decoder.clone(), seats),
            decoder,
            gate,
            seated: (0..seats).map(|_| None).collect(),
            waiting: VecDeque::new(),
        }
    }

    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        while self.receive(jobs) {
            self.let_go();
            self.seat();
            self.gate.yield_to_queries();
            self.step();
        }
    }

    /// Takes in what has come, and waits for it when there is nothing to do; false when nothing can come any more.
    fn receive(&mut self, jobs: &mpsc::Receiver<Job>) -> bool {
        if self.batch.is_empty() && self.waiting.is_empty() {
            match jobs.recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(mpsc::RecvError) => return false,
            }
        }
        self.waiting.extend(jobs.try_iter());
        true
    }

    /// Lets go of what nobody waits for.
    fn let_go(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|job| job.is_wanted(now));
        for (seat, seated) in self.seated.iter_mut().enumerate() {
            if seated.take_if(|job| !job.is_wanted(now)).is_some() {
                self.batch.leave(seat);
            }
        }
    }

    /// Gives free seats to those who have waited longest.
    fn seat(&mut self) {
        while self.seated.iter().any(Option::is_none)
            && let Some(mut job) = self.waiting.pop_front()
        {
            let prompt = std::mem::take(&mut job.task.prompt);
            let adapter = job.task.adapter.clone();
            match self.batch.join(prompt, &job.task.options, adapter) {
                Ok(seat) => self.seated[seat] = Some(job),
                Err(e) => job.end(failed(e)),
            }
        }
    }

    fn step(&mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.batch.step())) {
            Ok(Ok(added)) => added.into_iter().for_each(|added| self.deliver(added)),
            Ok(Err(e)) => self.fail_all(&e.to_string()),
            Err(_) => self.fail_all("the computation panicked"),
        }
    }

    fn deliver(&mut self, Added { seat, token }: Added) {
        let written = token.or_else(failed);
        if matches!(&written, Ok(token) if token.finish.is_none()) {
            if let Some(job) = &self.seated[seat] {
                job.tell(written);
            }
        } else if let Some(job) = self.seated[seat].take() {
            job.end(written);
        }
    }

    /// Nothing can be said of what the batch holds: begins with a new one.
    fn fail_all(&mut self, reason: &str) {
        for job in self.seated.iter_mut().filter_map(Option::take) {
            job.end(failed(reason));
        }
        self.batch = Batch::new(self.decoder.clone(), self.seated.len());
    }
}

fn failed(reason: impl ToString) -> Written {
    Err(GenerateError::Failed(reason.to_string()))
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
