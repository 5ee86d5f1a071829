//! Filters from the JSON of a request.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Bounds, Filter};
use crate::error::{IndexError, Result};
use crate::value::MetaValue;

/// Conditions within conditions that are followed.
const MAX_DEPTH: usize = 32;
/// Conditions and values that are evaluated. Each may cost a look at every passage.
const MAX_PARTS: usize = 1024;

impl Filter {
    /// Reads the JSON form; `at` names where it stands, for errors ("filters").
    ///
    /// # Errors
    /// [`IndexError::Filter`] with the place and the reason.
    pub fn from_json(json: &Value, at: &str) -> Result<Self> {
        let filter = object(json, at, MAX_DEPTH)?;
        match filter.parts() {
            0..=MAX_PARTS => Ok(filter),
            parts => Err(error(
                at,
                format!(
                    "{parts} conditions and values are more than the {MAX_PARTS} that are evaluated: ask by a range, a prefix, or a field that has fewer values"
                ),
            )),
        }
    }

    fn parts(&self) -> usize {
        match self {
            Self::In(_, values) => values.len(),
            Self::And(parts) | Self::Or(parts) => 1 + parts.iter().map(Self::parts).sum::<usize>(),
            Self::Not(inner) => 1 + inner.parts(),
            Self::Equals(..) | Self::Range(..) | Self::Exists(_) | Self::Prefix(..) => 1,
        }
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::from_json(&json, "filters").map_err(D::Error::custom)
    }
}

fn error(at: &str, reason: impl Into<String>) -> IndexError {
    IndexError::Filter {
        field: at.to_owned(),
        reason: reason.into(),
    }
}

fn object(json: &Value, at: &str, depth: usize) -> Result<Filter> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(error(
            at,
            format!("more than {MAX_DEPTH} conditions within one another: flatten the filter"),
        ));
    };
    let Value::Object(map) = json else {
        return Err(error(
            at,
            format!(
                "{} is not a filter: expected an object such as {{\"memory\": \"factual\"}}",
                kind(json)
            ),
        ));
    };
    let mut all = map
        .iter()
        .map(|(name, value)| condition(name, value, &format!("{at}.{name}"), depth))
        .collect::<Result<Vec<_>>>()?;
    match (all.len(), all.pop()) {
        (1, Some(only)) => Ok(only),
        (_, last) => {
            all.extend(last);
            Ok(Filter::And(all))
        }
    }
}

fn condition(name: &str, value: &Value, at: &str, depth: usize) -> Result<Filter> {
    match name {
        "and" => Ok(Filter::And(list(value, at, depth)?)),
        "or" => Ok(Filter::Or(list(value, at, depth)?)),
        "not" => Ok(Filter::Not(Box::new(object(value, at, depth)?))),
        "" => Err(error(at, "a field's name is empty")),
        _ => match value {
            Value::Object(operators) => operations(name, operators, at),
            Value::Array(values) => {
                let read = |(i, v)| literal(v, &format!("{at}[{i}]"));
                Ok(Filter::In(
                    name.to_owned(),
                    values.iter().enumerate().map(read).collect::<Result<_>>()?,
                ))
            }
            _ => Ok(Filter::Equals(name.to_owned(), literal(value, at)?)),
        },
    }
}

fn list(value: &Value, at: &str, depth: usize) -> Result<Vec<Filter>> {
    let Value::Array(items) = value else {
        return Err(error(
            at,
            format!("{} is not a list of filters", kind(value)),
        ));
    };
    items
        .iter()
        .enumerate()
        .map(|(i, item)| object(item, &format!("{at}[{i}]"), depth))
        .collect()
}

fn operations(name: &str, operators: &Map<String, Value>, at: &str) -> Result<Filter> {
    let mut bounds = Bounds::default();
    let mut all = Vec::new();
    for (operator, value) in operators {
        let at = format!("{at}.{operator}");
        match operator.as_str() {
            "gt" => bounds.gt = Some(literal(value, &at)?),
            "gte" => bounds.gte = Some(literal(value, &at)?),
            "lt" => bounds.lt = Some(literal(value, &at)?),
            "lte" => bounds.lte = Some(literal(value, &at)?),
            "prefix" => {
                let prefix = value
                    .as_str()
                    .ok_or_else(|| error(&at, format!("{} is not a string", kind(value))))?;
                all.push(Filter::Prefix(name.to_owned(), prefix.to_owned()));
            }
            "exists" => {
                let wanted = value
                    .as_bool()
                    .ok_or_else(|| error(&at, format!("{} is not true or false", kind(value))))?;
                let exists = Filter::Exists(name.to_owned());
                all.push(if wanted {
                    exists
                } else {
                    Filter::Not(Box::new(exists))
                });
            }
            _ => {
                return Err(error(
                    &at,
                    "no such operator: there are gt, gte, lt, lte, prefix and exists",
                ));
            }
        }
    }
    if bounds != Bounds::default() {
        all.push(Filter::Range(name.to_owned(), bounds));
    }
    match (all.len(), all.pop()) {
        (0, _) => Err(error(
            at,
            "no operator is given: there are gt, gte, lt, lte, prefix and exists",
        )),
        (1, Some(only)) => Ok(only),
        (_, last) => {
            all.extend(last);
            Ok(Filter::And(all))
        }
    }
}

fn literal(value: &Value, at: &str) -> Result<MetaValue> {
    match value {
        Value::String(text) => Ok(text.as_str().into()),
        Value::Bool(value) => Ok((*value).into()),
        Value::Number(number) => number.as_i64().map(MetaValue::Integer).ok_or_else(|| {
            error(
                at,
                format!("{number} is not a 64-bit integer: metadata numbers are whole"),
            )
        }),
        _ => Err(error(
            at,
            format!(
                "{} is not a value: expected a string, an integer or a boolean",
                kind(value)
            ),
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(json: Value) -> Result<Filter> {
        Filter::from_json(&json, "filters")
    }

    #[test]
    fn reads_every_form() {
        let at = |name: &str| name.to_owned();
        assert_eq!(parse(json!({})).unwrap(), Filter::And(vec![]));
        assert_eq!(
            parse(json!({"a": 1})).unwrap(),
            Filter::Equals(at("a"), 1.into())
        );
        assert_eq!(
            parse(json!({"a": ["x", true]})).unwrap(),
            Filter::In(at("a"), vec!["x".into(), true.into()])
        );
        let bounds = Bounds {
            gte: Some("2026-01-01".into()),
            lt: Some("2027-01-01".into()),
            ..Bounds::default()
        };
        assert_eq!(
            parse(json!({"a": {"gte": "2026-01-01", "lt": "2027-01-01"}})).unwrap(),
            Filter::Range(at("a"), bounds)
        );
        let no = |f| Filter::Not(Box::new(f));
        assert_eq!(
            parse(json!({"or": [{"a": {"prefix": "x"}}, {"not": {"a": {"exists": true}}}], "b": {"exists": false}})).unwrap(),
            Filter::And(vec![
                Filter::Or(vec![Filter::Prefix(at("a"), "x".into()), no(Filter::Exists(at("a")))]),
                no(Filter::Exists(at("b"))),
            ])
        );
    }

    #[test]
    fn errors_name_the_place() {
        for (json, place, reason) in [
            (json!([]), "filters:", "a list is not a filter"),
            (json!({"and": {"a": 1}}), "filters.and:", "not a list"),
            (
                json!({"and": [{}, {"year": {"gte": 1.5}}]}),
                "filters.and[1].year.gte:",
                "whole",
            ),
            (json!({"a": null}), "filters.a:", "null"),
            (
                json!({"a": [1, {}]}),
                "filters.a[1]:",
                "an object is not a value",
            ),
            (
                json!({"a": {"like": "x"}}),
                "filters.a.like:",
                "no such operator",
            ),
            (json!({"a": {}}), "filters.a:", "no operator"),
            (
                json!({"a": {"prefix": 3}}),
                "filters.a.prefix:",
                "not a string",
            ),
        ] {
            let message = parse(json).unwrap_err().to_string();
            assert!(
                message.starts_with(place) && message.contains(reason),
                "{message}"
            );
        }
        let deep = (0..100).fold(json!({"a": 1}), |inner, _| json!({"not": inner}));
        assert!(parse(deep).unwrap_err().to_string().contains("flatten"));
    }
}
