//! Which fields there are to filter by.

use std::collections::BTreeSet;

use tantivy::query::{AllQuery, BooleanQuery, EnableScoring, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet as _, TERMINATED, TantivyError, Term};

use super::{BUILT_IN_FIELDS, Filter, compile};
use crate::error::{IndexError, Result};
use crate::revision::Revision;
use crate::text::schema;

/// Names of fields that an error lists; a corpus may have thousands.
const LISTED: usize = 40;

impl Filter {
    /// Refuses what no revision can evaluate, whatever its documents: bounds without an order, integers where values are
    /// strings.
    ///
    /// # Errors
    /// [`IndexError::Filter`] with the field and the reason.
    pub fn check(&self) -> Result<()> {
        compile(self, &schema().1).map(drop)
    }

    /// The fields that it names.
    pub fn fields(&self) -> BTreeSet<&str> {
        match self {
            Self::Equals(field, _)
            | Self::In(field, _)
            | Self::Range(field, _)
            | Self::Exists(field)
            | Self::Prefix(field, _) => BTreeSet::from([field.as_str()]),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(inner) => inner.fields(),
        }
    }
}

impl Revision {
    /// How many passages pass `filter`.
    ///
    /// # Errors
    /// [`IndexError::Filter`] for what cannot be evaluated; others when files can no longer be read.
    pub fn count(&self, filter: &Filter) -> Result<u64> {
        let query = compile(filter, &self.text.fields)?;
        Ok(query.count(&self.text.searcher)? as u64)
    }

    /// Refuses a filter by a field that no document has. Given `within`, only the documents that pass it count, and the
    /// error tells of no other's fields. Where there is no document at all, every field may yet come, and none is refused.
    ///
    /// # Errors
    /// [`IndexError::Filter`] with the field, and those that there are.
    pub fn check_fields(&self, filter: &Filter, within: Option<&Filter>) -> Result<()> {
        let wanted = filter.fields();
        let mut unknown = wanted
            .into_iter()
            .filter(|field| !BUILT_IN_FIELDS.contains(field))
            .peekable();
        if unknown.peek().is_none() {
            return Ok(());
        }
        let within: Box<dyn Query> = match within {
            Some(filter) => compile(filter, &self.text.fields)?,
            None => Box::new(AllQuery),
        };
        for field in unknown {
            if !self.any_has(field, &*within)? && self.any(&*within)? {
                return Err(IndexError::Filter {
                    field: field.chars().take(64).collect(),
                    reason: format!(
                        "no document has this field; there are {}",
                        self.listed(&*within)?
                    ),
                });
            }
        }
        Ok(())
    }

    /// The names of fields, as an error lists them.
    fn listed(&self, within: &dyn Query) -> Result<String> {
        let mut names: Vec<String> = BUILT_IN_FIELDS.map(str::to_owned).into();
        let mut more = 0;
        for name in self.names()? {
            if !self.any_has(&name, within)? {
                continue;
            }
            if names.len() < LISTED {
                names.push(name);
            } else {
                more += 1;
            }
        }
        let names = names.join(", ");
        Ok(match more {
            0 => names,
            more => format!("{names} and {more} more"),
        })
    }

    /// The names of metadata fields of all documents, also of deleted ones.
    fn names(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for segment in self.text.searcher.segment_readers() {
            let index = segment.inverted_index(self.text.fields.names)?;
            let mut terms = index.terms().stream().map_err(TantivyError::from)?;
            while terms.advance() {
                names.insert(String::from_utf8_lossy(terms.key()).into_owned());
            }
        }
        Ok(names)
    }

    /// Whether a passage of those in `within` has the metadata field.
    fn any_has(&self, field: &str, within: &dyn Query) -> Result<bool> {
        let named = Term::from_field_text(self.text.fields.names, field);
        let named = TermQuery::new(named, IndexRecordOption::Basic);
        self.any(&BooleanQuery::intersection(vec![
            Box::new(named),
            within.box_clone(),
        ]))
    }

    /// Whether a live passage matches.
    fn any(&self, query: &dyn Query) -> Result<bool> {
        let searcher = &self.text.searcher;
        let weight = query.weight(EnableScoring::disabled_from_searcher(searcher))?;
        for segment in searcher.segment_readers() {
            let mut found = weight.scorer(segment, 1.0)?;
            while found.doc() != TERMINATED {
                if !segment.is_deleted(found.doc()) {
                    return Ok(true);
                }
                found.advance();
            }
        }
        Ok(false)
    }
}
