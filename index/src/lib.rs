//! Immutable index revisions: text and vectors of passages, searched together.
//!
//! [`assemble`] makes a revision from an earlier one and a [`Delta`]; [`Revision::open`] maps
//! it, [`Revision::search`] answers queries with passages and their citations.
//!
//! # On disk
//! A revision is a directory without subdirectories. No file is changed after the revision is
//! finished; revisions that follow one another share files by hard link.
//!
//! | file | content |
//! |---|---|
//! | `revision.json` | the manifest: format, identities, contentId, counts, the fusion unless it is the default, the segments below, tantivy's `meta.json`, size and SHA-256 of every other file. Written last, by rename: a directory without it is not a revision |
//! | `<id>.{idx,pos,term,fieldnorm,fast,store}` | a text segment (tantivy 0.27) |
//! | `<id>.<n>.del` | tombstones of a text segment: a bit set of its live passages |
//! | `<digest>.docs` | a segment's table of documents, JSON: `removed` keys of earlier segments, and `documents` with key, uri, version, memory, the uid of the first passage and the number of passages. Later tables win |
//! | `<digest>.vec` | a segment's vectors, little-endian: 64 bytes of header (`LOCIVEC1`, dimensions and rows as u64, zeros), uids (u64, ascending), chunk hashes (32 bytes each), zeros up to a multiple of 64, then rows of f32 |
//! | `<digest>.hnsw` | for segments of 8192 rows and more: their graph (usearch 2.26, inner product, f16, 16 links); keys are rows of the `.vec` file |
//!
//! `<digest>` is the first 32 digits of the content's SHA-256, `<id>` is random: except for
//! `revision.json`, two files of one name and size in successive revisions are the same file.
//!
//! A passage has a uid, given in order of arrival and never again. It names the passage in the
//! text index (a fast field) and in a vector segment; a document's passages have successive
//! uids, and uids ascend from segment to segment. A passage is live when its document's entry is
//! the last word of the tables; the text index marks all others as deleted.
//!
//! Each `assemble` adds one segment to text and vectors. Segments merge in tiers: one with those
//! before it that are less than twice its size, and by itself when more than a third is dead.
//! [`compact`] makes them one. A revision can be searched while others are made from it.
//!
//! The text schema: `uid`; `key` (SHA-256 of the document's key, by which it is deleted);
//! `source`, `document`, `uri`, `memory`, `version`, whole; `names` of metadata fields;
//! `metadata` (text, integers, booleans) and `times` (microseconds since 1970), JSON fields with
//! columns; `body`, the words of title, headings and text; `stored`, what an answer needs.
//!
//! `contentId` is the SHA-256 of the embedder's and the chunker's identities, of every live
//! document's source, name, version and chunk hashes, in the order of their keys, of the
//! fusion unless it is the default, and of the re-ranking if there is any. It does not depend
//! on the history of a revision; its files do.

mod assemble;
mod bits;
mod document;
mod documents;
mod draft;
mod error;
mod filter;
mod manifest;
mod revision;
mod search;
mod text;
mod tiers;
mod value;
mod vectors;

pub use assemble::{AssembleProgress, Phase, assemble, compact};
pub use document::{Delta, Document, DocumentKey, IndexedDocument, MAX_TERM_BYTES, Passage};
pub use error::{IndexError, Result};
pub use filter::{BUILT_IN_FIELDS, Bounds, Filter};
pub use manifest::{FORMAT, Identity, MANIFEST, RerankMethod, Reranking, RevisionInfo};
pub use revision::{DocumentRecord, Revision};
pub use search::{Fusion, Hit, Mode, Normalization, Query, SearchResult};
pub use value::MetaValue;
