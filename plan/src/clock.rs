//! Arithmetic on instants that cannot fail: it ends at the last instant there is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `time` plus `duration`.
pub(crate) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `time` minus `duration`.
pub(crate) fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// `time` as resources keep it: in whole seconds, never later than it was.
pub(crate) fn stamp(time: Timestamp) -> Time {
    Time(
        Timestamp::from_second(time.as_nanosecond().div_euclid(1_000_000_000) as i64)
            .unwrap_or(time),
    )
}

/// `time` as resources keep it that need more: in whole microseconds, never later than it was.
pub(crate) fn micro(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_nanosecond().div_euclid(1_000) as i64).unwrap_or(time)
}

/// The earlier of two instants, if any.
pub(crate) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
