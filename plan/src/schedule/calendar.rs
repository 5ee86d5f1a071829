//! Times of day by cron, with the habits of vixie cron where clocks are put forward or back.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

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
    pub(super) fn next(&self, time: Timestamp) -> Option<Timestamp> {
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
