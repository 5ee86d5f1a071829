//! Filters as queries of the text index.

use std::ops::Bound;

use tantivy::Term;
use tantivy::query::{AllQuery, BooleanQuery, EmptyQuery, Occur, Query, RangeQuery, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};

use super::{Bounds, Filter};
use crate::error::{IndexError, Result};
use crate::text::{Fields, path};
use crate::value::{MetaValue, instant};

/// The query that matches the passages of the documents that pass `filter`.
pub(crate) fn compile(filter: &Filter, fields: &Fields) -> Result<Box<dyn Query>> {
    match filter {
        Filter::Equals(field, value) => equals(field, value, fields),
        Filter::In(field, values) => Ok(union(
            values
                .iter()
                .map(|value| equals(field, value, fields))
                .collect::<Result<_>>()?,
        )),
        Filter::Range(field, bounds) => range(field, bounds, fields),
        Filter::Exists(field) => Ok(match built_in(field, fields) {
            Some(_) => Box::new(AllQuery),
            None => term(Term::from_field_text(fields.names, field)),
        }),
        Filter::Prefix(field, prefix) => Ok(prefixed(field, prefix, fields)),
        Filter::And(all) if all.is_empty() => Ok(Box::new(AllQuery)),
        Filter::And(all) => Ok(Box::new(BooleanQuery::intersection(
            all.iter()
                .map(|f| compile(f, fields))
                .collect::<Result<_>>()?,
        ))),
        Filter::Or(any) => Ok(union(
            any.iter()
                .map(|f| compile(f, fields))
                .collect::<Result<_>>()?,
        )),
        Filter::Not(inner) => {
            let parts: Vec<(Occur, Box<dyn Query>)> = vec![
                (Occur::Must, Box::new(AllQuery)),
                (Occur::MustNot, compile(inner, fields)?),
            ];
            Ok(Box::new(BooleanQuery::new(parts)))
        }
    }
}

fn error(field: &str, reason: String) -> IndexError {
    IndexError::Filter {
        field: field.to_owned(),
        reason,
    }
}

fn built_in(field: &str, fields: &Fields) -> Option<Field> {
    Some(match field {
        "source" => fields.source,
        "document" => fields.document,
        "uri" => fields.uri,
        "memory" => fields.memory,
        "version" => fields.version,
        _ => return None,
    })
}

fn union(parts: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    if parts.is_empty() {
        Box::new(EmptyQuery)
    } else {
        Box::new(BooleanQuery::union(parts))
    }
}

fn term(term: Term) -> Box<dyn Query> {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

/// Where text of a field is: a field of its own or a path of the metadata.
fn text_term(field: &str, text: &str, fields: &Fields) -> Term {
    match built_in(field, fields) {
        Some(own) => Term::from_field_text(own, text),
        None => {
            let mut term = Term::from_field_json_path(fields.metadata, &path(field), false);
            term.append_type_and_str(text);
            term
        }
    }
}

fn number_term(json: Field, field: &str, value: i64) -> Term {
    let mut term = Term::from_field_json_path(json, &path(field), false);
    term.append_type_and_fast_value(value);
    term
}

fn equals(field: &str, value: &MetaValue, fields: &Fields) -> Result<Box<dyn Query>> {
    match value {
        _ if built_in(field, fields).is_some() => match value.as_str() {
            Some(text) => Ok(term(text_term(field, text, fields))),
            None => Err(error(
                field,
                format!(
                    "{value} is {}, but the values of this field are strings",
                    value.kind()
                ),
            )),
        },
        MetaValue::Text(text) | MetaValue::Time(text) => Ok(match instant(text) {
            Some(time) => between(
                number_term(fields.times, field, time),
                number_term(fields.times, field, time),
            ),
            None => term(text_term(field, text, fields)),
        }),
        MetaValue::Integer(value) => Ok(term(number_term(fields.metadata, field, *value))),
        MetaValue::Bool(value) => {
            let mut wanted = Term::from_field_json_path(fields.metadata, &path(field), false);
            wanted.append_type_and_fast_value(*value);
            Ok(term(wanted))
        }
    }
}

fn between(low: Term, high: Term) -> Box<dyn Query> {
    Box::new(RangeQuery::new(Bound::Included(low), Bound::Included(high)))
}

/// How the bounds of a range compare.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Time,
    Integer,
}

fn range(field: &str, bounds: &Bounds, fields: &Fields) -> Result<Box<dyn Query>> {
    let given = [&bounds.gt, &bounds.gte, &bounds.lt, &bounds.lte]
        .into_iter()
        .flatten();
    let own = built_in(field, fields).is_some();
    let mut kinds = given.map(|value| match value {
        MetaValue::Integer(_) if !own => Ok(Kind::Integer),
        MetaValue::Text(text) | MetaValue::Time(text) if !own && instant(text).is_some() => {
            Ok(Kind::Time)
        }
        MetaValue::Text(_) | MetaValue::Time(_) => Ok(Kind::Text),
        MetaValue::Integer(_) => Err(error(
            field,
            format!("{value} is an integer, but the values of this field are strings"),
        )),
        MetaValue::Bool(_) => Err(error(field, format!("{value} has no order: use equality"))),
    });
    let Some(kind) = kinds.next().transpose()? else {
        return Err(error(
            field,
            "a range needs a bound: gt, gte, lt or lte".into(),
        ));
    };
    for other in kinds {
        if other? != kind {
            return Err(error(
                field,
                "the bounds of a range must all be integers, all times or all other text".into(),
            ));
        }
    }
    let term = |value: &MetaValue| match (kind, value) {
        (_, MetaValue::Integer(number)) => number_term(fields.metadata, field, *number),
        (Kind::Time, value) => number_term(
            fields.times,
            field,
            value.as_str().and_then(instant).unwrap_or_default(),
        ),
        (_, value) => text_term(field, value.as_str().unwrap_or_default(), fields),
    };
    let side =
        |open: &Option<MetaValue>, closed: &Option<MetaValue>, names: &str| match (open, closed) {
            (Some(_), Some(_)) => Err(error(
                field,
                format!("{names} bound the same side: give one of them"),
            )),
            (Some(value), None) => Ok(Bound::Excluded(term(value))),
            (None, Some(value)) => Ok(Bound::Included(term(value))),
            (None, None) => Ok(Bound::Unbounded),
        };
    // One query for both sides: of several values, one must lie within both.
    let (low, high) = (
        side(&bounds.gt, &bounds.gte, "gt and gte")?,
        side(&bounds.lt, &bounds.lte, "lt and lte")?,
    );
    Ok(Box::new(RangeQuery::new(low, high)))
}

fn prefixed(field: &str, prefix: &str, fields: &Fields) -> Box<dyn Query> {
    let low = Bound::Included(text_term(field, prefix, fields));
    let high = after(prefix).map_or(Bound::Unbounded, |text| {
        Bound::Excluded(text_term(field, &text, fields))
    });
    Box::new(RangeQuery::new(low, high))
}

/// The least text above all that begin with `prefix`; `None` when there is none.
fn after(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(u32::from(last) + 1)
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_prefix() {
        assert_eq!(after("ab").as_deref(), Some("ac"));
        assert_eq!(after("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after("\u{10ffff}"), None);
        assert_eq!(after(""), None);
    }
}
