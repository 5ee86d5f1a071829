use loci_digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a source looked like when it was listed: commit, entity tags, file times. Opaque; kept beside
/// the listing and handed back with the next probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceState(Value);

#[derive(Serialize)]
struct Written<'a, T> {
    spec: Digest,
    seen: &'a T,
}

impl SourceState {
    /// The state `seen` of a source that is declared as `spec` digests.
    pub(super) fn new<T: Serialize>(spec: Digest, seen: &T) -> Self {
        Self(serde_json::to_value(Written { spec, seen }).unwrap_or_default())
    }

    /// What was seen; `None` when the source was declared otherwise then.
    pub(super) fn seen<T: DeserializeOwned>(&self, spec: Digest) -> Option<T> {
        let declared = Digest::deserialize(self.0.get("spec")?).ok()?;
        (declared == spec).then(|| T::deserialize(self.0.get("seen")?).ok())?
    }
}

/// Digest of what a source's listing depends on.
pub(super) fn spec_digest(parts: &impl Serialize) -> Digest {
    Digest::of_json(parts).unwrap_or_else(|_| Digest::of(""))
}
