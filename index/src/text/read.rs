//! The text side of searching.

use std::path::Path;

use tantivy::collector::{Collector, TopDocs};
use tantivy::query::{
    Bm25StatisticsProvider, BooleanQuery, ConstScoreQuery, EnableScoring, Occur, Query, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption, Value as _};
use tantivy::tokenizer::TokenStream as _;
use tantivy::{
    DocAddress, DocId, DocSet as _, Index, ReloadPolicy, Searcher, TantivyDocument, Term,
};

use super::directory::RevisionDirectory;
use super::{ANALYZER, Fields, Stored, TextState, analyzer, schema};
use crate::error::{IndexError, Result};

/// Distinct words of a query that are searched for; the rest of a very long text adds nothing
/// to a ranking but time.
const MAX_QUERY_TERMS: usize = 1024;

/// An opened text index.
pub(crate) struct TextIndex {
    pub(crate) searcher: Searcher,
    pub(crate) fields: Fields,
    /// Words of all passages, those of deleted ones included.
    words: u64,
}

/// The words of a query as a disjunction, ready to score.
pub(crate) struct Words(BooleanQuery);

impl TextIndex {
    pub(crate) fn open(dir: &Path, state: &TextState) -> Result<Self> {
        let damaged = |reason: String| IndexError::Damaged {
            dir: dir.to_owned(),
            file: "text index".into(),
            reason,
        };
        let (schema, fields) = schema();
        let directory = RevisionDirectory::open(dir, Some(state.meta.to_string().into_bytes()))?;
        let index = Index::open(directory).map_err(|e| damaged(e.to_string()))?;
        if index.schema() != schema {
            return Err(damaged("its schema is not this version's".into()));
        }
        index.tokenizers().register(ANALYZER, analyzer());
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()
            .map_err(|e| damaged(e.to_string()))?;
        let searcher = reader.searcher();
        Ok(Self {
            words: lengths(&searcher, fields.body)?,
            searcher,
            fields,
        })
    }

    /// Every live passage: its address and uid.
    pub(crate) fn uids(&self) -> Result<Vec<(DocAddress, u64)>> {
        let mut out = Vec::with_capacity(self.searcher.num_docs() as usize);
        for (ordinal, segment) in (0..).zip(self.searcher.segment_readers()) {
            let uids = segment.fast_fields().u64("uid")?;
            out.extend(
                segment
                    .doc_ids_alive()
                    .filter_map(|doc| Some((DocAddress::new(ordinal, doc), uids.first(doc)?))),
            );
        }
        Ok(out)
    }

    /// The words of `text`; `None` when it has none. No character of it is an operator.
    pub(crate) fn words(&self, text: &str) -> Option<Words> {
        let mut tokens = Vec::new();
        let mut analyzer = analyzer();
        let mut stream = analyzer.token_stream(text);
        while tokens.len() < 8 * MAX_QUERY_TERMS && stream.advance() {
            tokens.push(stream.token().text.clone());
        }
        tokens.sort_unstable();
        tokens.dedup();
        tokens.truncate(MAX_QUERY_TERMS);
        let term = |token: String| -> Box<dyn Query> {
            Box::new(TermQuery::new(
                Term::from_field_text(self.fields.body, &token),
                IndexRecordOption::WithFreqs,
            ))
        };
        let terms: Vec<_> = tokens.into_iter().map(term).collect();
        (!terms.is_empty()).then(|| Words(BooleanQuery::union(terms)))
    }

    /// The `limit` best passages by BM25 among those that pass `filter`.
    pub(crate) fn best(
        &self,
        words: &Words,
        filter: Option<&dyn Query>,
        limit: usize,
    ) -> Result<Vec<(f32, DocAddress)>> {
        let limit = limit.min(self.searcher.num_docs() as usize);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let collector = TopDocs::with_limit(limit).order_by_score();
        Ok(match filter {
            None => self.collect(&words.0, &collector)?,
            Some(filter) => {
                let passing = ConstScoreQuery::new(filter.box_clone(), 0.0);
                let both: Vec<(Occur, Box<dyn Query>)> = vec![
                    (Occur::Must, Box::new(words.0.clone())),
                    (Occur::Must, Box::new(passing)),
                ];
                self.collect(&BooleanQuery::new(both), &collector)?
            }
        })
    }

    fn collect<C: Collector>(&self, query: &dyn Query, collector: &C) -> tantivy::Result<C::Fruit> {
        self.searcher
            .search_with_statistics_provider(query, collector, self)
    }

    /// The BM25 score of each of `passages`, in their order; 0 where no word occurs.
    pub(crate) fn scores(&self, words: &Words, passages: &[DocAddress]) -> Result<Vec<f32>> {
        let mut order: Vec<usize> = (0..passages.len()).collect();
        order.sort_unstable_by_key(|&i| passages[i]);
        let scoring = EnableScoring::enabled_from_statistics_provider(self, &self.searcher);
        let weight = words.0.weight(scoring)?;
        let mut scores = vec![0.0; passages.len()];
        for run in order.chunk_by(|&a, &b| passages[a].segment_ord == passages[b].segment_ord) {
            let Some(&first) = run.first() else { continue };
            let mut scorer = weight.scorer(
                self.searcher.segment_reader(passages[first].segment_ord),
                1.0,
            )?;
            for &i in run {
                let wanted: DocId = passages[i].doc_id;
                if scorer.doc() < wanted {
                    scorer.seek(wanted);
                }
                if scorer.doc() == wanted {
                    scores[i] = scorer.score();
                }
            }
        }
        Ok(scores)
    }

    /// What the passage at `address` says of itself.
    pub(crate) fn stored(&self, address: DocAddress) -> Result<Stored<'static>> {
        let document: TantivyDocument = self.searcher.doc(address)?;
        let json = document
            .get_first(self.fields.stored)
            .and_then(|value| value.as_str())
            .unwrap_or_default();
        serde_json::from_str(json).map_err(|e| {
            tantivy::TantivyError::InternalError(format!("stored passage: {e}")).into()
        })
    }
}

/// BM25's average length is that of the lengths that it scores by, which are rounded. A merge of segments in which passages
/// are dead knows no others: with exact ones, scores would depend on a revision's history.
impl Bm25StatisticsProvider for TextIndex {
    fn total_num_tokens(&self, field: Field) -> tantivy::Result<u64> {
        if field == self.fields.body {
            return Ok(self.words);
        }
        self.searcher.total_num_tokens(field)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        self.searcher.total_num_docs()
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        self.searcher.doc_freq(term)
    }
}

/// The sum of the lengths of all passages, each rounded as it is scored.
fn lengths(searcher: &Searcher, body: Field) -> Result<u64> {
    let mut total = 0;
    for segment in searcher.segment_readers() {
        let lengths = segment.get_fieldnorms_reader(body)?;
        let passages = 0..segment.max_doc();
        total += passages
            .map(|passage| u64::from(lengths.fieldnorm(passage)))
            .sum::<u64>();
    }
    Ok(total)
}
