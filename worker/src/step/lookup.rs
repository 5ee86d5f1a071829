//! What a revision finds, as serving finds it.

use std::ops::ControlFlow;
use std::sync::Arc;

use loci_digest::Digest;
use loci_index::{Filter, Hit, Mode, Query, Revision};
use loci_models::{Encoder, Role};
use loci_prompt::{PASSAGES, question};
use loci_rerank::Reranker;
use serde::Serialize;

use super::evaluate::cancelled;
use super::{StepContext, StepError, blocking};
use crate::example::Message;
use crate::passages::turns;

/// An opened revision, with the model that filled it.
pub(super) struct Lookup {
    revision: Revision,
    encoder: Arc<Encoder>,
    /// What puts the passages into another order, if the revision says so.
    reranker: Option<Reranker>,
}

/// The key of what was computed from passages of a revision, given the version by which they are put into another order.
pub(super) fn key(of: &impl Serialize, order: Option<u32>) -> Result<Digest, StepError> {
    Ok(match order {
        None => Digest::of_json(of)?,
        Some(order) => Digest::of_json(&(of, order))?,
    })
}

impl Lookup {
    pub async fn open(context: &StepContext, revision: &Digest) -> Result<Self, StepError> {
        let manifest = context.revisions.manifest(revision).await?;
        let encoder = context.encoders.get(&manifest.model).await?;
        let reranker = match &manifest.info.rerank {
            Some(says) => {
                let cross = match &manifest.cross_encoder {
                    Some(model) => Some(context.encoders.cross_encoder(model).await?),
                    None => None,
                };
                let reranker = Reranker::new(says, &encoder, cross);
                Some(reranker.map_err(|e| StepError::Rerank(e.to_string()))?)
            }
            None => None,
        };
        let directory = context.revisions.directory(revision).await?;
        let revision = blocking(move || Ok(Revision::open(&directory)?)).await?;
        Ok(Self {
            revision,
            encoder,
            reranker,
        })
    }

    /// The best `k` passages for a question. All candidates are compared, whatever that takes.
    pub fn hits(
        &self,
        question: &str,
        k: usize,
        filter: Option<Filter>,
    ) -> Result<Vec<Hit>, StepError> {
        let embedded = self
            .encoder
            .embed(&[question], Role::Query, &mut |_| ControlFlow::Continue(()))
            .map_err(cancelled)?;
        let found = self.revision.search(&Query {
            text: question,
            vector: Some(&embedded.vectors),
            k: self.reranker.as_ref().map_or(k, |r| r.candidates().max(k)),
            filter,
            mode: Mode::Hybrid,
            exact: false,
        })?;
        let mut hits = match &self.reranker {
            Some(reranker) => {
                let ranked = reranker.rank(question, found.hits, None);
                ranked.map_err(cancelled)?.hits
            }
            None => found.hits,
        };
        hits.truncate(k);
        Ok(hits)
    }

    /// The passages for the last question of a chat, as many as serving looks up when nobody says how many.
    pub fn passages(&self, messages: &[Message]) -> Result<Vec<Hit>, StepError> {
        let turns = turns(messages);
        let asked = question(&turns).map(|text| self.hits(text, PASSAGES, None));
        asked.unwrap_or_else(|| Ok(Vec::new()))
    }
}
