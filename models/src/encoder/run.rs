//! A network on all threads: many batches, each by one of them, or a few, each by as many as are idle.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::batch::Batch;
use super::bert::{Bert, Work};
use crate::ModelError;
use crate::kernels::encoder::{MOST, Team};

/// Multiplications up to which one thread is done before another has begun.
const LITTLE: usize = 4_000_000;

/// How long a thread of the pool that waits for a batch does not look for other work.
const PATIENCE: Duration = Duration::from_millis(1);

/// A network and the memory that it computes in.
pub(super) struct Network {
    bert: Bert,
    /// What no call computes in now. As many as there were calls and threads at once.
    work: Mutex<Vec<Work>>,
}

/// What is computed of a batch.
pub(super) type Compute<'a> = dyn Fn(&Bert, &Batch, &Team, &mut Work) -> Vec<f32> + Sync + 'a;

/// What is done with it: called on the thread of the caller, one batch after another, in any order.
pub(super) type Finish<'a> =
    dyn FnMut(&Batch, Vec<f32>) -> Result<ControlFlow<()>, ModelError> + 'a;

impl Network {
    pub fn new(bert: Bert) -> Self {
        let work = Mutex::default();
        Self { bert, work }
    }

    /// Computes batches. `finish` stops the work by `Break`.
    pub fn run(
        &self,
        batches: &[Batch],
        compute: &Compute<'_>,
        finish: &mut Finish<'_>,
    ) -> Result<(), ModelError> {
        let mut finish = |batch: &Batch, computed| match finish(batch, computed)? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ModelError::Cancelled),
        };
        let threads = rayon::current_num_threads();
        if batches.len() < 2 * threads.min(MOST) {
            let tokens = batches.iter().map(|batch| batch.ids.len()).sum();
            let little = self.bert.products(tokens) < LITTLE;
            let team = if little {
                Team::alone()
            } else {
                Team::gather()
            };
            return batches
                .iter()
                .try_for_each(|batch| finish(batch, self.compute(batch, &team, compute)?));
        }
        let (sender, receiver) = mpsc::channel();
        rayon::in_place_scope_fifo(|scope| {
            let mut waiting = batches.iter();
            // A few at a time: calls at the same time take turns, and a caller that pauses in `finish` pauses the work.
            let mut start = |count| {
                for batch in waiting.by_ref().take(count) {
                    let sender = sender.clone();
                    scope.spawn_fifo(move |_| {
                        let compute = || self.compute(batch, &Team::alone(), compute);
                        let computed = catch_unwind(AssertUnwindSafe(compute));
                        // Nobody listens when the call has ended.
                        let _ = sender.send((batch, computed));
                    });
                }
            };
            start(threads + threads.div_ceil(2));
            for _ in batches {
                let (batch, computed) = next(&receiver);
                let computed = computed.unwrap_or_else(|panic| resume_unwind(panic))?;
                finish(batch, computed)?;
                start(1);
            }
            Ok(())
        })
    }

    /// What is computed of a batch, all of it finite.
    fn compute(
        &self,
        batch: &Batch,
        team: &Team,
        compute: &Compute<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        let unused = || self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = unused().pop();
        let mut work = kept.unwrap_or_else(|| self.bert.work());
        let computed = compute(&self.bert, batch, team, &mut work);
        unused().push(work);
        if !computed.iter().all(|v| v.is_finite()) {
            return Err(ModelError::Compute(
                "the weights yield vectors that are not finite".to_owned(),
            ));
        }
        Ok(computed)
    }
}

/// The next batch that is done. A thread of the pool works on its own batches meanwhile: it may be the only one. Not on
/// what others gave to the pool: that may be a whole query, for which this call would wait.
fn next<T>(receiver: &Receiver<T>) -> T {
    loop {
        if let Ok(done) = receiver.try_recv() {
            return done;
        }
        let worked = rayon::yield_local() == Some(rayon::Yield::Executed);
        if !worked && let Ok(done) = receiver.recv_timeout(PATIENCE) {
            return done;
        }
    }
}
