//! New revisions from old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::document::Delta;
use crate::documents::{Entry, Table, live};
use crate::draft::Draft;
use crate::error::{IndexError, Result, io_at};
use crate::manifest::{
    FORMAT, Identity, MANIFEST, Manifest, RevisionInfo, Segment, content_id, file_state,
};
use crate::search::Fusion;
use crate::text::{self, TextChange, TextState};
use crate::tiers::Merging;

/// What is being assembled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Passages enter the text index.
    Text,
    /// Vector segments merge.
    Vectors,
    /// Vectors enter a graph.
    Graph,
}

/// How far a phase has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssembleProgress {
    /// The phase.
    pub phase: Phase,
    /// Passages done; when segments merge, documents count as well.
    pub done: u64,
    /// What `done` comes to; in [`Phase::Graph`], for the segment at hand.
    pub total: u64,
}

/// What a new revision is made by, besides its documents.
struct Recipe {
    identity: Identity,
    fusion: Fusion,
    merging: Merging,
}

/// Writes to `out` the revision that `previous` becomes by `delta`; without `previous`, by
/// `delta` alone. Never in place: unchanged files are hard-linked (copied across devices) and
/// none of `previous` is written to, so that it can be searched all the while. `out` must not
/// exist or be empty; after an error it is gone. Searches of the new revision fuse as `fusion` says.
///
/// `progress` is told of each step; when it breaks, the result is [`IndexError::Cancelled`].
///
/// # Errors
/// A damaged `previous`, or one of another embedder or chunker; a delta that cannot be indexed
/// ([`IndexError::Document`] says what and why); files that cannot be written.
pub fn assemble(
    previous: Option<&Path>,
    delta: Delta,
    identity: &Identity,
    fusion: Fusion,
    out: &Path,
    progress: &mut dyn FnMut(AssembleProgress) -> ControlFlow<()>,
) -> Result<RevisionInfo> {
    delta.check(identity.dimensions)?;
    let previous = match previous {
        Some(dir) => Some((dir, Manifest::read(dir, false)?)),
        None => None,
    };
    if let Some((_, manifest)) = &previous {
        check_identity(&manifest.info, identity)?;
    }
    let recipe = Recipe {
        identity: identity.clone(),
        fusion,
        merging: Merging::Tiers,
    };
    write(previous, delta, &recipe, out, progress)
}

/// Writes to `out` what `previous` says as one segment, without what is dead in it. It takes the space of a revision that
/// is built of the same documents at once, and has its BM25 scores: other revisions count the words of passages that are
/// gone until their segments merge. Like [`assemble`] never in place.
///
/// # Errors
/// A damaged `previous`; files that cannot be written.
pub fn compact(
    previous: &Path,
    out: &Path,
    progress: &mut dyn FnMut(AssembleProgress) -> ControlFlow<()>,
) -> Result<RevisionInfo> {
    let manifest = Manifest::read(previous, false)?;
    let recipe = Recipe {
        identity: Identity {
            embedder: manifest.info.embedder,
            chunker: manifest.info.chunker,
            dimensions: manifest.info.dimensions,
            rerank: manifest.info.rerank.clone(),
        },
        fusion: manifest.fusion,
        merging: Merging::All,
    };
    let previous = Some((previous, manifest));
    write(previous, Delta::default(), &recipe, out, progress)
}

fn write(
    previous: Option<(&Path, Manifest)>,
    delta: Delta,
    recipe: &Recipe,
    out: &Path,
    progress: &mut dyn FnMut(AssembleProgress) -> ControlFlow<()>,
) -> Result<RevisionInfo> {
    prepare(out)?;
    let result = build(previous, delta, recipe, out, progress);
    if result.is_err() {
        let _ = fs::remove_dir_all(out);
    }
    result
}

fn check_identity(previous: &RevisionInfo, wanted: &Identity) -> Result<()> {
    let pairs = [
        (
            "embedder",
            previous.embedder.to_string(),
            wanted.embedder.to_string(),
        ),
        (
            "chunker",
            previous.chunker.to_string(),
            wanted.chunker.to_string(),
        ),
        (
            "vectors' dimension",
            previous.dimensions.to_string(),
            wanted.dimensions.to_string(),
        ),
    ];
    for (what, previous, wanted) in pairs {
        if previous != wanted {
            return Err(IndexError::Identity {
                what,
                previous,
                wanted,
            });
        }
    }
    Ok(())
}

fn prepare(out: &Path) -> Result<()> {
    fs::create_dir_all(out).map_err(io_at("create", out))?;
    match fs::read_dir(out).map_err(io_at("list", out))?.next() {
        Some(_) => Err(IndexError::OutputInUse(out.to_owned())),
        None => Ok(()),
    }
}

fn build(
    previous: Option<(&Path, Manifest)>,
    mut delta: Delta,
    recipe: &Recipe,
    out: &Path,
    progress: &mut dyn FnMut(AssembleProgress) -> ControlFlow<()>,
) -> Result<RevisionInfo> {
    let mut draft = Draft {
        out,
        dimensions: recipe.identity.dimensions,
        segments: Vec::new(),
        tables: Vec::new(),
        files: BTreeMap::new(),
    };
    let mut next_uid = 0;
    let mut text = None;
    if let Some((dir, manifest)) = previous {
        link(dir, out, &manifest)?;
        draft.tables = manifest
            .segments
            .iter()
            .map(|s| Table::read(dir, &s.documents))
            .collect::<Result<_>>()?;
        (draft.segments, draft.files, next_uid, text) = (
            manifest.segments,
            manifest.files,
            manifest.next_uid,
            Some(manifest.text),
        );
    }
    delta
        .upsert
        .sort_by(|a, b| a.document.key.cmp(&b.document.key));

    let mut report = |phase, done, total| progress(AssembleProgress { phase, done, total });
    let table = table(&draft.tables, &delta, &mut next_uid);
    let documents = delta.upsert.iter().map(|indexed| &indexed.document);
    let uids = table.documents.iter().map(|entry| entry.uid);
    let change = TextChange {
        removed: table.removed.iter().collect(),
        added: uids.zip(documents).collect(),
        merging: recipe.merging,
    };
    let total = table.documents.iter().map(|entry| entry.passages).sum();
    let text = text::write(out, text.as_ref(), &change, &mut |done| {
        report(Phase::Text, done, total)
    })?;
    if !table.is_empty() {
        draft.push(table, &delta.upsert)?;
    }
    draft.compact(recipe.merging, &mut |done, total| {
        report(Phase::Vectors, done, total)
    })?;
    draft.grow_graphs(&mut |done, total| report(Phase::Graph, done, total))?;
    seal(draft, text, recipe, next_uid)
}

/// The table of the new segment. `next_uid` moves past its passages.
fn table(tables: &[Table], delta: &Delta, next_uid: &mut u64) -> Table {
    let known = live(tables);
    let gone = delta
        .remove
        .iter()
        .chain(delta.upsert.iter().map(|indexed| &indexed.document.key));
    let removed: BTreeSet<_> = gone
        .filter(|key| known.contains_key(key))
        .cloned()
        .collect();
    let mut documents = Vec::with_capacity(delta.upsert.len());
    for indexed in &delta.upsert {
        let entry = Entry::new(&indexed.document, *next_uid);
        *next_uid = entry.uids().end;
        documents.push(entry);
    }
    Table { removed, documents }
}

/// Hard-links the files of the revision in `from` into `to`.
fn link(from: &Path, to: &Path, manifest: &Manifest) -> Result<()> {
    for file in manifest.files.keys() {
        let (old, new) = (from.join(file), to.join(file));
        match fs::hard_link(&old, &new) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(e),
            Err(_) => fs::copy(&old, &new).map(|_| ()),
            Ok(()) => Ok(()),
        }
        .map_err(io_at("link or copy", &old))?;
    }
    Ok(())
}

/// Drops what the revision does not need and writes the manifest.
fn seal(draft: Draft<'_>, text: TextState, recipe: &Recipe, next_uid: u64) -> Result<RevisionInfo> {
    let contents = draft.contents()?;
    let (documents, passages) = (
        contents.len() as u64,
        contents.iter().map(|(entry, _)| entry.passages).sum(),
    );
    let Recipe {
        identity, fusion, ..
    } = recipe;
    let content_id = content_id(identity, fusion, contents.into_iter());
    let mut files = BTreeMap::new();
    for file in text
        .files
        .iter()
        .chain(draft.segments.iter().flat_map(Segment::files))
    {
        let state = match draft.files.get(file) {
            Some(state) => state.clone(),
            None => file_state(&draft.out.join(file))?,
        };
        files.insert(file.clone(), state);
    }
    for entry in fs::read_dir(draft.out).map_err(io_at("list", draft.out))? {
        let path = entry.map_err(io_at("list", draft.out))?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name != MANIFEST && !files.contains_key(&name) {
            fs::remove_file(&path).map_err(io_at("remove", &path))?;
        }
    }
    let info = RevisionInfo {
        format: FORMAT,
        content_id,
        embedder: identity.embedder,
        chunker: identity.chunker,
        dimensions: identity.dimensions,
        rerank: identity.rerank.clone(),
        documents,
        passages,
        bytes: files.values().map(|state| state.size).sum(),
    };
    let manifest = Manifest {
        info,
        fusion: *fusion,
        next_uid,
        text,
        segments: draft.segments,
        files,
    };
    manifest.write(draft.out)?;
    Ok(manifest.info)
}
