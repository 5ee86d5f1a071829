//! Filters over documents: which passages a search may return.

mod compile;
mod fields;
mod parse;

pub(crate) use compile::compile;

use crate::value::MetaValue;

/// Fields that every document has. Any other name is a metadata field.
pub const BUILT_IN_FIELDS: [&str; 5] = ["source", "document", "uri", "memory", "version"];

/// A condition on a document.
///
/// A metadata field with several values matches when any of them does; `Not` of a condition
/// matches exactly the documents that the condition does not, those without the field
/// included. RFC 3339 times compare as instants, see [`MetaValue`].
///
/// As JSON, in requests:
/// ```json
/// {"memory": "factual",
///  "team": ["red", "blue"],
///  "published": {"gte": "2026-01-01", "lt": "2027-01-01"},
///  "path": {"prefix": "guides/"},
///  "owner": {"exists": true},
///  "or": [{"year": 2025}, {"not": {"draft": true}}]}
/// ```
/// Conditions side by side must all hold; `{}` holds always. `and`, `or` and `not` are not
/// available as metadata names.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// The field has this value.
    Equals(String, MetaValue),
    /// The field has one of these values.
    In(String, Vec<MetaValue>),
    /// The field has a value within bounds.
    Range(String, Bounds),
    /// The field has a value.
    Exists(String),
    /// The field has a text value that begins so.
    Prefix(String, String),
    /// All hold. Without any: holds always.
    And(Vec<Filter>),
    /// One or more hold. Without any: holds never.
    Or(Vec<Filter>),
    /// Does not hold.
    Not(Box<Filter>),
}

/// Bounds of a range, all of one kind (all integers or all strings); at least one is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Greater than.
    pub gt: Option<MetaValue>,
    /// Greater than or equal.
    pub gte: Option<MetaValue>,
    /// Less than.
    pub lt: Option<MetaValue>,
    /// Less than or equal.
    pub lte: Option<MetaValue>,
}
