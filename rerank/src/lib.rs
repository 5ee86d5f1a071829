//! Re-ranking: the best of what a search found is compared with the query anew, by something slower and better, and put
//! into another order. Serving, evaluation and training do the same.
//!
//! [`Method::LateInteraction`] compares token by token, with the embedder's own vectors (ColBERT's MaxSim: Khattab and
//! Zaharia, 2020). [`Method::CrossEncoder`] has a model read query and passage together (Nogueira and Cho, 2019). Both
//! see of a passage what the embedder sees: title, headings and text.
//!
//! Serving gives each query a limit. What a passage costs is measured all the time; as many are compared as fit into the
//! limit by that, and when not even two do, or the time is over before all have been compared, the order stays.
//! Evaluation has no limit and compares all candidates, so that the same revision gets the same verdict on any machine.

mod pace;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loci_index::{Hit, RerankMethod as Method, Reranking};
use loci_models::{CrossEncoder, EmbedProgress, Encoder, ModelError, Role, max_sim};

use pace::Pace;

/// Changes when the same revision would give another order. What was computed from an order holds for one version.
pub const VERSION: u32 = 1;

/// Passages that there must be for an order.
const FEWEST: usize = 2;
/// Passages that are compared before the next are read: what is held of them is bounded, and the limit is seen in between.
const AT_ONCE: usize = 16;

/// Why a revision cannot be re-ranked as it says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(String);

/// Puts what one revision finds into another order. Share it by `Arc`.
#[derive(Debug)]
pub struct Reranker {
    model: Model,
    candidates: usize,
    budget: Duration,
    pace: Pace,
}

#[derive(Debug)]
enum Model {
    Late(Arc<Encoder>),
    Cross(Arc<CrossEncoder>),
}

/// What was found, in its order.
#[derive(Debug)]
pub struct Ranked {
    /// The passages, the best first. The score of those that were compared is that of [`Ranked::scores`], that of the
    /// others, which stand behind them, as it was.
    pub hits: Vec<Hit>,
    /// For each what the comparison gave, if it was compared.
    pub scores: Vec<Option<f32>>,
    /// What was done.
    pub outcome: Outcome,
}

/// What re-ranking did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many of the best have been put into another order.
    Applied(usize),
    /// The order is that of the search.
    Skipped(Skip),
}

/// Why the order is that of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// There is nothing to put in order.
    #[error("fewer than two passages were found")]
    Few,
    /// By what they cost so far.
    #[error(
        "the budget has no room for two passages: {left:?} are left, and one takes about {cost:?}"
    )]
    Budget {
        /// The limit.
        left: Duration,
        /// What a passage costs.
        cost: Duration,
    },
    /// They took longer than those before.
    #[error("the budget was over before all were compared: {left:?} were left")]
    Deadline {
        /// The limit.
        left: Duration,
    },
}

impl Reranker {
    /// Re-ranks as a revision says, with its embedder, or with `cross`.
    ///
    /// # Errors
    /// When the revision was judged with another cross-encoder, or needs one and there is none.
    pub fn new(
        says: &Reranking,
        encoder: &Arc<Encoder>,
        cross: Option<Arc<CrossEncoder>>,
    ) -> Result<Self, Misfit> {
        let model = match says.method {
            Method::LateInteraction => Model::Late(encoder.clone()),
            Method::CrossEncoder => {
                let missing = "it is re-ranked by a cross-encoder, and none is given: load it with the model that it names";
                let cross = cross.ok_or_else(|| Misfit(missing.to_owned()))?;
                let own = cross.identity().digest();
                if says.model != Some(own) {
                    let named = says.model.map_or("none".to_owned(), |d| d.to_string());
                    let reason = format!(
                        "it was judged with cross-encoder {named}, but the one given is {own}: load the model it was judged with, or have it judged anew"
                    );
                    return Err(Misfit(reason));
                }
                Model::Cross(cross)
            }
        };
        Ok(Self {
            model,
            candidates: says.candidates,
            budget: Duration::from_millis(says.budget_ms),
            pace: Pace::default(),
        })
    }

    /// How many of the best passages are compared.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// How long that may take when a query is answered.
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// Puts the best of `hits` into another order, within `limit` if there is one.
    ///
    /// # Errors
    /// When the model fails on these texts.
    pub fn rank(
        &self,
        query: &str,
        hits: Vec<Hit>,
        limit: Option<Duration>,
    ) -> Result<Ranked, ModelError> {
        let most = hits.len().min(self.candidates);
        if most < FEWEST {
            return Ok(unchanged(hits, Skip::Few));
        }
        let fitting = limit.map_or(most, |left| self.pace.fitting(left));
        let count = fitting.min(most);
        if count < FEWEST {
            let (left, cost) = (limit.unwrap_or_default(), self.pace.cost());
            self.pace.missed();
            return Ok(unchanged(hits, Skip::Budget { left, cost }));
        }
        let texts: Vec<String> = hits[..count].iter().map(text).collect();
        let (start, mut done) = (Instant::now(), 0);
        let scores = self.scores(query, &texts, &mut |progress| {
            done = progress.texts;
            let over = limit.is_some_and(|left| start.elapsed() > left);
            match over && done < count {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match scores {
            Ok(scores) => {
                self.pace.took(start.elapsed(), count);
                Ok(ordered(hits, &scores))
            }
            Err(ModelError::Cancelled) => {
                self.pace.took(start.elapsed(), done);
                let left = limit.unwrap_or_default();
                Ok(unchanged(hits, Skip::Deadline { left }))
            }
            Err(error) => Err(error),
        }
    }

    /// How well each of `texts` fits the query. `progress` counts them.
    fn scores(
        &self,
        query: &str,
        texts: &[String],
        progress: &mut dyn FnMut(EmbedProgress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, ModelError> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let asked = match &self.model {
            Model::Cross(_) => None,
            Model::Late(encoder) => {
                let mut going_on = |_| ControlFlow::Continue(());
                Some(encoder.token_vectors(&[query], Role::Query, &mut going_on)?)
            }
        };
        let asked = asked.as_ref().map_or(&[][..], |asked| asked.of(0));
        let mut scores = Vec::with_capacity(texts.len());
        for part in texts.chunks(AT_ONCE) {
            let before = scores.len();
            let mut counted = |done: EmbedProgress| {
                let texts = before + done.texts;
                progress(EmbedProgress { texts, ..done })
            };
            match &self.model {
                Model::Cross(cross) => scores.extend(cross.score(query, part, &mut counted)?),
                Model::Late(encoder) => {
                    let said = encoder.token_vectors(part, Role::Passage, &mut counted)?;
                    let score = |text| max_sim(asked, said.of(text), said.dimensions);
                    scores.extend((0..said.len()).map(score));
                }
            }
        }
        Ok(scores)
    }
}

/// What the embedder sees of a passage.
fn text(hit: &Hit) -> String {
    hit.passage.embedding_text(hit.title.as_deref())
}

fn unchanged(hits: Vec<Hit>, skip: Skip) -> Ranked {
    Ranked {
        scores: vec![None; hits.len()],
        hits,
        outcome: Outcome::Skipped(skip),
    }
}

/// The first of `hits` by their `scores`, those of equal scores as they stood, then the rest.
fn ordered(hits: Vec<Hit>, scores: &[f32]) -> Ranked {
    let scores = scores.iter().copied().map(Some);
    let scores = scores.chain(std::iter::repeat(None));
    let mut pairs: Vec<(Hit, Option<f32>)> = hits.into_iter().zip(scores).collect();
    let compared = pairs
        .iter()
        .take_while(|(_, score)| score.is_some())
        .count();
    if let Some(compared) = pairs.get_mut(..compared) {
        compared.sort_by(|(_, a), (_, b)| {
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            b.total_cmp(&a)
        });
    }
    for (hit, score) in &mut pairs {
        hit.score = score.unwrap_or(hit.score);
    }
    let (hits, scores) = pairs.into_iter().unzip();
    Ranked {
        hits,
        scores,
        outcome: Outcome::Applied(compared),
    }
}
