//! What a release is composed of: what serves, with the component replaced that a run built.

use loci_crds::release::{AdapterComponent, EmbedderComponent, IndexComponent};

use crate::view::{Lane, View, components, composition};
use crate::world::Assembled;

/// The components of a release that is to be.
pub(crate) struct Composed {
    pub index: IndexComponent,
    pub embedder: EmbedderComponent,
    pub adapters: Vec<AdapterComponent>,
}

impl Composed {
    /// What serves, with another index.
    pub fn with_index(view: &View<'_>, assembled: &Assembled) -> Self {
        Self {
            index: IndexComponent {
                revision: assembled.revision.to_string(),
                content_id: assembled.content_id.to_string(),
                documents: assembled.documents as i64,
                passages: assembled.passages as i64,
            },
            embedder: EmbedderComponent {
                model: view.pipeline.model.clone(),
                identity: assembled.embedder.to_string(),
            },
            adapters: view
                .desired()
                .map(|d| d.spec.adapters.clone())
                .unwrap_or_default(),
        }
    }

    /// The identity of all of them.
    pub fn composition(&self) -> String {
        composition(&components(&self.index.content_id, &self.adapters))
    }

    /// The component of a lane, by digest.
    pub fn component(&self, lane: Lane<'_>) -> Option<&str> {
        let all = components(&self.index.content_id, &self.adapters);
        all.get(lane.component()).copied()
    }
}
