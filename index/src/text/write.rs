//! The text side of assembling.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tantivy::index::SegmentMeta;
use tantivy::{Index, IndexSettings, IndexWriter, Term};

use super::directory::RevisionDirectory;
use super::{ANALYZER, analyzer, schema, tantivy_document};
use crate::document::{Document, DocumentKey};
use crate::error::{IndexError, Result};
use crate::tiers::{Merging, Size};

/// Memory for postings before they are flushed as a segment.
const BUFFER_BYTES: usize = 64 << 20;

/// What to change.
pub(crate) struct TextChange<'a> {
    /// Documents of the previous revision that it must no longer show.
    pub(crate) removed: Vec<&'a DocumentKey>,
    /// Documents to add, each with the uid of its first passage.
    pub(crate) added: Vec<(u64, &'a Document)>,
    /// Which segments merge then.
    pub(crate) merging: Merging,
}

impl TextChange<'_> {
    fn is_empty(&self) -> bool {
        let nothing = |(_, document): &(u64, &Document)| document.passages.is_empty();
        self.removed.is_empty() && self.added.iter().all(nothing)
    }
}

/// The text index as the manifest records it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TextState {
    /// tantivy's `meta.json`.
    pub(crate) meta: Value,
    /// The files it names.
    pub(crate) files: Vec<String>,
}

/// Applies `change` to the text index `previous`, whose files are in `dir`. New files are
/// added; none is changed. `progress` is told the passages added so far.
pub(crate) fn write(
    dir: &Path,
    previous: Option<&TextState>,
    change: &TextChange<'_>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<TextState> {
    let directory = RevisionDirectory::open(
        dir,
        previous.map(|state| state.meta.to_string().into_bytes()),
    )?;
    let index = match previous {
        Some(_) => Index::open(directory.clone())?,
        None => Index::create(directory.clone(), schema().0, IndexSettings::default())?,
    };
    index.tokenizers().register(ANALYZER, analyzer());
    if !change.is_empty() || change.merging == Merging::All {
        let mut writer: IndexWriter = index.writer_with_num_threads(1, BUFFER_BYTES)?;
        writer.set_merge_policy(Box::new(tantivy::merge_policy::NoMergePolicy));
        apply(&mut writer, change, progress)?;
        writer.commit()?;
        merge(&index, &mut writer, change.merging)?;
        writer.wait_merging_threads()?;
    }
    state(dir, &index, &directory)
}

fn apply(
    writer: &mut IndexWriter,
    change: &TextChange<'_>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<()> {
    let fields = schema().1;
    for key in &change.removed {
        writer.delete_term(Term::from_field_text(fields.key, &key.term()));
    }
    let mut done = 0;
    for &(first, document) in &change.added {
        for (uid, passage) in (first..).zip(&document.passages) {
            let entry = tantivy_document(&fields, uid, document, passage)
                .map_err(|e| document.error("passages", e.to_string()))?;
            writer.add_document(entry)?;
        }
        done += document.passages.len() as u64;
        if progress(done).is_break() {
            return Err(IndexError::Cancelled);
        }
    }
    Ok(())
}

fn merge(index: &Index, writer: &mut IndexWriter, merging: Merging) -> Result<()> {
    let mut segments = index.searchable_segment_metas()?;
    segments.sort_by_key(|segment| (std::cmp::Reverse(segment.num_docs()), segment.id()));
    let sizes: Vec<Size> = segments.iter().map(size).collect();
    for run in merging.runs(&sizes) {
        let ids: Vec<_> = segments[run].iter().map(SegmentMeta::id).collect();
        writer.merge(&ids).wait()?;
    }
    Ok(())
}

fn size(segment: &SegmentMeta) -> Size {
    Size {
        live: segment.num_docs().into(),
        dead: segment.num_deleted_docs().into(),
    }
}

fn state(dir: &Path, index: &Index, directory: &RevisionDirectory) -> Result<TextState> {
    let named = index.load_metas()?.list_segment_files();
    let mut files: Vec<String> = named
        .iter()
        .filter(|file| dir.join(file).is_file())
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    files.sort_unstable();
    let meta = directory.meta().unwrap_or_default();
    let meta = serde_json::from_slice(&meta)
        .map_err(|e| tantivy::TantivyError::InternalError(format!("meta.json: {e}")))?;
    Ok(TextState { meta, files })
}
