use std::collections::BTreeMap;

use bytes::Bytes;
use loci_digest::Digest;

use super::state::{SourceState, spec_digest};
use super::{Entry, Limits, Listing, Probe, SourceError, Task, select::Select, skip};
use crate::document::Media;

/// A ConfigMap whose keys are documents.
#[derive(Clone, Debug, Default)]
pub struct ConfigMapSpec {
    /// Its name.
    pub name: String,
    /// `data`.
    pub data: BTreeMap<String, String>,
    /// `binaryData`, decoded.
    pub binary_data: BTreeMap<String, Vec<u8>>,
    /// Globs of the keys to read; empty: all.
    pub include: Vec<String>,
}

impl ConfigMapSpec {
    fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let text = self
            .data
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_bytes()));
        text.chain(
            self.binary_data
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice())),
        )
    }

    fn digest(&self, limits: &Limits) -> Digest {
        let contents: BTreeMap<_, _> = self
            .contents()
            .map(|(key, value)| (key, Digest::of(value)))
            .collect();
        spec_digest(&(&self.name, contents, &self.include, limits))
    }
}

pub(super) fn probe(
    spec: &ConfigMapSpec,
    limits: &Limits,
    previous: &SourceState,
) -> Result<Probe, SourceError> {
    Ok(match previous.seen::<()>(spec.digest(limits)) {
        Some(()) => Probe::Unchanged,
        None => Probe::Changed(format!("ConfigMap {} changed", spec.name)),
    })
}

pub(super) async fn snapshot(
    spec: &ConfigMapSpec,
    task: &Task<'_>,
) -> Result<Listing, SourceError> {
    let include = if spec.include.is_empty() {
        vec!["*".into()]
    } else {
        spec.include.clone()
    };
    let select = Select::new(&include, &[])?;
    let mut progress = super::SnapshotProgress::default();
    let (mut documents, mut skipped) = (Vec::new(), Vec::new());
    for (key, content) in spec.contents() {
        if select.media(key).is_none() {
            continue;
        }
        if let Some(reason) = task.limits.refuse_size(content.len() as u64) {
            skipped.push(skip(key, reason));
            continue;
        }
        let digest = task.put(Bytes::copy_from_slice(content)).await?;
        documents.push(Entry {
            document: key.to_owned(),
            uri: format!("configmap:{}/{key}", spec.name),
            version: digest.to_string(),
            media: Media::of_name(key).unwrap_or(Media::Text),
            bytes: content.len() as u64,
            digest,
            metadata: BTreeMap::new(),
        });
        task.limits.check_count(documents.len())?;
        progress.listed += 1;
        progress.fetched += 1;
        progress.bytes += content.len() as u64;
        (task.progress)(progress);
    }
    Ok(Listing {
        documents,
        state: SourceState::new(spec.digest(task.limits), &()),
        skipped,
    })
}
