//! `loci.json`, beside the files that PEFT knows: what the adapter belongs to, and how it came to be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::{DecoderIdentity, ModelError, TrainingRecord};

pub(super) const MANIFEST: &str = "loci.json";

/// The version of `loci.json` that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The model that an adapter belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterBase {
    /// The digest of its weights.
    pub weights: Digest,
    /// The network: sizes, epsilon, positions.
    pub architecture: String,
    /// The digest of the tokenizer that the adapter was trained with.
    pub tokenizer: Digest,
    /// The digest of the chat template that it was trained with.
    pub chat_template: Option<Digest>,
}

impl From<&DecoderIdentity> for AdapterBase {
    fn from(identity: &DecoderIdentity) -> Self {
        Self {
            weights: identity.weights,
            architecture: identity.architecture.clone(),
            tokenizer: identity.tokenizer,
            chat_template: identity.chat_template,
        }
    }
}

impl AdapterBase {
    /// Refuses a model with other weights, or that computes otherwise with them. `what` names the adapter in the
    /// message.
    pub(crate) fn check(&self, identity: &DecoderIdentity, what: &str) -> Result<(), ModelError> {
        let refuse = |own: &dyn ToString, models: &dyn ToString| ModelError::OtherBase {
            adapter: what.to_owned(),
            base: own.to_string(),
            model: models.to_string(),
        };
        if self.weights != identity.weights {
            return Err(refuse(&self.weights, &identity.weights));
        }
        if self.architecture != identity.architecture {
            return Err(refuse(&self.architecture, &identity.architecture));
        }
        Ok(())
    }
}

/// What `loci.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    version: u32,
    pub base: AdapterBase,
    /// The digests of the other files.
    files: BTreeMap<String, Digest>,
    pub training: Option<TrainingRecord>,
}

impl Manifest {
    pub fn new(
        base: AdapterBase,
        training: Option<TrainingRecord>,
        files: &[(&'static str, Vec<u8>)],
    ) -> Self {
        let digests = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), Digest::of(bytes)));
        Self {
            version: VERSION,
            base,
            files: digests.collect(),
            training,
        }
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let written = serde_json::to_vec_pretty(self);
        written.map_err(|e| ModelError::Compute(format!("{MANIFEST} cannot be written: {e}")))
    }

    /// The manifest in `dir`, with its digest, if there is one. The files that it names must be those that are there.
    pub fn read(dir: &Path, names: &[&str]) -> Result<Option<(Self, Digest)>, ModelError> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(|e| ModelError::io(&path, e))?;
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|e| ModelError::config(&path, e.to_string()))?;
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(ModelError::unsupported(&path, "version", version, "1"));
        }
        for name in names {
            let Some(expected) = manifest.files.get(*name) else {
                let reason =
                    format!("names no digest of {name}; take the adapter's files together");
                return Err(ModelError::config(&path, reason));
            };
            let file = dir.join(name);
            let bytes = fs::read(&file)
                .map_err(|e| ModelError::opening(&file, "a part of the adapter", e))?;
            let got = Digest::of(&bytes);
            if got != *expected {
                return Err(ModelError::Checksum {
                    path: file,
                    expected: expected.to_hex(),
                    got: got.to_hex(),
                });
            }
        }
        Ok(Some((manifest, Digest::of(&bytes))))
    }
}
