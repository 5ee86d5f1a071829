use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use loci_digest::Digest;

use super::manifest::{AdapterBase, MANIFEST, Manifest};
use super::{LoraConfig, peft};
use crate::{Decoder, ModelError, TrainingRecord};

/// An adapter of one model, in memory. It holds no weights of the model, so that many can serve beside one. Share it by
/// `Arc`.
pub struct Adapter {
    config: LoraConfig,
    base: AdapterBase,
    /// By the place of the linear layer, in the order of [`Decoder::projections`].
    deltas: Vec<Option<Arc<Delta>>>,
    training: Option<TrainingRecord>,
    digest: Digest,
}

/// What an adapter has for one linear layer.
#[derive(Debug)]
pub(crate) struct Delta {
    /// As in [`crate::Projection`].
    pub name: String,
    pub inputs: usize,
    pub outputs: usize,
    pub rank: usize,
    /// `[rank, inputs]`.
    pub a: Vec<f32>,
    /// `[outputs, rank]`.
    pub b: Vec<f32>,
    /// The transpose of `b` times the adapter's scale: `[rank, outputs]`.
    pub scaled: Vec<f32>,
}

impl Delta {
    /// For a layer as large as `projection` says.
    pub fn new(
        projection: &crate::Projection,
        config: &LoraConfig,
        a: Vec<f32>,
        b: Vec<f32>,
    ) -> Self {
        let (inputs, outputs, rank) = (projection.inputs, projection.outputs, config.rank);
        let scale = config.scale();
        let at = |i: usize| scale * b[i % outputs * rank + i / outputs];
        let scaled = (0..rank * outputs).map(at).collect();
        Self {
            name: projection.name.clone(),
            inputs,
            outputs,
            rank,
            a,
            b,
            scaled,
        }
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("digest", &self.digest)
            .field("config", &self.config)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// `deltas` by the places of the model's linear layers.
    pub(crate) fn new(
        config: LoraConfig,
        base: AdapterBase,
        deltas: Vec<Option<Arc<Delta>>>,
        training: Option<TrainingRecord>,
    ) -> Result<Self, ModelError> {
        let mut adapter = Self {
            config,
            base,
            deltas,
            training,
            digest: Digest::of(""),
        };
        adapter.digest = Digest::of(adapter.manifest()?.to_bytes()?);
        Ok(adapter)
    }

    /// Reads an adapter in PEFT's layout with the `loci.json` that [`Self::write`] puts beside it, for the model that
    /// it was trained on and no other.
    ///
    /// # Errors
    /// [`ModelError::OtherBase`] when it belongs to other weights; [`ModelError::Checksum`] when a file is not the
    /// one that was written; otherwise what is malformed, missing (`loci.json` too: see [`Self::import`]), of another
    /// shape, or not supported, by name.
    pub fn read(dir: &Path, decoder: &Decoder) -> Result<Self, ModelError> {
        let Some((manifest, digest)) = Manifest::read(dir, &peft::FILES)? else {
            let reason = "no such file, and it says which weights the adapter belongs to; import an adapter that another tool trained";
            return Err(ModelError::config(&dir.join(MANIFEST), reason));
        };
        let what = dir.display().to_string();
        manifest.base.check(decoder.identity(), &what)?;
        let (config, deltas) = peft::read(dir, decoder)?;
        Ok(Self {
            config,
            base: manifest.base,
            deltas,
            training: manifest.training,
            digest,
        })
    }

    /// Reads an adapter that another tool trained, on the caller's word that it belongs to this model. What has a
    /// `loci.json` is read as by [`Self::read`], whatever the word.
    ///
    /// # Errors
    /// As [`Self::read`], but for a missing `loci.json`.
    pub fn import(dir: &Path, decoder: &Decoder) -> Result<Self, ModelError> {
        if dir.join(MANIFEST).exists() {
            return Self::read(dir, decoder);
        }
        let (config, deltas) = peft::read(dir, decoder)?;
        Self::new(config, decoder.identity().into(), deltas, None)
    }

    /// The files of the adapter, by name: `adapter_config.json` and `adapter_model.safetensors` as PEFT, vLLM and kin
    /// read them, and `loci.json`, which binds them to the model and records the training with its seed. The same
    /// adapter gives the same bytes.
    ///
    /// # Errors
    /// [`ModelError::Compute`] when they cannot be written.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
        let mut files = self.peft()?;
        files.push((MANIFEST, self.manifest()?.to_bytes()?));
        Ok(files)
    }

    /// Writes [`Self::files`] into a directory, which is made if need be.
    ///
    /// # Errors
    /// [`ModelError::Io`] when a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), ModelError> {
        fs::create_dir_all(dir).map_err(|e| ModelError::io(dir, e))?;
        for (name, bytes) in self.files()? {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(|e| ModelError::io(&path, e))?;
        }
        Ok(())
    }

    /// Its shape.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The model that it belongs to.
    pub fn base(&self) -> &AdapterBase {
        &self.base
    }

    /// How it was trained, if this crate did.
    pub fn training(&self) -> Option<&TrainingRecord> {
        self.training.as_ref()
    }

    /// The digest of `loci.json`, which has those of the other files.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it has for the linear layer in a place.
    pub(crate) fn delta(&self, place: usize) -> Option<&Arc<Delta>> {
        self.deltas.get(place)?.as_ref()
    }

    /// What it has, in the order of the linear layers.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = &Delta> {
        self.deltas.iter().flatten().map(Arc::as_ref)
    }

    /// Refuses a model that it does not belong to.
    pub(crate) fn check(&self, decoder: &Decoder) -> Result<(), ModelError> {
        let what = self.digest.to_string();
        self.base.check(decoder.identity(), &what)
    }

    fn peft(&self) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
        peft::write(&self.config, self.deltas())
    }

    fn manifest(&self) -> Result<Manifest, ModelError> {
        let files = self.peft()?;
        let (base, training) = (self.base.clone(), self.training.clone());
        Ok(Manifest::new(base, training, &files))
    }
}
