//! Threads that compute one batch together.
//!
//! The caller never waits for a thread to begin: it takes parts of the work itself, one after another, and those
//! threads of the pool that are free take parts, too. So a query gains from an idle core, and does not stand behind
//! the jobs that another call has given to the pool.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// More threads than this gain little on the short steps of one batch.
pub(crate) const MOST: usize = 4;

/// Looks for work before a helper goes home; about a millisecond.
const PATIENCE: usize = 10_000;

/// Parts for each thread, so that one that is late delays the others by little.
const PARTS: usize = 6;

/// What is done: `(part, thread)`.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

pub(crate) struct Team {
    board: Option<Arc<Board>>,
    threads: usize,
    /// One step at a time, and none within another: what runs on several threads cannot hold the team.
    alone: PhantomData<Cell<()>>,
}

/// Where work is announced. `state` is the number of the step (32 bits), the parts taken and all parts (16 bits each).
struct Board {
    state: AtomicU64,
    done: AtomicUsize,
    work: UnsafeCell<Option<Job>>,
    over: AtomicBool,
    failed: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job(*const Work<'static>);

// SAFETY: the work is Sync; `work` is written by the caller while no part is taken, and read by those who took one.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Team {
    /// The calling thread.
    pub fn alone() -> Self {
        Self {
            board: None,
            threads: 1,
            alone: PhantomData,
        }
    }

    /// The calling thread, and threads of rayon's pool as soon as they are free.
    pub fn gather() -> Self {
        let threads = rayon::current_num_threads().min(MOST);
        if threads == 1 {
            return Self::alone();
        }
        let board = Arc::new(Board {
            state: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            over: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        for thread in 1..threads {
            let board = board.clone();
            rayon::spawn(move || board.help(thread));
        }
        Self {
            board: Some(board),
            threads,
            alone: PhantomData,
        }
    }

    /// How many threads may take part: the second argument of what they run is below.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on consecutive parts of `0..count`; returns when all are done.
    pub fn each(&self, count: usize, f: impl Fn(Range<usize>, usize) + Sync) {
        let Some(board) = &self.board else {
            return f(0..count, 0);
        };
        let parts = count.min(PARTS * self.threads);
        let run = |part: usize, thread: usize| {
            f(count * part / parts..count * (part + 1) / parts, thread);
        };
        if parts > 1 {
            board.run(parts, &run);
        } else {
            f(0..count, 0);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if let Some(board) = &self.board {
            board.over.store(true, Ordering::Release);
        }
    }
}

impl Board {
    fn run(&self, parts: usize, work: &Work<'_>) {
        assert!(parts < 1 << 16);
        let work: *const Work<'_> = work;
        // SAFETY: only the lifetime changes. Parts are taken only until `Step` is dropped, which waits for those taken.
        let job =
            Job(unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) });
        // SAFETY: all parts of the step before are done, and none of this one can be taken yet.
        unsafe { *self.work.get() = Some(job) };
        self.done.store(0, Ordering::Relaxed);
        let step = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.state
            .store(step << 32 | parts as u64, Ordering::Release);
        let running = Step(self);
        while self.take_part(0) {}
        drop(running);
        assert!(
            !self.failed.load(Ordering::Acquire),
            "a thread that computes has failed"
        );
    }

    /// Takes a part and does it, if there is one left.
    fn take_part(&self, thread: usize) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let (taken, parts) = (state >> 16 & 0xffff, state & 0xffff);
            if taken >= parts {
                return false;
            }
            let next = state + (1 << 16);
            match self
                .state
                .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let _done = Done(self);
                    // SAFETY: the caller has announced the work and waits for this part.
                    unsafe {
                        if let Some(job) = *self.work.get() {
                            (*job.0)(taken as usize, thread);
                        }
                    }
                    return true;
                }
                Err(other) => state = other,
            }
        }
    }

    /// A helper's life.
    fn help(&self, thread: usize) {
        let mut idle = 0;
        while idle < PATIENCE && !self.over.load(Ordering::Acquire) {
            match catch_unwind(AssertUnwindSafe(|| self.take_part(thread))) {
                Ok(true) => idle = 0,
                Ok(false) => idle += 1,
                // `Done` has told the caller.
                Err(_) => return,
            }
            if idle % 64 == 63 {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// A part that is being done.
struct Done<'a>(&'a Board);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Release);
        }
        self.0.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// A step under way; its end waits for all parts that were taken.
struct Step<'a>(&'a Board);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        // No parts any more, so none is left to take.
        let last = self.0.state.fetch_and(!0xffff, Ordering::AcqRel);
        let taken = (last >> 16 & 0xffff) as usize;
        let mut waited = 0u32;
        while self.0.done.load(Ordering::Acquire) < taken {
            waited = waited.wrapping_add(1);
            // Whoever has the part may need this core.
            if waited.is_multiple_of(256) {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_before_the_next_step() {
        for team in [Team::alone(), Team::gather()] {
            let (count, threads) = (1000, team.threads());
            let cells: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            for step in 0..2000 {
                let of = 1 + step % count;
                team.each(of, |range, thread| {
                    assert!(thread < threads);
                    for i in range {
                        // What the steps before have written is seen.
                        let before = cells[i].fetch_add(1, Ordering::Relaxed);
                        assert!(i + 1 == of || before > 0);
                    }
                });
            }
            let done: usize = cells.iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
            let asked: usize = (0..2000).map(|step| 1 + step % count).sum();
            assert_eq!(done, asked);
        }
    }

    #[test]
    fn nothing_to_do_is_done() {
        let team = Team::gather();
        let calls = AtomicUsize::new(0);
        for count in [0, 1] {
            team.each(count, |range, _| {
                assert_eq!(range, 0..count);
                calls.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_part_that_fails_fails_the_step() {
        let team = Team::gather();
        let run = || {
            team.each(100, |range, _| assert!(!range.contains(&57), "part 57"));
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    }
}
