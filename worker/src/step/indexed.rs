//! Which entries of a source a revision was built from.

use std::collections::BTreeMap;

use loci_digest::Digest;
use loci_store::Store;

use super::corpus::Corpus;
use super::{REVISION, RevisionManifest, StepError};

/// The versions of a source's entries in a revision, by name; of those versions that are digests.
///
/// # Errors
/// When the revision is not in the store, or damaged.
pub async fn indexed(
    store: &Store,
    revision: &Digest,
    source: &str,
) -> Result<BTreeMap<String, Digest>, StepError> {
    let manifest: RevisionManifest = store.get_manifest(REVISION, revision).await?;
    let corpus: Corpus = serde_json::from_slice(&store.get(&manifest.corpus).await?)?;
    let entries = corpus.sources.get(source).into_iter();
    let entries = entries.flat_map(|corpus| &corpus.entries);
    let versions = entries.filter_map(|(id, e)| Some((id.clone(), e.version.parse().ok()?)));
    Ok(versions.collect())
}
