//! Tensors out of a safetensors file, one at a time, as f32.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use loci_digest::Digest;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, View};

use crate::ModelError;

/// An opened weights file. Only the tensor being read is held in memory.
pub(crate) struct Weights {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the tensors' bytes start.
    data: u64,
}

/// safetensors' own limit on its header.
const MAX_HEADER: u64 = 100_000_000;

/// The digest of a whole file, wherever it was read last.
pub(crate) fn file_digest(file: &mut File, path: &Path) -> Result<Digest, ModelError> {
    let failed = |e| ModelError::io(path, e);
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Digest::of_reader(file).map_err(failed)?.0)
}

impl Weights {
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let mut file = File::open(path).map_err(|e| ModelError::opening(path, "the weights", e))?;
        let length = file.metadata().map_err(|e| ModelError::io(path, e))?.len();
        let damaged = |reason: String| ModelError::Weights {
            path: path.to_owned(),
            reason,
        };
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(damaged(format!("it has {length} bytes")));
        }
        file.read_exact(&mut prefix)
            .map_err(|e| ModelError::io(path, e))?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER || header_length > length - 8 {
            return Err(damaged(format!(
                "its header claims {header_length} bytes of a file of {length}"
            )));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header)
            .map_err(|e| ModelError::io(path, e))?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(format!("its header: {e}")))?;
        let data = 8 + header_length;
        let expected = data + header.data_len() as u64;
        if expected != length {
            return Err(damaged(format!(
                "its header describes {expected} bytes, the file has {length}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            data,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of the whole file.
    pub fn digest(&mut self) -> Result<Digest, ModelError> {
        file_digest(&mut self.file, &self.path)
    }

    pub fn contains(&self, tensor: &str) -> bool {
        self.header.info(tensor).is_some()
    }

    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.header.info(tensor).map(|info| info.shape.as_slice())
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.header.offset_keys().into_iter().collect()
    }

    /// The elements of `tensor`, row-major, converted to f32.
    pub fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let info = self
            .header
            .info(tensor)
            .ok_or_else(|| ModelError::MissingTensor {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
            })?;
        if info.shape != shape {
            return Err(ModelError::Shape {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                expected: shape.to_vec(),
                got: info.shape.clone(),
            });
        }
        let (start, end) = info.data_offsets;
        let dtype = info.dtype;
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| ModelError::io(&self.path, e))?;
        to_f32(&bytes, dtype).ok_or_else(|| ModelError::Dtype {
            path: self.path.clone(),
            tensor: tensor.to_owned(),
            dtype: format!("{dtype:?}"),
        })
    }
}

/// A matrix that is written.
pub(crate) struct Named<'a> {
    name: String,
    shape: [usize; 2],
    values: &'a [f32],
}

impl<'a> Named<'a> {
    pub fn new(name: String, shape: [usize; 2], values: &'a [f32]) -> Self {
        Self {
            name,
            shape,
            values,
        }
    }
}

impl View for Named<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.values.iter().flat_map(|v| v.to_le_bytes());
        Cow::Owned(bytes.collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// A safetensors file with one entry of metadata: of more, the order would change from run to run.
pub(crate) fn to_safetensors(
    tensors: Vec<Named<'_>>,
    key: &str,
    value: String,
) -> Result<Vec<u8>, ModelError> {
    let named = tensors
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor));
    let metadata = HashMap::from([(key.to_owned(), value)]);
    safetensors::serialize(named, Some(metadata))
        .map_err(|e| ModelError::Compute(format!("weights cannot be written: {e}")))
}

pub(crate) fn to_f32(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let (quads, _) = bytes.as_chunks::<4>();
    match dtype {
        Dtype::F32 => Some(quads.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F16 => Some(
            pairs
                .iter()
                .map(|b| half_to_f32(u16::from_le_bytes(*b)))
                .collect(),
        ),
        Dtype::BF16 => Some(
            pairs
                .iter()
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16))
                .collect(),
        ),
        _ => None,
    }
}

/// IEEE 754 binary16 to binary32; every value is exact.
pub(crate) fn half_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    let magnitude = match exponent {
        0 => (fraction as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (half, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x83ff, -1023.0 * 2f32.powi(-24)),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half_to_f32(half).to_bits(), value.to_bits(), "{half:#x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
    }
}
