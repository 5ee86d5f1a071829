//! When sources are looked at and adapters are trained: by interval, or by cron in a time zone, put off by a fixed jitter.
//!
//! Daylight saving follows vixie cron, as Kubernetes users know it. A job whose minute or hour begins
//! with `*` follows elapsed time: it skips a gap and goes on through a doubled hour. Any other job
//! names times of day: one that falls into a gap fires once just after it (several such fire as one),
//! and one in a doubled hour fires at the first of the two.

mod calendar;
mod window;

use std::time::Duration;

use jiff::Timestamp;
use loci_digest::Digest;

pub use calendar::{Calendar, CalendarError};
pub use window::{Hours, Window};

use crate::clock::{after, before};

/// 2026-01-01T00:00:00Z: from when on a calendar's gaps are counted. A fixed time, so that the same
/// spec means the same at all times.
const PERIOD_FROM: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// When sources are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    cadence: Cadence,
    /// How late a look may start; any time when absent.
    deadline: Option<Duration>,
    /// The pipeline's own share of the jitter.
    offset: Duration,
}

#[derive(Clone, Debug, PartialEq)]
enum Cadence {
    Interval(Duration),
    Calendar(Box<Calendar>),
}

impl Schedule {
    /// One look each `interval`, counted from the last one.
    pub fn every(interval: Duration) -> Self {
        Self {
            cadence: Cadence::Interval(interval),
            deadline: None,
            offset: Duration::ZERO,
        }
    }

    /// Looks at the times of `calendar`. One that is later than `deadline` is skipped.
    pub fn by(calendar: Calendar, deadline: Option<Duration>) -> Self {
        Self {
            cadence: Cadence::Calendar(Box::new(calendar)),
            deadline,
            offset: Duration::ZERO,
        }
    }

    /// Puts each look off by a share of `jitter` that depends on `identity` alone.
    #[must_use]
    pub fn jittered(mut self, jitter: Duration, identity: &str) -> Self {
        let digest = Digest::of(identity);
        let head = digest
            .as_bytes()
            .iter()
            .take(4)
            .fold(0_u32, |n, b| n << 8 | u32::from(*b));
        self.offset = Duration::from_secs(
            jitter
                .mul_f64(f64::from(head) / f64::from(u32::MAX))
                .as_secs(),
        );
        self
    }

    /// The interval, unless a calendar sets the pace.
    pub fn interval(&self) -> Option<Duration> {
        match &self.cadence {
            Cadence::Interval(interval) => Some(*interval),
            Cadence::Calendar(_) => None,
        }
    }

    /// The longest time from one look to the next: of a calendar, among its next 64.
    pub fn period(&self) -> Duration {
        let Cadence::Calendar(calendar) = &self.cadence else {
            return self.interval().unwrap_or_default();
        };
        let first = calendar.next(PERIOD_FROM);
        let times: Vec<_> = std::iter::successors(first, |t| calendar.next(*t))
            .take(64)
            .collect();
        let gap = |pair: &[Timestamp]| match pair {
            [a, b] => b.duration_since(*a).unsigned_abs(),
            _ => Duration::ZERO,
        };
        times.windows(2).map(gap).max().unwrap_or_default()
    }

    /// The first due time after a look at `last`.
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        let due = match &self.cadence {
            Cadence::Interval(interval) => Some(after(last, *interval)),
            Cadence::Calendar(calendar) => calendar.next(before(last, self.offset)),
        };
        due.map(|due| after(due, self.offset))
    }

    /// The first due time that is still to come at `now`, after a look at `last`. What was missed and
    /// is past its deadline does not count.
    pub fn upcoming(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let next = self.next(last).filter(|due| *due > now);
        next.or_else(|| self.next(now))
    }

    /// The due time that a look at `now` stands for, when the last look was at `last`: the latest one
    /// that was missed. None when none was, or when it is past its deadline.
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let due = match &self.cadence {
            Cadence::Interval(_) => self.next(last).filter(|due| *due <= now),
            Cadence::Calendar(_) => self.latest(last, now),
        }?;
        let late = |deadline| after(due, deadline) < now;
        (!self.deadline.is_some_and(late)).then_some(due)
    }

    /// The latest due time in (`last`, `now`], found in windows that double, so that a year of
    /// missed minutes costs as little as one.
    fn latest(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut window = Duration::from_secs(120);
        loop {
            let start = before(now, window).max(last);
            let mut latest = None;
            let mut at = start;
            while let Some(due) = self.next(at).filter(|due| *due <= now) {
                latest = Some(due);
                at = due;
            }
            if latest.is_some() || start <= last {
                return latest;
            }
            window = window.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests;
