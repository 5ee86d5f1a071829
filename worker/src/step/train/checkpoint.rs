//! Where a training is, in the store: what it has come to is content as all else is, and a document says which of that
//! is the newest.
//!
//! What a document names is kept by every collection, so a training may wait for a worker as long as it has to. The
//! document is deleted when no run that wants it lives any more.

use std::collections::BTreeMap;

use bytes::Bytes;
use loci_digest::Digest;
use loci_store::{Store, StoreError, Version};
use serde::{Deserialize, Serialize};

use crate::step::StepError;

/// The kind of a checkpoint's manifest.
pub const CHECKPOINT: &str = "checkpoint";

/// Above the names of the documents.
const TRAINING: &str = "training/";

/// A training between two steps: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointManifest {
    /// What is trained.
    pub key: Digest,
    /// Steps that were made.
    pub step: usize,
    /// Blob: the adapter's weights, the optimiser's moments, settings and position.
    pub trainer: Digest,
    /// Blob: the curve so far.
    pub curve: Digest,
    /// On what it was computed.
    pub computed: Vec<Stretch>,
}

/// From which step on a training was computed on what. With more than one stretch it can be repeated but for rounding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Steps that were made before.
    pub from: usize,
    /// The build, the processor's instructions and the threads.
    pub on: String,
}

/// What the store keeps of a training that is under way, as the document `training/<key in hexadecimal>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// The pipeline, `namespace/name`.
    pub pipeline: String,
    /// The runs that want it, by name, each with the seconds on the device that it has used.
    pub runs: BTreeMap<String, f64>,
    /// The newest checkpoint's manifest.
    pub checkpoint: Digest,
    /// Steps that were made up to there.
    pub step: usize,
}

impl Training {
    /// The document of what `key` trains.
    pub fn name(key: &Digest) -> String {
        format!("{TRAINING}{}", key.to_hex())
    }

    /// Whether a document of this name is of a training. The name of no pipeline is as long, not even in a namespace of
    /// that name.
    pub fn is_name(name: &str) -> bool {
        let key = name.strip_prefix(TRAINING);
        key.is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok())
    }
}

/// What is left of a training for who goes on.
#[derive(Debug)]
pub(super) struct Left {
    pub step: usize,
    pub trainer: Bytes,
    pub curve: Bytes,
    pub computed: Vec<Stretch>,
}

/// One attempt's hand on a training's document.
pub(super) struct Desk<'a> {
    store: &'a Store,
    key: Digest,
    pipeline: &'a str,
    run: &'a str,
    found: Option<(Training, Version)>,
}

impl<'a> Desk<'a> {
    /// Sees what there is, and says that `run` wants it.
    pub async fn open(
        store: &'a Store,
        key: Digest,
        pipeline: &'a str,
        run: &'a str,
    ) -> Result<Self, StepError> {
        let name = Training::name(&key);
        let found = loop {
            let Some((mut there, version)) = store.document::<Training>(&name).await? else {
                break None;
            };
            if there.runs.contains_key(run) {
                break Some((there, version));
            }
            there.runs.insert(run.to_owned(), 0.0);
            let refs = [there.checkpoint];
            let put = store.put_document(&name, &refs, &there, Some(&version));
            if let Some(version) = put.await? {
                break Some((there, version));
            }
        };
        Ok(Self {
            store,
            key,
            pipeline,
            run,
            found,
        })
    }

    /// Seconds on the device that the run had used when the newest checkpoint was written.
    pub fn used(&self) -> f64 {
        let found = self.found.as_ref();
        let used = found.and_then(|(there, _)| there.runs.get(self.run));
        used.copied().unwrap_or(0.0)
    }

    /// What the newest checkpoint holds. One that is damaged is as good as none.
    pub async fn newest(&self) -> Result<Option<Left>, StepError> {
        let Some((there, _)) = &self.found else {
            return Ok(None);
        };
        match self.read(&there.checkpoint).await {
            Ok(left) => Ok(Some(left)),
            Err(error @ (StoreError::NotFound { .. } | StoreError::Corrupt { .. })) => {
                tracing::warn!(key = %self.key, %error, "a training begins anew: its checkpoint cannot be read");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&self, checkpoint: &Digest) -> Result<Left, StoreError> {
        let found = self
            .store
            .get_manifest::<CheckpointManifest>(CHECKPOINT, checkpoint);
        let manifest = found.await?;
        Ok(Left {
            step: manifest.step,
            trainer: self.store.get(&manifest.trainer).await?,
            curve: self.store.get(&manifest.curve).await?,
            computed: manifest.computed,
        })
    }

    /// Keeps what is left as the newest, with the dataset, which whoever goes on needs.
    ///
    /// Fails as [`StepError::Elsewhere`] when another attempt has come further: that one goes on.
    pub async fn keep(&mut self, left: Left, dataset: Digest, used: f64) -> Result<(), StepError> {
        let manifest = CheckpointManifest {
            key: self.key,
            step: left.step,
            trainer: self.store.put(left.trainer).await?,
            curve: self.store.put(left.curve).await?,
            computed: left.computed,
        };
        let refs = [manifest.trainer, manifest.curve, dataset];
        let stored = self.store.put_manifest(CHECKPOINT, &refs, &manifest);
        let checkpoint = stored.await?;
        self.put(checkpoint, left.step, used).await
    }

    async fn put(&mut self, checkpoint: Digest, step: usize, used: f64) -> Result<(), StepError> {
        let name = Training::name(&self.key);
        loop {
            let (there, version) = self.found.take().unzip();
            let mut runs = there.map(|there| there.runs).unwrap_or_default();
            runs.insert(self.run.to_owned(), used);
            let training = Training {
                pipeline: self.pipeline.to_owned(),
                runs,
                checkpoint,
                step,
            };
            let refs = [checkpoint];
            let put = self
                .store
                .put_document(&name, &refs, &training, version.as_ref());
            if let Some(version) = put.await? {
                self.found = Some((training, version));
                return Ok(());
            }
            // Somebody has written since. Who is further is the newest; the same steps come to the same.
            self.found = self.store.document(&name).await?;
            if let Some((there, _)) = &self.found
                && (there.step > step || there.step == step && there.checkpoint != checkpoint)
            {
                return Err(StepError::Elsewhere(format!(
                    "another attempt at this training is at step {}, and this one at step {step}",
                    there.step
                )));
            }
        }
    }
}

/// The stretches of a training that goes on at step `from`, on `on`.
pub(super) fn stretched(mut computed: Vec<Stretch>, from: usize, on: String) -> Vec<Stretch> {
    computed.retain(|stretch| stretch.from < from);
    if computed.last().is_none_or(|last| last.on != on) {
        computed.push(Stretch { from, on });
    }
    computed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_training_is_told_from_that_of_a_pipeline() {
        let name = Training::name(&Digest::of("key"));
        assert!(Training::is_name(&name), "{name}");
        for other in [
            "training/support",
            "agents/support",
            "training/",
            &format!("trainings/{}", Digest::of("key").to_hex()),
        ] {
            assert!(!Training::is_name(other), "{other}");
        }
    }

    #[test]
    fn a_stretch_ends_where_something_else_computes() {
        let stretch = |from, on: &str| Stretch {
            from,
            on: on.to_owned(),
        };
        let on = |computed: &[Stretch], from, name: &str| {
            stretched(computed.to_vec(), from, name.to_owned())
        };
        let first = on(&[], 0, "a");
        assert_eq!(first, [stretch(0, "a")]);
        assert_eq!(on(&first, 7, "a"), first);
        let second = on(&first, 7, "b");
        assert_eq!(second, [stretch(0, "a"), stretch(7, "b")]);
        // Nothing was computed between the two.
        assert_eq!(on(&second, 7, "a"), first);
        assert_eq!(on(&first, 0, "b"), [stretch(0, "b")]);
    }
}
