//! Amounts of money, and months.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use loci_crds::values::{Money, ValueError};
use serde::Serialize;

/// An amount of money in millionths, of whatever currency. Sums end at the largest that [`Money`] can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Amount(u64);

impl Amount {
    /// The smallest that is something.
    pub const LEAST: Self = Self(1);

    /// The amount that a resource says.
    ///
    /// # Errors
    /// When that is none.
    pub fn of(money: &Money) -> Result<Self, ValueError> {
        money.to_micros().map(Self)
    }

    /// The number, for what is reckoned.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// As resources say it.
    pub fn money(self) -> Money {
        Money::from_micros(self.0)
    }

    /// What seconds cost, at this price of an hour, to the nearest millionth.
    pub fn of_seconds(self, seconds: u64) -> Self {
        let micros = (u128::from(self.0) * u128::from(seconds) + 1800) / 3600;
        Self(u64::try_from(micros).map_or(Money::MOST, |m| m.min(Money::MOST)))
    }

    /// The whole seconds that this pays for, at a price of an hour. None when they cost nothing.
    pub fn seconds_at(self, price: Self) -> Option<u64> {
        let seconds = (u128::from(self.0) * 3600).checked_div(u128::from(price.0))?;
        Some(u64::try_from(seconds).unwrap_or(u64::MAX))
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(Money::MOST))
    }

    /// What is left; nothing when there is less.
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// `12.50`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.money(), f)
    }
}

/// The month of a time, in UTC: `2026-11`.
pub(crate) fn month(now: Timestamp) -> String {
    let utc = now.to_zoned(TimeZone::UTC);
    utc.strftime("%Y-%m").to_string()
}

/// When the month after that of a time begins, in UTC.
pub(crate) fn next_month(now: Timestamp) -> Timestamp {
    let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let next = first.checked_add(1.month()).ok();
    let next = next.and_then(|date| date.at(0, 0, 0, 0).to_zoned(TimeZone::UTC).ok());
    next.map_or(Timestamp::MAX, |next| next.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::of(&Money(text.to_owned())).unwrap()
    }

    #[test]
    fn seconds_cost_their_share_of_an_hour_and_come_back() {
        let price = amount("2.50");
        assert_eq!(price.of_seconds(3600), price);
        assert_eq!(price.of_seconds(60).to_string(), "0.041667");
        assert_eq!(amount("50").seconds_at(price), Some(72_000));
        assert_eq!(amount("50").seconds_at(amount("0")), None);
        // A limit is never passed by the seconds that it allows.
        for limit in ["0.01", "0.333333", "7", "19.99"].map(amount) {
            for price in ["0.04", "2.50", "31"].map(amount) {
                let seconds = limit.seconds_at(price).unwrap();
                let cost = price.of_seconds(seconds);
                assert!(cost <= limit, "{limit} at {price}: {seconds} s are {cost}");
                assert!(price.of_seconds(seconds + 1) >= limit);
            }
        }
    }

    #[test]
    fn sums_stay_within_what_can_be_said() {
        let most = Amount(Money::MOST);
        assert_eq!(most.plus(most), most);
        assert_eq!(most.of_seconds(u64::MAX), most);
        assert_eq!(amount("1").less(amount("2")), Amount::default());
    }

    #[test]
    fn months_are_those_of_utc() {
        for (now, of, next) in [
            ("2026-01-31T23:59:59Z", "2026-01", "2026-02-01T00:00:00Z"),
            ("2026-02-01T00:00:00Z", "2026-02", "2026-03-01T00:00:00Z"),
            ("2026-12-31T23:00:00Z", "2026-12", "2027-01-01T00:00:00Z"),
            ("2028-02-29T12:00:00Z", "2028-02", "2028-03-01T00:00:00Z"),
        ] {
            let now: Timestamp = now.parse().unwrap();
            assert_eq!(
                (month(now).as_str(), next_month(now).to_string()),
                (of, next.to_owned())
            );
        }
    }
}
