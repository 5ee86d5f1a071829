//! `revision.json`: what a revision is made of.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use loci_digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::documents::Entry;
use crate::error::{IndexError, Result, io_at};
use crate::search::Fusion;
use crate::text::TextState;

/// The manifest's file name. It is the only file of a revision whose name says nothing about
/// its content.
pub const MANIFEST: &str = "revision.json";

/// The format that this version reads and writes.
pub const FORMAT: u32 = 1;

/// What a revision is made by. All but the re-ranking must be equal for two revisions to share passages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The embedder's identity.
    pub embedder: Digest,
    /// The chunker's identity.
    pub chunker: Digest,
    /// Numbers in a vector.
    pub dimensions: usize,
    /// How what is found is put into another order, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<Reranking>,
}

/// How the best of what a search finds is put into another order. A revision says so, and by it is another revision; who
/// asks it does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reranking {
    /// How passages are compared with the query.
    pub method: RerankMethod,
    /// The identity of the model that compares them, unless it is the embedder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// How many of the best passages are compared.
    pub candidates: usize,
    /// How long that may take when a query is answered, in milliseconds.
    pub budget_ms: u64,
}

/// How passages are compared with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RerankMethod {
    /// Token by token, with the embedder's vectors.
    LateInteraction,
    /// By a model that reads both together.
    CrossEncoder,
}

impl RerankMethod {
    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LateInteraction => "lateInteraction",
            Self::CrossEncoder => "crossEncoder",
        }
    }
}

/// A revision in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionInfo {
    /// Format of the directory.
    pub format: u32,
    /// Digest of what the revision says: its documents (key, version, chunk hashes), the
    /// chunker, the embedder, the fusion unless it is the default, and the re-ranking if there is any. Revisions with the
    /// same inputs have the same, whatever their
    /// history.
    pub content_id: Digest,
    /// The embedder's identity.
    pub embedder: Digest,
    /// The chunker's identity.
    pub chunker: Digest,
    /// Numbers in a vector.
    pub dimensions: usize,
    /// How what is found is put into another order, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<Reranking>,
    /// Live documents.
    pub documents: u64,
    /// Live passages.
    pub passages: u64,
    /// Bytes of all files but the manifest.
    pub bytes: u64,
}

/// Size and digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// The files of a vector segment and its table of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) documents: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vectors: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
}

impl Segment {
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        [
            Some(&self.documents),
            self.vectors.as_ref(),
            self.graph.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(flatten)]
    pub(crate) info: RevisionInfo,
    /// How searches fuse.
    #[serde(default, skip_serializing_if = "Fusion::is_default")]
    pub(crate) fusion: Fusion,
    /// The uid of the next passage to be added.
    pub(crate) next_uid: u64,
    pub(crate) text: TextState,
    /// Oldest first; their uids ascend from one to the next.
    pub(crate) segments: Vec<Segment>,
    pub(crate) files: BTreeMap<String, FileState>,
}

impl Manifest {
    /// Reads the manifest of `dir` and checks that every file is there with its size, and with
    /// its digest when `digests`.
    pub(crate) fn read(dir: &Path, digests: bool) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(IndexError::NoRevision(dir.to_owned()));
            }
            other => other.map_err(io_at("read", &path))?,
        };
        let damaged = |e: serde_json::Error| IndexError::Damaged {
            dir: dir.to_owned(),
            file: MANIFEST.into(),
            reason: e.to_string(),
        };
        let raw: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        match raw.get("format").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(FORMAT) => {
                return Err(IndexError::Format {
                    dir: dir.to_owned(),
                    found,
                    expected: FORMAT,
                });
            }
            _ => {}
        }
        let manifest: Self = serde_json::from_value(raw).map_err(damaged)?;
        manifest.check_files(dir, digests)?;
        Ok(manifest)
    }

    fn check_files(&self, dir: &Path, digests: bool) -> Result<()> {
        let damaged = |file: &String, reason: String| IndexError::Damaged {
            dir: dir.to_owned(),
            file: file.clone(),
            reason,
        };
        for (file, state) in &self.files {
            if file.contains(['/', '\\']) {
                return Err(damaged(file, "a file outside the revision".into()));
            }
            let path = dir.join(file);
            let size = match fs::metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(damaged(file, "it is missing".into()));
                }
                other => other.map_err(io_at("read", &path))?.len(),
            };
            if size != state.size {
                return Err(damaged(
                    file,
                    format!("it has {size} bytes instead of {}", state.size),
                ));
            }
            if digests {
                let found = file_state(&path)?.digest;
                if found != state.digest {
                    return Err(damaged(
                        file,
                        format!("its digest is {found} instead of {}", state.digest),
                    ));
                }
            }
        }
        let named = self
            .text
            .files
            .iter()
            .chain(self.segments.iter().flat_map(Segment::files));
        match named
            .into_iter()
            .find(|file| !self.files.contains_key(*file))
        {
            Some(file) => Err(damaged(
                file,
                "the manifest names it without its size and digest".into(),
            )),
            None => Ok(()),
        }
    }

    /// Writes the manifest, which makes the directory a revision.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let (path, partial) = (dir.join(MANIFEST), dir.join("revision.json.partial"));
        let json = serde_json::to_vec_pretty(self).map_err(|e| IndexError::Io {
            action: "write",
            path: path.clone(),
            source: e.into(),
        })?;
        fs::write(&partial, json).map_err(io_at("write", &partial))?;
        fs::rename(&partial, &path).map_err(io_at("write", &path))
    }
}

pub(crate) fn file_state(path: &Path) -> Result<FileState> {
    let file = File::open(path).map_err(io_at("read", path))?;
    let (digest, size) = Digest::of_reader(file).map_err(io_at("read", path))?;
    Ok(FileState { size, digest })
}

/// The content id of `documents`, which are in the order of their keys, each with the hashes
/// of its passages in order.
pub(crate) fn content_id<'a>(
    identity: &Identity,
    fusion: &Fusion,
    documents: impl Iterator<Item = (&'a Entry, Vec<Digest>)>,
) -> Digest {
    let mut hasher = Hasher::default();
    let text = |hasher: &mut Hasher, text: &str| {
        hasher
            .update((text.len() as u64).to_le_bytes())
            .update(text);
    };
    hasher
        .update("loci-index-content-1")
        .update(identity.embedder.as_bytes())
        .update(identity.chunker.as_bytes());
    for (entry, chunks) in documents {
        text(&mut hasher, &entry.key.source);
        text(&mut hasher, &entry.key.document);
        text(&mut hasher, &entry.version);
        hasher.update((chunks.len() as u64).to_le_bytes());
        for chunk in chunks {
            hasher.update(chunk.as_bytes());
        }
    }
    if !fusion.is_default() {
        text(&mut hasher, fusion.normalization().name());
        hasher.update(fusion.dense_weight().to_le_bytes());
    }
    if let Some(rerank) = &identity.rerank {
        text(&mut hasher, "rerank");
        text(&mut hasher, rerank.method.name());
        if let Some(model) = &rerank.model {
            hasher.update(model.as_bytes());
        }
        hasher
            .update((rerank.candidates as u64).to_le_bytes())
            .update(rerank.budget_ms.to_le_bytes());
    }
    hasher.finish()
}
