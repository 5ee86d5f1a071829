//! Metadata values and their order.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tantivy::time::OffsetDateTime;
use tantivy::time::format_description::well_known::Rfc3339;

/// One metadata value. As JSON: a string, an integer or a boolean; a string that is an
/// RFC 3339 time or date is read as [`MetaValue::Time`].
///
/// Filters tell times from other text by their look: given a time, they compare instants with
/// the strings that read as times; given any other string, they compare bytes with all strings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetaValue {
    /// Any text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Bool(bool),
    /// An RFC 3339 time (`2026-03-01T12:00:00Z`) or date (`2026-03-01`, its midnight in UTC).
    Time(String),
}

impl MetaValue {
    /// The text, when this is text or a time.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Time(text) => Some(text),
            Self::Integer(_) | Self::Bool(_) => None,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Time(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Bool(_) => "a boolean",
        }
    }
}

/// Microseconds since 1970 of an RFC 3339 time or date; `None` for any other text.
pub(crate) fn instant(text: &str) -> Option<i64> {
    let time = match text.len() {
        10 => OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339),
        20.. => OffsetDateTime::parse(text, &Rfc3339),
        _ => return None,
    };
    i64::try_from(time.ok()?.unix_timestamp_nanos().div_euclid(1000)).ok()
}

impl From<String> for MetaValue {
    fn from(text: String) -> Self {
        if instant(&text).is_some() {
            Self::Time(text)
        } else {
            Self::Text(text)
        }
    }
}

impl From<&str> for MetaValue {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<i64> for MetaValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for MetaValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl fmt::Display for MetaValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Time(text) => f.write_str(text),
            Self::Integer(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

impl Serialize for MetaValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) | Self::Time(text) => serializer.serialize_str(text),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Bool(value) => serializer.serialize_bool(*value),
        }
    }
}

impl<'de> Deserialize<'de> for MetaValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = MetaValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an integer or a boolean")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MetaValue, E> {
        Ok(text.into())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<MetaValue, E> {
        Ok(MetaValue::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<MetaValue, E> {
        Ok(MetaValue::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<MetaValue, E> {
        i64::try_from(value)
            .map(MetaValue::Integer)
            .map_err(|_| E::custom(format!("{value} is above {}", i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_whatever_their_zone() {
        assert_eq!(instant("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(instant("1970-01-01T01:00:01+01:00"), Some(1_000_000));
        assert_eq!(instant("1970-01-02"), Some(86_400_000_000));
        assert_eq!(instant("1969-12-31T23:59:59.5Z"), Some(-500_000));
        for text in ["", "20260301", "2026-13-01", "yesterday, at noon sharp"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }

    #[test]
    fn json_round_trip() {
        let values: Vec<MetaValue> =
            serde_json::from_str(r#"["a", "2026-03-01", -3, true]"#).unwrap();
        assert_eq!(
            values,
            [
                "a".into(),
                MetaValue::Time("2026-03-01".into()),
                (-3).into(),
                true.into()
            ]
        );
        assert_eq!(
            serde_json::to_string(&values).unwrap(),
            r#"["a","2026-03-01",-3,true]"#
        );
        assert!(serde_json::from_str::<MetaValue>("1.5").is_err());
    }
}
