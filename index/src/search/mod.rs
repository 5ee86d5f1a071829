//! Queries and their answers.

mod dense;
mod fuse;
mod scale;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tantivy::query::{EnableScoring, Query as TextQuery};

pub use fuse::Fusion;
pub use scale::Normalization;

use crate::bits::Bits;
use crate::document::{DocumentKey, Passage};
use crate::error::{IndexError, Result};
use crate::filter::{Filter, compile};
use crate::revision::{NONE, Revision};
use crate::text::Words;
use crate::value::MetaValue;

/// How passages are found and ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// By vector and by words, fused; see [`Fusion`].
    #[default]
    Hybrid,
    /// By the inner product of vectors: the cosine, when the embedder normalises.
    Dense,
    /// By words (BM25: Robertson and Zaragoza, 2009; k1 = 1.2, b = 0.75).
    Bm25,
}

/// A search.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// What is asked; plain text, no character is an operator.
    pub text: &'a str,
    /// Its vector; needed unless the mode is [`Mode::Bm25`].
    pub vector: Option<&'a [f32]>,
    /// Passages wanted, at least 1. May exceed what the revision holds.
    pub k: usize,
    /// Which passages may be returned.
    pub filter: Option<Filter>,
    /// How passages are found and ranked.
    pub mode: Mode,
    /// Compare with every vector instead of walking graphs.
    pub exact: bool,
}

/// A passage found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The score that ranks: fused, dense or BM25, by the mode.
    pub score: f32,
    /// Inner product with the query's vector, unless the mode is [`Mode::Bm25`].
    pub dense: Option<f32>,
    /// BM25 score, 0 without a word in common, unless the mode is [`Mode::Dense`].
    pub bm25: Option<f32>,
    /// The fused score, see [`Fusion`]; in other modes than hybrid the same as `score`.
    pub fused: f32,
    /// The document.
    pub key: DocumentKey,
    /// Where a person finds it.
    pub uri: String,
    /// Its version.
    pub version: String,
    /// Its memory class.
    pub memory: String,
    /// Its title.
    pub title: Option<String>,
    /// The passage.
    pub passage: Passage,
    /// The document's metadata.
    pub metadata: BTreeMap<String, Vec<MetaValue>>,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchResult {
    /// At most `k` passages, the best first.
    pub hits: Vec<Hit>,
    /// Passages that pass the filter, when there is one.
    pub passing: Option<u64>,
    /// How vectors were compared: `scan` (all that pass), `graph`, `graph+scan` or `none`.
    pub strategy: &'static str,
}

/// What passes a filter.
pub(crate) struct Passing {
    query: Box<dyn TextQuery>,
    rows: Bits,
    count: usize,
}

/// A passage and its scores, before it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) row: usize,
    pub(crate) score: f32,
    pub(crate) dense: Option<f32>,
    pub(crate) bm25: Option<f32>,
}

impl Revision {
    /// Answers `query`.
    ///
    /// # Errors
    /// [`IndexError::Query`] or [`IndexError::Filter`] for what cannot be answered; others when
    /// the revision's files can no longer be read.
    pub fn search(&self, query: &Query<'_>) -> Result<SearchResult> {
        if query.k == 0 {
            return Err(IndexError::Query {
                field: "k",
                reason: "0 passages are wanted: ask for at least 1".into(),
            });
        }
        let passing = query
            .filter
            .as_ref()
            .map(|filter| self.passing(filter))
            .transpose()?;
        let k = query.k.min(self.info().passages as usize);
        let (mut best, strategy) = match query.mode {
            Mode::Dense => self.dense_only(query, self.vector(query)?, k, passing.as_ref()),
            Mode::Bm25 => (self.words_only(query, k, passing.as_ref())?, "none"),
            Mode::Hybrid => self.hybrid(query, self.vector(query)?, k, passing.as_ref())?,
        };
        best.truncate(k);
        let hits = best
            .into_iter()
            .map(|scored| self.hit(scored))
            .collect::<Result<_>>()?;
        Ok(SearchResult {
            hits,
            passing: passing.map(|passing| passing.count as u64),
            strategy,
        })
    }

    fn vector<'a>(&self, query: &Query<'a>) -> Result<&'a [f32]> {
        let error = |reason| IndexError::Query {
            field: "vector",
            reason,
        };
        let vector = query
            .vector
            .ok_or_else(|| error("missing: embed the query, or search with mode bm25".into()))?;
        let dimensions = self.info().dimensions;
        if vector.len() != dimensions {
            return Err(error(format!(
                "{} dimensions, but the index has {dimensions}: embed the query with the index's embedder",
                vector.len()
            )));
        }
        if vector.iter().any(|x| !x.is_finite()) {
            return Err(error("a number is infinite or not a number".into()));
        }
        Ok(vector)
    }

    fn passing(&self, filter: &Filter) -> Result<Passing> {
        let query = compile(filter, &self.text.fields)?;
        let searcher = &self.text.searcher;
        let weight = query.weight(EnableScoring::disabled_from_searcher(searcher))?;
        let mut rows = Bits::new(self.vectors.rows);
        for (segment, row_of) in searcher.segment_readers().iter().zip(&self.rows) {
            weight.for_each_no_score(segment, &mut |documents| {
                for &document in documents {
                    let row = row_of[document as usize];
                    if row != NONE {
                        rows.insert(row as usize);
                    }
                }
            })?;
        }
        let count = rows.count(0, self.vectors.rows);
        Ok(Passing { query, rows, count })
    }

    fn dense_only(
        &self,
        query: &Query<'_>,
        vector: &[f32],
        k: usize,
        passing: Option<&Passing>,
    ) -> (Vec<Scored>, &'static str) {
        let (best, strategy) = self.nearest(vector, k, passing.map(|p| &p.rows), query.exact);
        let scored = |(score, row)| Scored {
            row,
            score,
            dense: Some(score),
            bm25: None,
        };
        (best.into_iter().map(scored).collect(), strategy)
    }

    fn words_only(
        &self,
        query: &Query<'_>,
        k: usize,
        passing: Option<&Passing>,
    ) -> Result<Vec<Scored>> {
        let mut best: Vec<Scored> = self
            .by_words(self.text.words(query.text).as_ref(), k, passing)?
            .into_iter()
            .map(|(score, row)| Scored {
                row,
                score,
                dense: None,
                bm25: Some(score),
            })
            .collect();
        self.rank(&mut best);
        Ok(best)
    }

    /// The `limit` best passages by BM25, as rows.
    fn by_words(
        &self,
        words: Option<&Words>,
        limit: usize,
        passing: Option<&Passing>,
    ) -> Result<Vec<(f32, usize)>> {
        let Some(words) = words else {
            return Ok(Vec::new());
        };
        let best = self.text.best(words, passing.map(|p| &*p.query), limit)?;
        let row = |address: tantivy::DocAddress| {
            self.rows[address.segment_ord as usize][address.doc_id as usize] as usize
        };
        Ok(best
            .into_iter()
            .map(|(score, address)| (score, row(address)))
            .collect())
    }

    /// Best first; among equals by document and position, whatever the revision's history.
    pub(crate) fn rank(&self, scored: &mut [Scored]) {
        scored.sort_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| (self.ranks[a.row], a.row).cmp(&(self.ranks[b.row], b.row)))
        });
    }

    fn hit(&self, scored: Scored) -> Result<Hit> {
        let stored = self.text.stored(self.addresses[scored.row])?;
        Ok(Hit {
            score: scored.score,
            dense: scored.dense,
            bm25: scored.bm25,
            fused: scored.score,
            key: stored.key.into_owned(),
            uri: stored.uri.into_owned(),
            version: stored.version.into_owned(),
            memory: stored.memory.into_owned(),
            title: stored.title.map(std::borrow::Cow::into_owned),
            passage: stored.passage.into_owned(),
            metadata: stored.metadata.into_owned(),
        })
    }
}
