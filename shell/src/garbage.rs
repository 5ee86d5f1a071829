//! The roots of all pipelines: one store is swept for all of them at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use loci_digest::Digest;

/// What each pipeline needs. Nothing is swept before every pipeline has said.
#[derive(Clone)]
pub struct Garbage {
    roots: Arc<Mutex<HashMap<String, Option<Vec<Digest>>>>>,
}

impl Garbage {
    /// For these pipelines.
    pub fn new(pipelines: impl IntoIterator<Item = String>) -> Self {
        Self {
            roots: Arc::new(Mutex::new(
                pipelines.into_iter().map(|p| (p, None)).collect(),
            )),
        }
    }

    /// One more pipeline: nothing is swept before it has said what it needs.
    pub fn expect(&self, pipeline: String) {
        self.roots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(pipeline)
            .or_default();
    }

    /// A pipeline that is gone needs nothing but what its record in the store names.
    pub fn forget(&self, pipeline: &str) {
        self.roots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(pipeline);
    }

    /// One pipeline says what it needs.
    pub fn put(&self, pipeline: String, roots: Vec<Digest>) {
        self.roots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pipeline, Some(roots));
    }

    /// Whether a pipeline has said what it needs.
    pub fn said(&self, pipeline: &str) -> bool {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(roots.get(pipeline), Some(Some(_)))
    }

    /// All roots, when every pipeline has said.
    pub fn all(&self) -> Option<Vec<Digest>> {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots
            .values()
            .cloned()
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_swept_before_every_pipeline_has_said_what_it_needs() {
        let garbage = Garbage::new(["a".to_owned(), "b".to_owned()]);
        garbage.put("a".to_owned(), vec![Digest::of("1")]);
        assert_eq!(garbage.all(), None);
        garbage.put("b".to_owned(), vec![Digest::of("2")]);
        assert_eq!(garbage.all().unwrap().len(), 2);
    }
}
