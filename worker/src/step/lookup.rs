//! What a revision finds, as serving finds it.

use std::ops::ControlFlow;
use std::sync::Arc;

use loci_digest::Digest;
use loci_index::{Filter, Hit, Mode, Query, Revision};
use loci_models::{Encoder, Role};
use loci_prompt::{PASSAGES, question};

use super::evaluate::cancelled;
use super::{StepContext, StepError, blocking};
use crate::example::Message;
use crate::passages::turns;

/// An opened revision, with the model that filled it.
pub(super) struct Lookup {
    revision: Revision,
    encoder: Arc<Encoder>,
}

impl Lookup {
    pub async fn open(context: &StepContext, revision: &Digest) -> Result<Self, StepError> {
        let manifest = context.revisions.manifest(revision).await?;
        let encoder = context.encoders.get(&manifest.model).await?;
        let directory = context.revisions.directory(revision).await?;
        let revision = blocking(move || Ok(Revision::open(&directory)?)).await?;
        Ok(Self { revision, encoder })
    }

    /// The best `k` passages for a question.
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
            k,
            filter,
            mode: Mode::Hybrid,
            exact: false,
        })?;
        Ok(found.hits)
    }

    /// The passages for the last question of a chat, as many as serving looks up when nobody says how many.
    pub fn passages(&self, messages: &[Message]) -> Result<Vec<Hit>, StepError> {
        let turns = turns(messages);
        let asked = question(&turns).map(|text| self.hits(text, PASSAGES, None));
        asked.unwrap_or_else(|| Ok(Vec::new()))
    }
}
