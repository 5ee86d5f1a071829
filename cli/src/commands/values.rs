//! Values of options.

use std::time::Duration;

use crate::up::duration;

/// A duration as Go writes it, but not none.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be more than nothing".to_owned()),
        time => Ok(time),
    }
}

/// `1500000`, `512Mi`, `2Gi`, `1G`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => 0,
    };
    let number = digits.parse::<u64>().ok().filter(|_| unit > 0);
    let bytes = number.and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| "write a size as 512Mi or 2Gi".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("0", 0),
            ("1500", 1500),
            ("2k", 2000),
            ("512Mi", 512 << 20),
            ("2Gi", 2 << 30),
            ("1G", 1_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "Mi", "1.5Gi", "5MiB", "-1", "99999999999Ti"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(some_time("90s"), Ok(Duration::from_secs(90)));
        assert!(some_time("0s").is_err() && some_time("soon").is_err());
    }
}
