use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A version of CUDA, or a compute capability: `12.4`, `8.9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// After the point.
    pub minor: u32,
}

impl Version {
    /// Of two numbers as CUDA's libraries tell them; none for negative ones.
    pub(super) fn of(major: i32, minor: i32) -> Option<Self> {
        Some(Self {
            major: u32::try_from(major).ok()?,
            minor: u32::try_from(minor).ok()?,
        })
    }

    /// Of one number as the driver tells it: 12040 is 12.4.
    pub(super) fn of_driver(number: i32) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        Some(Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        };
        let parts = text.split_once('.');
        let version = parts.and_then(|(major, minor)| {
            Some(Self {
                major: number(major)?,
                minor: number(minor)?,
            })
        });
        version.ok_or_else(|| "write two numbers with a point between them, such as 8.0".to_owned())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_their_numbers() {
        for text in ["8.0", "12.4", "7.5", "10.0"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "8",
            "8.",
            ".8",
            "8.0.1",
            "+8.0",
            "8.x",
            "sm_80",
            "99999999999.0",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("10.0") > version("9.0") && version("8.9") > version("8.6"));
        assert_eq!(Version::of_driver(12040), Some(version("12.4")));
        assert_eq!(Version::of_driver(13000), Some(version("13.0")));
        assert_eq!(Version::of_driver(-1), None);
    }
}
