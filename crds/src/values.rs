//! Values that YAML carries as strings: durations, decimals, percentages. The API has no floats.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A value that is not written as its type asks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{text}\" is not {expected}")]
pub struct ValueError {
    text: String,
    expected: &'static str,
}

macro_rules! string_value {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "maxLength": 32, "pattern": $pattern, "example": $example})
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_value!(
    /// A Go duration, not negative: `90s`, `10m`, `1h30m`, `168h`.
    GoDuration,
    r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
    "10m"
);
string_value!(
    /// A decimal from 0 to 1: `0.80`.
    Fraction,
    r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$",
    "0.80"
);
string_value!(
    /// A whole percentage: `20%`.
    Percent,
    r"^(100|[0-9]{1,2})%$",
    "20%"
);

string_value!(
    /// A decimal, not negative: `0.01`, `2e-4`.
    Decimal,
    r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$",
    "2e-4"
);

string_value!(
    /// An amount of money, not negative: `50`, `0.35`. Its currency is said beside it.
    Money,
    r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
    "50"
);

impl GoDuration {
    /// The duration that the text means.
    ///
    /// # Errors
    /// When the text is not a Go duration or is negative.
    pub fn to_std(&self) -> Result<Duration, ValueError> {
        let parsed: Result<kube::core::Duration, _> = self.0.parse();
        match parsed {
            Ok(d) if !d.is_negative() => Ok(d.into()),
            _ => Err(self.error("a duration: write it as 90s, 10m or 1h30m")),
        }
    }

    fn error(&self, expected: &'static str) -> ValueError {
        ValueError {
            text: self.0.clone(),
            expected,
        }
    }
}

impl Fraction {
    /// The number that the text means.
    ///
    /// # Errors
    /// When it is not a decimal from 0 to 1.
    pub fn to_f64(&self) -> Result<f64, ValueError> {
        match self.0.parse::<f64>() {
            Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
            _ => Err(ValueError {
                text: self.0.clone(),
                expected: "a decimal from 0 to 1: write it as \"0.80\"",
            }),
        }
    }
}

impl Decimal {
    /// The number that the text means.
    ///
    /// # Errors
    /// When it is not a decimal, or too large for one.
    pub fn to_f64(&self) -> Result<f64, ValueError> {
        match self.0.parse::<f64>() {
            Ok(v) if v.is_finite() && v >= 0.0 => Ok(v),
            _ => Err(ValueError {
                text: self.0.clone(),
                expected: "a decimal: write it as \"0.01\" or \"2e-4\"",
            }),
        }
    }
}

impl Money {
    /// The largest amount, in millionths.
    pub const MOST: u64 = 999_999_999_999_999_999;

    /// The amount in millionths.
    ///
    /// # Errors
    /// When the text is no amount, or has more than twelve digits before the point or six after it.
    pub fn to_micros(&self) -> Result<u64, ValueError> {
        let (whole, part) = self.0.split_once('.').unwrap_or((&self.0, "0"));
        let digits = |text: &str, most: usize| {
            let fits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| text.parse::<u64>().ok()).flatten()
        };
        let micros = digits(whole, 12).zip(digits(&format!("{part:0<6}"), 6));
        micros
            .filter(|_| !part.is_empty())
            .map(|(whole, part)| whole * 1_000_000 + part)
            .ok_or_else(|| ValueError {
                text: self.0.clone(),
                expected: "an amount: write it as \"50\" or \"0.35\"",
            })
    }

    /// An amount in millionths, with two digits after the point at least. More than [`Money::MOST`] is that.
    pub fn from_micros(micros: u64) -> Self {
        let micros = micros.min(Self::MOST);
        let part = format!("{:06}", micros % 1_000_000);
        let kept = part.trim_end_matches('0').len().max(2);
        Self(format!(
            "{}.{}",
            micros / 1_000_000,
            part.get(..kept).unwrap_or(&part)
        ))
    }
}

impl Percent {
    /// The share that the text means, from 0 to 1.
    ///
    /// # Errors
    /// When it is not a whole percentage from 0% to 100%.
    pub fn to_share(&self) -> Result<f64, ValueError> {
        let number = self.0.strip_suffix('%').and_then(|n| n.parse::<u32>().ok());
        match number {
            Some(n) if n <= 100 => Ok(f64::from(n) / 100.0),
            _ => Err(ValueError {
                text: self.0.clone(),
                expected: "a whole percentage: write it as 20%",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_they_say() {
        assert_eq!(
            GoDuration("1h30m".into()).to_std(),
            Ok(Duration::from_secs(5400))
        );
        assert_eq!(
            GoDuration("250ms".into()).to_std(),
            Ok(Duration::from_millis(250))
        );
        assert_eq!(Fraction("0.80".into()).to_f64(), Ok(0.8));
        assert_eq!(Percent("20%".into()).to_share(), Ok(0.2));
        assert_eq!(Decimal("2e-4".into()).to_f64(), Ok(2e-4));
    }

    #[test]
    fn amounts_are_whole_millionths_and_come_back() {
        for (text, micros, written) in [
            ("50", 50_000_000, "50.00"),
            ("0.35", 350_000, "0.35"),
            ("0.000001", 1, "0.000001"),
            ("007.1", 7_100_000, "7.10"),
            ("999999999999.999999", Money::MOST, "999999999999.999999"),
        ] {
            assert_eq!(Money(text.into()).to_micros(), Ok(micros), "{text}");
            assert_eq!(Money::from_micros(micros), Money(written.into()));
        }
        assert_eq!(Money::from_micros(u64::MAX).to_micros(), Ok(Money::MOST));
        for bad in [
            "",
            ".5",
            "5.",
            "-1",
            "1e3",
            "1.0000001",
            "1234567890123",
            "5 USD",
        ] {
            assert!(Money(bad.into()).to_micros().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_with_the_way_out() {
        let error = GoDuration("10 minutes".into())
            .to_std()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("10 minutes") && error.contains("10m"),
            "{error}"
        );
        assert!(GoDuration("-5m".into()).to_std().is_err());
        assert!(Fraction("1.5".into()).to_f64().is_err());
        assert!(Percent("120%".into()).to_share().is_err());
        for bad in ["-1", "inf", "NaN", "1e999", "a tenth"] {
            assert!(Decimal(bad.into()).to_f64().is_err(), "{bad}");
        }
    }
}
