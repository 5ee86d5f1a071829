//! Where a network's tensors come from, under the names that transformers gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use loci_digest::Digest;
use serde::Deserialize;

use crate::ModelError;
use crate::json::read_json;
use crate::weights::Weights;

pub(crate) trait Tensors {
    /// The elements of a tensor, row-major, as f32.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError>;

    /// The file that errors name.
    fn path(&self) -> &Path;

    /// A tensor that was not read though it would change what is computed.
    fn surplus(&self) -> Option<String>;
}

/// One `model.safetensors`, or several with `model.safetensors.index.json`.
pub(super) struct Shards {
    path: PathBuf,
    files: Vec<Weights>,
    /// Which file holds which tensor.
    places: BTreeMap<String, usize>,
    read: BTreeSet<String>,
}

/// The end of names that are stored by old versions of transformers and follow from the configuration.
const DERIVED: &str = ".rotary_emb.inv_freq";

impl Shards {
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let whole = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if !whole.exists() && index.exists() {
            return Self::open_index(index, dir);
        }
        if !whole.exists() {
            refuse_other_formats(dir)?;
        }
        let file = Weights::open(&whole)?;
        let places = file.names().into_iter().map(|name| (name, 0)).collect();
        Ok(Self {
            path: whole,
            files: vec![file],
            places,
            read: BTreeSet::new(),
        })
    }

    fn open_index(path: PathBuf, dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let index: Index = read_json(&path, "which file holds which weights")?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        let mut files = Vec::with_capacity(names.len());
        for name in &names {
            if Path::new(name)
                .file_name()
                .is_none_or(|file| file != name.as_str())
            {
                let reason = format!("weight_map names \"{name}\", which is not a file beside it");
                return Err(ModelError::config(&path, reason));
            }
            files.push(Weights::open(&dir.join(name))?);
        }
        let mut places = BTreeMap::new();
        for (tensor, file) in &index.weight_map {
            let place = names.iter().position(|name| *name == file).unwrap_or(0);
            if !files[place].contains(tensor) {
                return Err(ModelError::MissingTensor {
                    path: files[place].path().to_owned(),
                    tensor: tensor.clone(),
                });
            }
            places.insert(tensor.clone(), place);
        }
        Ok(Self {
            path,
            files,
            places,
            read: BTreeSet::new(),
        })
    }

    /// The shapes of all tensors.
    pub fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        let places = self.places.iter();
        places.filter_map(move |(name, place)| self.files[*place].shape(name))
    }

    /// The digest of the file; of several files, the digest of their digests by name.
    pub fn digest(&mut self) -> Result<Digest, ModelError> {
        if let [file] = self.files.as_mut_slice() {
            return file.digest();
        }
        let mut digests = BTreeMap::new();
        for file in &mut self.files {
            let name = file.path().file_name().unwrap_or_default().to_owned();
            digests.insert(name.to_string_lossy().into_owned(), file.digest()?);
        }
        // A map of strings: JSON cannot fail on it, and Debug is as complete.
        Ok(Digest::of_json(&digests).unwrap_or_else(|_| Digest::of(format!("{digests:?}"))))
    }
}

impl Tensors for Shards {
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let Some(&place) = self.places.get(name) else {
            return Err(ModelError::MissingTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
            });
        };
        self.read.insert(name.to_owned());
        self.files[place].read(name, shape)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn surplus(&self) -> Option<String> {
        let tied = |name: &str| name == "lm_head.weight";
        let mut rest = self.places.keys().filter(|name| !self.read.contains(*name));
        rest.find(|name| !name.ends_with(DERIVED) && !tied(name))
            .cloned()
    }
}

/// Refuses by name the formats of weights that are found instead.
fn refuse_other_formats(dir: &Path) -> Result<(), ModelError> {
    for other in [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "consolidated.safetensors",
        "adapter_model.safetensors",
    ] {
        let path = dir.join(other);
        if path.exists() {
            return Err(ModelError::unsupported(
                &path,
                "weights in",
                other,
                "model.safetensors, whole or with model.safetensors.index.json, or one .gguf file",
            ));
        }
    }
    Ok(())
}
