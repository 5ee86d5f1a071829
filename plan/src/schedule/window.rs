//! Windows: times in which work may be done.

use std::time::Duration;

use jiff::Timestamp;

use super::{Calendar, Schedule};
use crate::clock::{after, before};

/// A time in which work may be done: from each time of a calendar on, for so long. What is long counts as it passes,
/// also where clocks are put forward or back.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    opens: Schedule,
    duration: Duration,
}

/// Whether work may be done now, and until when that is so. None when that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// It may.
    Open(Option<Timestamp>),
    /// It may not.
    Closed(Option<Timestamp>),
}

impl Window {
    /// Opens at the times of `calendar`.
    pub fn new(calendar: Calendar, duration: Duration) -> Self {
        Self {
            opens: Schedule::by(calendar, None),
            duration,
        }
    }

    /// When the window that is open at `now` closes.
    fn closes(&self, now: Timestamp) -> Option<Timestamp> {
        let opened = self.opens.due(before(now, self.duration), now)?;
        Some(after(opened, self.duration))
    }
}

impl Hours {
    /// Of several windows at `now`: work may be done while one of them is open, and always where there are none.
    pub fn at(windows: &[Window], now: Timestamp) -> Self {
        if windows.is_empty() {
            return Self::Open(None);
        }
        match windows.iter().filter_map(|w| w.closes(now)).max() {
            Some(until) => Self::Open(Some(until)),
            None => {
                let opens = windows.iter().filter_map(|w| w.opens.next(now));
                Self::Closed(opens.min())
            }
        }
    }
}
