//! GGUF files, versions 2 and 3: metadata, and tensors as f32.

mod header;
mod quant;
#[cfg(test)]
pub(crate) mod testing;
mod value;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use loci_digest::Digest;

use crate::ModelError;
use crate::weights::file_digest;
use header::Header;
use quant::Kind;
use value::Value;
pub(crate) use vocabulary::tokenizer_json;

/// An opened file. Only the tensor being read is held in memory.
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
    length: u64,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
    read: BTreeSet<String>,
}

/// Where a tensor lies, and how.
struct Tensor {
    /// The rows' length last, as safetensors has it; GGUF has it first.
    shape: Vec<usize>,
    kind: u32,
    /// From the start of the file.
    start: u64,
}

impl Gguf {
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let mut file = File::open(path).map_err(|e| ModelError::opening(path, "the model", e))?;
        let length = file.metadata().map_err(|e| ModelError::io(path, e))?.len();
        let header = Header::read(&mut BufReader::new(&mut file), length, path)?;
        let mut this = Self {
            path: path.to_owned(),
            file,
            length,
            metadata: header.metadata,
            tensors: BTreeMap::new(),
            read: BTreeSet::new(),
        };
        let alignment = this.integer("general.alignment")?.unwrap_or(32) as u64;
        if !alignment.is_power_of_two() {
            let reason = format!("general.alignment is {alignment}, and must be a power of two");
            return Err(ModelError::config(path, reason));
        }
        let data = header.end.next_multiple_of(alignment);
        for (name, info) in header.tensors {
            let tensor = Tensor {
                shape: info.shape,
                kind: info.kind,
                start: data.saturating_add(info.offset),
            };
            this.tensors.insert(name, tensor);
        }
        Ok(this)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of the whole file.
    pub fn digest(&mut self) -> Result<Digest, ModelError> {
        file_digest(&mut self.file, &self.path)
    }

    pub fn contains(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The shapes of all tensors.
    pub fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.tensors.values().map(|tensor| tensor.shape.as_slice())
    }

    /// A tensor that was not read.
    pub fn unread(&self) -> Option<String> {
        let mut names = self.tensors.keys();
        names.find(|name| !self.read.contains(*name)).cloned()
    }

    /// The elements of `name`, row-major, as f32.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let Some(tensor) = self.tensors.get(name) else {
            let reason = format!(
                "no tensor \"{name}\", which its metadata implies; the file is of another kind of model, or incomplete"
            );
            return Err(ModelError::config(&self.path, reason));
        };
        if tensor.shape != shape {
            let reason = format!(
                "tensor \"{name}\" has shape {:?}, its metadata implies {shape:?}; the file contradicts itself",
                tensor.shape
            );
            return Err(ModelError::config(&self.path, reason));
        }
        let kind = Kind::of(tensor.kind).map_err(|other| {
            let field = format!("tensor \"{name}\" of type");
            ModelError::unsupported(&self.path, field, other, quant::SUPPORTED)
        })?;
        let columns = shape.last().copied().unwrap_or(1);
        let count: usize = shape.iter().product();
        let Some(bytes) = kind.bytes(count, columns) else {
            let reason = format!("tensor \"{name}\" has rows of {columns}, which no {kind} has");
            return Err(ModelError::config(&self.path, reason));
        };
        let end = tensor.start.saturating_add(bytes as u64);
        if end > self.length {
            let reason = format!("tensor \"{name}\" ends at byte {end} of {}", self.length);
            return Err(damaged(&self.path, reason));
        }
        let mut encoded = vec![0; bytes];
        self.file
            .seek(SeekFrom::Start(tensor.start))
            .and_then(|_| self.file.read_exact(&mut encoded))
            .map_err(|e| ModelError::io(&self.path, e))?;
        self.read.insert(name.to_owned());
        Ok(kind.decode(&encoded))
    }

    /// A whole number in the metadata.
    pub fn integer(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key, "a whole number", |value| match value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        })
    }

    pub fn needed_integer(&self, key: &str) -> Result<usize, ModelError> {
        self.integer(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.get(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            _ => None,
        })
    }

    pub fn needed_number(&self, key: &str) -> Result<f64, ModelError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.get(key, "a string", Value::text)
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.get(key, "a list of strings", |value| match value {
            Value::List(items) => items.iter().map(Value::text).collect(),
            _ => None,
        })
    }

    pub fn needed_texts(&self, key: &str) -> Result<Vec<&str>, ModelError> {
        self.texts(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn integers(&self, key: &str) -> Result<Option<Vec<i128>>, ModelError> {
        self.get(key, "a list of whole numbers", |value| match value {
            Value::List(items) => items.iter().map(Value::integer).collect(),
            _ => None,
        })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let reason = format!("{key} is {value}, expected {expected}");
                Err(ModelError::config(&self.path, reason))
            }
        }
    }

    fn missing(&self, key: &str) -> ModelError {
        let reason = format!("its metadata has no {key}; convert the model anew");
        ModelError::config(&self.path, reason)
    }
}

fn damaged(path: &Path, reason: impl Into<String>) -> ModelError {
    ModelError::Gguf {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Item, Writer};
    use super::*;

    fn open(bytes: &[u8]) -> Result<Gguf, ModelError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        Gguf::open(&path)
    }

    fn sample(version: u32) -> Writer {
        let mut writer = Writer::new(version);
        writer
            .meta("general.architecture", Item::Text("llama"))
            .meta("a.count", Item::U32(7))
            .meta("a.rate", Item::F32(0.5))
            .meta("a.on", Item::Bool(true))
            .meta("a.words", Item::Texts(&["x", "é", ""]))
            .meta("a.kinds", Item::I32s(&[1, -3]))
            .tensor(
                "row",
                &[3],
                0,
                &[1.0f32, -2.0, 0.5].map(f32::to_le_bytes).concat(),
            )
            .tensor("half", &[2, 2], 1, &[0, 0x3c, 0, 0xc0, 0xff, 0x7b, 1, 0])
            .tensor("brain", &[2], 30, &[0x80, 0x3f, 0x20, 0xc1]);
        writer
    }

    #[test]
    fn both_versions_give_metadata_and_tensors() {
        for version in [2, 3] {
            let mut file = open(&sample(version).bytes()).unwrap();
            assert_eq!(file.text("general.architecture").unwrap(), Some("llama"));
            assert_eq!(file.integer("a.count").unwrap(), Some(7));
            assert_eq!(file.number("a.rate").unwrap(), Some(0.5));
            assert_eq!(file.flag("a.on").unwrap(), Some(true));
            assert_eq!(file.texts("a.words").unwrap().unwrap(), ["x", "é", ""]);
            assert_eq!(file.integers("a.kinds").unwrap().unwrap(), [1, -3]);
            assert_eq!(file.integer("absent").unwrap(), None);
            assert_eq!(file.read("row", &[3]).unwrap(), [1.0, -2.0, 0.5]);
            // Written with the rows' length first: two rows of two.
            let half = file.read("half", &[2, 2]).unwrap();
            assert_eq!(half, [1.0, -2.0, 65504.0, 2f32.powi(-24)]);
            assert_eq!(file.unread().as_deref(), Some("brain"));
            assert_eq!(file.read("brain", &[2]).unwrap(), [1.0, -10.0]);
            assert_eq!(file.unread(), None);
            let digest = Digest::of(sample(version).bytes());
            assert_eq!(file.digest().unwrap(), digest);
        }
    }

    fn message<T>(result: Result<T, ModelError>) -> String {
        result.err().unwrap().to_string()
    }

    fn assert_names(message: &str, parts: &[&str]) {
        for part in parts {
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut file = open(&sample(3).bytes()).unwrap();
        assert_names(
            &message(file.integer("a.rate")),
            &["model.gguf", "a.rate is 0.5", "a whole number"],
        );
        assert_names(
            &message(file.texts("a.count")),
            &["a.count is 7", "strings"],
        );
        assert_names(
            &message(file.needed_integer("llama.block_count")),
            &["no llama.block_count"],
        );
        assert_names(&message(file.read("row", &[4])), &["\"row\"", "[3]", "[4]"]);
        assert_names(&message(file.read("none", &[4])), &["no tensor \"none\""]);
        for (kind, name) in [(12, "Q4_K"), (2, "Q4_0"), (8888, "type 8888")] {
            let mut writer = Writer::new(3);
            writer.tensor("blk.0.ffn_up.weight", &[32], kind, &[0; 64]);
            let mut file = open(&writer.bytes()).unwrap();
            assert_names(
                &message(file.read("blk.0.ffn_up.weight", &[32])),
                &["blk.0.ffn_up.weight", name, "supported:", "Q8_0", "Q4_1"],
            );
        }
        let mut writer = Writer::new(3);
        writer.tensor("odd", &[33], 8, &[0; 68]);
        let mut file = open(&writer.bytes()).unwrap();
        assert_names(&message(file.read("odd", &[33])), &["odd", "33", "Q8_0"]);
    }

    #[test]
    fn damaged_files_are_refused_without_being_believed() {
        let whole = sample(3).bytes();
        for length in [0, 3, 20, 60, 200] {
            assert_names(
                &message(open(&whole[..length])),
                &["model.gguf", "not a whole GGUF file"],
            );
        }
        let mut cut = open(&whole[..whole.len() - 3]).unwrap();
        assert_names(&message(cut.read("brain", &[2])), &["brain", "not a whole"]);
        let patched = |at: usize, bytes: &[u8]| {
            let mut copy = whole.clone();
            copy[at..at + bytes.len()].copy_from_slice(bytes);
            message(open(&copy))
        };
        assert_names(&patched(0, b"GGML"), &["not a whole GGUF file", "magic"]);
        assert_names(&patched(4, &[1, 0, 0, 0]), &["version 1", "2, 3"]);
        assert_names(&patched(4, &[0, 0, 0, 3]), &["big-endian"]);
        assert_names(&patched(8, &[255; 8]), &["tensors"]);
        assert_names(&patched(16, &[255; 8]), &["not a whole"]);
        assert_names(&patched(24, &[255; 8]), &["not a whole"]);
    }
}
