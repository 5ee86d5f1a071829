//! When settled pipelines have to be glanced at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;

use crate::watch::Key;

/// The shortest and the longest pause: a time that is over is not asked for at once, and clocks are set.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Times, the first one first.
#[derive(Default)]
pub struct Wakes(BinaryHeap<Reverse<(Timestamp, Key)>>);

impl Wakes {
    /// Sets a time, a little later at least; gives it.
    pub fn set(&mut self, at: Timestamp, key: Key) -> Timestamp {
        let at = at.max(Timestamp::now() + PAUSE.0);
        self.0.push(Reverse((at, key)));
        at
    }

    /// Takes a time that has come.
    pub fn due(&mut self) -> Option<(Timestamp, Key)> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > Timestamp::now() {
            return None;
        }
        self.0.pop().map(|Reverse(due)| due)
    }

    /// How long until the next one.
    pub fn pause(&self) -> Duration {
        let next = self.0.peek().map(|Reverse((at, _))| *at);
        let left = next.map(|at| at.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        left.map_or(PAUSE.1, |left| left.clamp(PAUSE.0, PAUSE.1))
    }
}
