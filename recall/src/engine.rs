//! One opened index revision and the encoder that fills it: the only part of this crate that
//! knows either.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loci_index::{Filter, Fusion, Hit, IndexError, Mode, Query, Revision, RevisionInfo};
use loci_models::{CrossEncoder, Encoder, ModelError, Role};
use loci_rerank::{Outcome, Reranker};
use serde_json::Value;

use crate::auth::Access;

/// Passages that a release must find by their own text before it may serve.
const PROBES: usize = 3;
/// Bytes of a revision that are read before queries are yielded to.
const TOUCHED_AT_ONCE: u64 = 64 << 20;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What is wrong with the release.
    #[error("{0}")]
    Unfit(String),
}

/// A question to a revision.
pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) k: usize,
    /// What is asked for; what may be seen narrows it.
    pub(crate) filter: Option<Filter>,
    /// Of whoever asks.
    pub(crate) access: Access,
    /// What is left of the time that the answer should take.
    pub(crate) left: Option<Duration>,
}

/// The answer, and what it took.
pub(crate) struct Answer {
    pub(crate) hits: Vec<Hit>,
    pub(crate) rerank: Option<Rerank>,
    pub(crate) passing: Option<u64>,
    pub(crate) strategy: &'static str,
    pub(crate) truncated: bool,
    pub(crate) embed: Duration,
    pub(crate) search: Duration,
}

/// What putting the hits into another order came to.
pub(crate) struct Rerank {
    pub(crate) outcome: Outcome,
    /// By hit, if it was compared.
    pub(crate) scores: Vec<Option<f32>>,
    pub(crate) time: Duration,
}

pub(crate) struct Engine {
    revision: Revision,
    encoder: Arc<Encoder>,
    reranker: Option<Reranker>,
}

impl Engine {
    /// Opens the revision in `directory`, which must have been filled by `encoder`, and judged with `cross` if what it
    /// finds is put into another order by a cross-encoder.
    pub(crate) fn open(
        directory: &Path,
        encoder: Arc<Encoder>,
        cross: Option<Arc<CrossEncoder>>,
    ) -> Result<Self, EngineError> {
        let revision = Revision::open(directory)?;
        let (index, own) = (revision.info().embedder, encoder.identity().digest());
        if index != own {
            return Err(EngineError::Unfit(format!(
                "its vectors were made by embedder {index}, but the embedder given is {own}: load the model it was built with, or rebuild the index"
            )));
        }
        let says = revision.info().rerank.as_ref();
        let reranker = says.map(|says| Reranker::new(says, &encoder, cross));
        let reranker = reranker.transpose();
        let reranker = reranker.map_err(|e| EngineError::Unfit(e.to_string()))?;
        Ok(Self {
            revision,
            encoder,
            reranker,
        })
    }

    pub(crate) fn info(&self) -> &RevisionInfo {
        self.revision.info()
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.encoder.dimensions()
    }

    /// How dense and BM25 scores make one.
    pub(crate) fn fusion(&self) -> Fusion {
        self.revision.fusion()
    }

    /// Reads `filters` of a request.
    pub(crate) fn filter(filters: &Value) -> Result<Filter, IndexError> {
        Filter::from_json(filters, "filters")
    }

    /// How many passages there are for who may see so much.
    pub(crate) fn visible(&self, access: &Access) -> Result<u64, IndexError> {
        match access.filter() {
            Some(filter) => self.revision.count(filter),
            None => Ok(self.info().passages),
        }
    }

    /// Embeds and searches, and puts what is found into another order if the revision says so and there is time.
    pub(crate) fn answer(&self, question: Question) -> Result<Answer, EngineError> {
        let begun = Instant::now();
        let (access, asked) = (question.access, question.filter);
        if let Some(asked) = &asked {
            let known = || self.revision.check_fields(asked, access.filter());
            asked.check().and_then(|()| known()).map_err(of_request)?;
        }
        let filter = access.narrow(asked);
        let start = Instant::now();
        let embedded = self
            .encoder
            .embed(&[&question.text], Role::Query, &mut |_| {
                ControlFlow::Continue(())
            })?;
        let embed = start.elapsed();
        let start = Instant::now();
        let candidates = self.reranker.as_ref().map_or(0, Reranker::candidates);
        let result = self.revision.search(&Query {
            text: &question.text,
            vector: Some(&embedded.vectors),
            k: question.k.max(candidates),
            filter,
            mode: Mode::Hybrid,
            exact: false,
        })?;
        let search = start.elapsed();
        let left = question
            .left
            .map(|left| left.saturating_sub(begun.elapsed()));
        let (mut hits, mut rerank) = self.rerank(&question.text, result.hits, left)?;
        hits.truncate(question.k);
        if let Some(rerank) = &mut rerank {
            rerank.scores.truncate(question.k);
        }
        Ok(Answer {
            hits,
            rerank,
            passing: result.passing,
            strategy: result.strategy,
            truncated: embedded.truncated > 0,
            embed,
            search,
        })
    }

    fn rerank(
        &self,
        query: &str,
        hits: Vec<Hit>,
        left: Option<Duration>,
    ) -> Result<(Vec<Hit>, Option<Rerank>), EngineError> {
        let Some(reranker) = &self.reranker else {
            return Ok((hits, None));
        };
        let (start, budget) = (Instant::now(), reranker.budget());
        let limit = left.map_or(budget, |left| left.min(budget));
        let ranked = reranker.rank(query, hits, Some(limit))?;
        let rerank = Rerank {
            outcome: ranked.outcome,
            scores: ranked.scores,
            time: start.elapsed(),
        };
        Ok((ranked.hits, Some(rerank)))
    }

    /// Embeds texts; `proceed` is asked between batches.
    pub(crate) fn embed(
        &self,
        texts: &[String],
        role: Role,
        proceed: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<loci_models::Embeddings, ModelError> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.encoder.embed(&texts, role, &mut |_| proceed())
    }

    /// Asks real questions: passages of the revision itself, which must be found by their own
    /// vectors. That proves that index and encoder belong together, and warms both, and the cross-encoder; what a passage
    /// costs it is known from here on. Calls `between` before each.
    pub(crate) fn probe(&self, between: &mut dyn FnMut()) -> Result<(), EngineError> {
        between();
        let first = self.answer(Question {
            text: "What is this about?".to_owned(),
            k: PROBES,
            filter: None,
            access: Access::everything(),
            left: None,
        })?;
        if first.hits.is_empty() && self.info().passages > 0 {
            return Err(EngineError::Unfit(format!(
                "it holds {} passages but finds none: rebuild the index",
                self.info().passages
            )));
        }
        for hit in &first.hits {
            between();
            self.find_again(hit)?;
        }
        Ok(())
    }

    fn find_again(&self, hit: &Hit) -> Result<(), EngineError> {
        let text = hit.passage.embedding_text(hit.title.as_deref());
        let embedded = self
            .encoder
            .embed(&[&text], Role::Passage, &mut |_| ControlFlow::Continue(()))?;
        let query = Query {
            text: &text,
            vector: Some(&embedded.vectors),
            k: 1,
            mode: Mode::Dense,
            exact: true,
            ..Query::default()
        };
        let found = self.revision.search(&query)?.hits;
        // Another passage may rank first only when its vector is as near: a copy, or one that
        // begins the same and is cut by the model's limit.
        let own = self
            .revision
            .vectors_of(&[hit.passage.chunk_hash(hit.title.as_deref())].into())?;
        let near = |vector: &Vec<f32>| dot(vector, &embedded.vectors);
        let score = own.values().map(near).fold(f32::NEG_INFINITY, f32::max);
        let norm = dot(&embedded.vectors, &embedded.vectors);
        let best = found
            .first()
            .and_then(|hit| hit.dense)
            .unwrap_or(f32::NEG_INFINITY);
        if score < 0.99 * norm || best < 0.99 * norm {
            return Err(EngineError::Unfit(format!(
                "passage {} of {} is not found by its own vector (similarity {score}, expected {norm}): the index is damaged or was filled by another model; rebuild it",
                hit.passage.ordinal, hit.key
            )));
        }
        Ok(())
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Reads every file of `directory` once, so that they are in memory when the first query maps
/// them; says how many bytes that is. Calls `between` after each [`TOUCHED_AT_ONCE`] bytes.
pub(crate) fn touch(directory: &Path, between: &mut dyn FnMut()) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let (mut total, mut due) = (0, TOUCHED_AT_ONCE);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A revision has no directories in it.
        if !entry.file_type()?.is_file() {
            continue;
        }
        let mut file = File::open(entry.path())?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => total += n as u64,
            }
            if total >= due {
                due = total + TOUCHED_AT_ONCE;
                between();
            }
        }
    }
    Ok(total)
}

/// A field of a request's filter, by where it stands.
fn of_request(error: IndexError) -> IndexError {
    match error {
        IndexError::Filter { field, reason } => IndexError::Filter {
            field: format!("filters.{field}"),
            reason,
        },
        other => other,
    }
}
