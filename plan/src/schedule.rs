//! When sources are looked at: by interval, or by cron in a time zone, put off by a fixed jitter.
//!
//! Daylight saving follows vixie cron, as Kubernetes users know it. A job whose minute or hour begins
//! with `*` follows elapsed time: it skips a gap and goes on through a doubled hour. Any other job
//! names times of day: one that falls into a gap fires once just after it (several such fire as one),
//! and one in a doubled hour fires at the first of the two.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use loci_digest::Digest;

use crate::clock::{after, before};

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

/// Five cron fields in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// Whether it follows elapsed time rather than naming times of day.
    elapsed: bool,
}

/// Why a cron expression or a time zone cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalendarError {
    /// It does not parse.
    #[error(
        "\"{cron}\" is not a cron expression: {reason}; write five fields: minute, hour, day, month, weekday"
    )]
    Syntax {
        /// The expression.
        cron: String,
        /// What is wrong.
        reason: String,
    },
    /// It names no day that there is.
    #[error("\"{0}\" never comes: no date has this day, month and weekday")]
    Never(String),
    /// There is no such zone.
    #[error(
        "\"{0}\" is not a time zone: use an IANA name such as Europe/Berlin, or leave the field out for UTC"
    )]
    Zone(String),
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

    /// The first due time after a look at `last`.
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        let due = match &self.cadence {
            Cadence::Interval(interval) => Some(after(last, *interval)),
            Cadence::Calendar(calendar) => calendar.next(before(last, self.offset)),
        };
        due.map(|due| after(due, self.offset))
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

impl Calendar {
    /// The zone of an IANA name.
    ///
    /// # Errors
    /// When there is none.
    pub fn zone(name: &str) -> Result<TimeZone, CalendarError> {
        TimeZone::get(name).map_err(|_| CalendarError::Zone(name.to_owned()))
    }

    /// The times of a cron expression in `zone`.
    ///
    /// # Errors
    /// When it does not parse, or never comes.
    pub fn new(expression: &str, zone: TimeZone) -> Result<Self, CalendarError> {
        let syntax = |reason: String| CalendarError::Syntax {
            cron: expression.to_owned(),
            reason,
        };
        let fields: Vec<&str> = expression.split_whitespace().collect();
        if fields.len() != 5 || expression.contains('@') {
            return Err(syntax(format!("it has {} fields", fields.len())));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(expression)
            .map_err(|e| syntax(e.to_string()))?;
        cron.find_next_occurrence(&DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true)
            .map_err(|_| CalendarError::Never(expression.to_owned()))?;
        let elapsed = fields.iter().take(2).any(|f| f.starts_with('*'));
        Ok(Self {
            cron,
            zone,
            elapsed,
        })
    }

    /// The first time after `time`.
    fn next(&self, time: Timestamp) -> Option<Timestamp> {
        if self.elapsed {
            let start = time.to_zoned(self.zone.clone());
            return self
                .cron
                .find_next_occurrence(&start, false)
                .ok()
                .map(|z| z.timestamp());
        }
        let mut civil = self.zone.to_datetime(time);
        loop {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let instant = self.resolve(civil)?;
            if instant > time {
                return Some(instant);
            }
        }
    }

    /// The instant of a time of day: the first of two, or the end of the gap that it falls into.
    fn resolve(&self, civil: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { before, after } => {
                // With the offset of after the gap the clock time lies before the change, and with
                // that of before it lies at or after it.
                let early = after.to_timestamp(civil).ok()?;
                let late = before.to_timestamp(civil).ok()?;
                self.zone
                    .following(early)
                    .next()
                    .map(|t| t.timestamp())
                    .filter(|t| *t <= late)
            }
            _ => ambiguous.earlier().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn by(cron: &str, zone: &str) -> Schedule {
        Schedule::by(
            Calendar::new(cron, Calendar::zone(zone).unwrap()).unwrap(),
            None,
        )
    }

    /// All due times in (from, to], in local time.
    fn fires(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let (schedule, tz) = (by(cron, zone), Calendar::zone(zone).unwrap());
        let mut time = at(from);
        let mut all = Vec::new();
        while let Some(due) = schedule.next(time).filter(|d| *d <= at(to)) {
            assert_eq!(
                schedule.due(time, due),
                Some(due),
                "the same forwards and backwards"
            );
            all.push(
                due.to_zoned(tz.clone())
                    .strftime("%d %H:%M %:z")
                    .to_string(),
            );
            time = due;
        }
        all
    }

    #[test]
    fn a_time_in_a_gap_fires_once_just_after_it() {
        // Berlin, 29 March 2026: 02:00 +01 becomes 03:00 +02.
        let gap = |cron| {
            fires(
                cron,
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                "2026-03-29T22:00:00Z",
            )
        };
        assert_eq!(gap("30 2 * * *"), ["29 03:00 +02:00"]);
        assert_eq!(gap("0,20,40 2 * * *"), ["29 03:00 +02:00"]);
        assert_eq!(gap("0 3 * * *"), ["29 03:00 +02:00"]);
        assert_eq!(
            gap("30 1,2,3 * * *"),
            ["29 01:30 +01:00", "29 03:00 +02:00", "29 03:30 +02:00"]
        );
        // What follows elapsed time skips it.
        assert_eq!(
            gap("*/30 1-3 * * *"),
            [
                "29 01:00 +01:00",
                "29 01:30 +01:00",
                "29 03:00 +02:00",
                "29 03:30 +02:00"
            ]
        );
        // Lord Howe moves by half an hour: 02:00 +10:30 becomes 02:30 +11.
        let half = fires(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            "2026-10-04T12:00:00Z",
        );
        assert_eq!(half, ["04 02:30 +11:00"]);
    }

    #[test]
    fn a_time_in_a_doubled_hour_fires_once_and_elapsed_time_goes_on() {
        // New York, 1 November 2026: 02:00 -04 becomes 01:00 -05.
        let fold = |cron| {
            fires(
                cron,
                "America/New_York",
                "2026-11-01T04:30:00Z",
                "2026-11-01T07:30:00Z",
            )
        };
        assert_eq!(fold("30 1 * * *"), ["01 01:30 -04:00"]);
        assert_eq!(fold("0 1,2 * * *"), ["01 01:00 -04:00", "01 02:00 -05:00"]);
        let each = [
            "01 01:00 -04:00",
            "01 01:30 -04:00",
            "01 01:00 -05:00",
            "01 01:30 -05:00",
            "01 02:00 -05:00",
            "01 02:30 -05:00",
        ];
        assert_eq!(fold("*/30 * * * *"), each);
    }

    #[test]
    fn missed_looks_are_made_up_for_once_by_the_latest() {
        let daily = by("0 6 * * *", "UTC");
        assert_eq!(
            daily.due(at("2026-01-01T06:00:00Z"), at("2026-12-31T07:00:00Z")),
            Some(at("2026-12-31T06:00:00Z"))
        );
        assert_eq!(
            daily.due(at("2026-12-31T06:00:00Z"), at("2026-12-31T07:00:00Z")),
            None
        );
        let minutely = by("* * * * *", "UTC");
        assert_eq!(
            minutely.due(at("2000-01-01T00:00:00Z"), at("2026-12-31T07:00:30Z")),
            Some(at("2026-12-31T07:00:00Z"))
        );
        let strict = Schedule {
            deadline: Some(Duration::from_secs(1800)),
            ..daily
        };
        assert_eq!(
            strict.due(at("2026-01-01T00:00:00Z"), at("2026-01-05T06:30:00Z")),
            Some(at("2026-01-05T06:00:00Z"))
        );
        assert_eq!(
            strict.due(at("2026-01-01T00:00:00Z"), at("2026-01-05T06:30:01Z")),
            None
        );
    }

    #[test]
    fn jitter_is_a_fixed_share() {
        let jitter = Duration::from_secs(1800);
        let (a, b) = (
            by("0 6 * * *", "UTC").jittered(jitter, "a"),
            by("0 6 * * *", "UTC").jittered(jitter, "b"),
        );
        assert_eq!(a, by("0 6 * * *", "UTC").jittered(jitter, "a"));
        assert_ne!(a, b);
        let (six, due) = (
            at("2026-01-01T06:00:00Z"),
            a.next(at("2026-01-01T00:00:00Z")).unwrap(),
        );
        assert!(due >= six && due <= after(six, jitter), "{due}");
        // Between the clock time and the put-off one it is not due, nor is the one of the day before.
        assert_eq!(a.next(six), Some(due));
        assert_eq!(
            a.due(
                before(due, Duration::from_secs(86_400)),
                before(due, Duration::from_secs(1))
            ),
            None
        );
        let every = Schedule::every(Duration::from_secs(600));
        assert_eq!(every.next(six), Some(at("2026-01-01T06:10:00Z")));
        assert_eq!(every.due(six, at("2026-01-01T06:09:59Z")), None);
    }

    #[test]
    fn what_never_comes_is_refused() {
        let utc = || TimeZone::UTC;
        assert!(matches!(
            Calendar::new("0 0 30 2 *", utc()),
            Err(CalendarError::Never(_))
        ));
        assert!(Calendar::new("0 0 29 2 *", utc()).is_ok());
        for bad in [
            "",
            "@daily",
            "* * * *",
            "0 0 0 * * *",
            "61 * * * *",
            "a b c d e",
        ] {
            assert!(
                matches!(Calendar::new(bad, utc()), Err(CalendarError::Syntax { .. })),
                "{bad}"
            );
        }
        for bad in ["Europe/Atlantis", "Local", "", "CEST+2"] {
            assert!(Calendar::zone(bad).is_err(), "{bad}");
        }
    }
}
