//! A log as one process knows it, and how it is read and continued in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loci_digest::Digest;
use loci_store::{Store, Version};
use serde::{Deserialize, Serialize};

use crate::change::Document;
use crate::decide::Backlog;
use crate::error::PushError;
use crate::name;
use crate::state::{Op, State};

/// The kind of the manifest that a state is saved as.
const KIND: &str = "push";
/// The state is saved after so many commits, the fewest and the most; in between, after as many as a part of its documents:
/// saving takes a time for each of those.
const SAVED_AFTER: (u64, u64) = (64, 1024);
const PART: u64 = 16;

/// A commit: a document of the store.
#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    /// Digest of `ops`.
    sum: Digest,
    ops: Vec<Op>,
}

/// Where a saved state is: a document of the store.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The last commit that is in it.
    through: u64,
    /// Its manifest.
    state: Digest,
}

/// A saved state.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    commit: u64,
    documents: BTreeMap<String, Document>,
}

/// What one process knows of a log.
pub(crate) struct Tail {
    store: Store,
    name: String,
    pub(crate) state: Arc<State>,
    pub(crate) backlog: Backlog,
    /// The last commit that is saved.
    saved: u64,
}

impl Tail {
    /// Of the log `name`, of which nothing was read yet.
    pub(crate) fn new(store: Store, name: String) -> Self {
        Self {
            store,
            name,
            state: Arc::default(),
            backlog: Backlog::default(),
            saved: 0,
        }
    }

    /// Reads what others wrote.
    pub(crate) async fn refresh(&mut self) -> Result<(), PushError> {
        let mut first = self.state.commit + 1;
        loop {
            while let Some(ops) = self.read(self.state.commit + 1).await? {
                self.apply(ops);
            }
            // Between the look at the head and that at a commit, both may have become others: a commit whose number
            // the head covers counts only as a part of the saved state.
            match self.head().await? {
                Some((head, _)) if head.through >= first => {
                    self.load(&head).await?;
                    first = head.through + 1;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Continues the log. False when another process did so first: then decide anew, after a refresh.
    pub(crate) async fn append(&mut self, ops: Vec<Op>) -> Result<bool, PushError> {
        let number = self.state.commit + 1;
        let sum = name::sum(&ops);
        let contents = ops.iter().filter_map(|op| Some(op.put.as_ref()?.content));
        let contents: BTreeSet<Digest> = contents.collect();
        let refs: Vec<Digest> = contents.into_iter().collect();
        let (at, commit) = (name::commit(&self.name, number), Commit { sum, ops });
        let written = self.store.put_document(&at, &refs, &commit, None).await?;
        if written.is_none() {
            return Ok(false);
        }
        // Who is slow may have written where a commit was that is saved and deleted by now.
        if let Some((head, _)) = self.head().await?
            && head.through >= number
        {
            return Ok(false);
        }
        self.apply(commit.ops);
        Ok(true)
    }

    /// Saves the state when that is due, and deletes the commits that are in it. What fails is told in the log and done
    /// with a later commit: nothing is lost but time.
    pub(crate) async fn tidy(&mut self) {
        let (least, most) = SAVED_AFTER;
        let after = (self.state.documents.len() as u64 / PART).clamp(least, most);
        if self.state.commit - self.saved < after {
            return;
        }
        if let Err(error) = self.save().await {
            tracing::warn!(
                log = self.name,
                "the documents' log could not be shortened: {error}"
            );
        }
    }

    async fn save(&mut self) -> Result<(), PushError> {
        let (documents, through) = (&self.state.documents, self.state.commit);
        let contents: BTreeSet<Digest> = documents.values().map(|k| k.document.content).collect();
        let refs: Vec<Digest> = contents.into_iter().collect();
        let saved = Saved {
            commit: through,
            documents: documents
                .iter()
                .map(|(id, kept)| (id.clone(), kept.document.clone()))
                .collect(),
        };
        let state = self.store.put_manifest(KIND, &refs, &saved).await?;
        let before = self.head().await?;
        let further = before.as_ref().is_some_and(|(h, _)| h.through >= through);
        if !further {
            let head = Head { through, state };
            let over = before.as_ref().map(|(_, version)| version);
            let at = name::head(&self.name);
            let put = self.store.put_document(&at, &[state], &head, over).await?;
            if put.is_none() {
                // Another process saves.
                return Ok(());
            }
        }
        self.saved = through;
        for name in self.store.documents_below(&self.name).await? {
            if name::number(&self.name, &name).is_some_and(|number| number <= through) {
                name::delete(&self.store, &name).await?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, ops: Vec<Op>) {
        // A reader keeps the state that it has.
        let state = Arc::make_mut(&mut self.state);
        state.commit += 1;
        for op in ops {
            let id = op.id.clone();
            state.apply(op);
            self.backlog.note(&id, state.version(&id));
        }
    }

    async fn read(&self, number: u64) -> Result<Option<Vec<Op>>, PushError> {
        let name = name::commit(&self.name, number);
        let Some((commit, _)) = self.store.document::<Commit>(&name).await? else {
            return Ok(None);
        };
        match name::sum(&commit.ops) == commit.sum {
            true => Ok(Some(commit.ops)),
            false => Err(PushError::Damaged { name }),
        }
    }

    async fn head(&self) -> Result<Option<(Head, Version)>, PushError> {
        let name = name::head(&self.name);
        Ok(self.store.document::<Head>(&name).await?)
    }

    async fn load(&mut self, head: &Head) -> Result<(), PushError> {
        let saved: Saved = self.store.get_manifest(KIND, &head.state).await?;
        if saved.commit != head.through {
            let name = name::head(&self.name);
            return Err(PushError::Damaged { name });
        }
        let documents = saved.documents.into_iter();
        let state = State {
            commit: saved.commit,
            documents: documents.map(|(id, d)| (id, d.into())).collect(),
        };
        self.backlog = Backlog::new(&state, self.backlog.indexed().clone());
        self.state = Arc::new(state);
        self.saved = head.through;
        Ok(())
    }
}
