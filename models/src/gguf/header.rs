//! What stands before the tensors' bytes.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::damaged;
use super::value::Value;
use crate::ModelError;

pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, Info>,
    /// Bytes that the header takes.
    pub end: u64,
}

pub(super) struct Info {
    /// The rows' length last.
    pub shape: Vec<usize>,
    pub kind: u32,
    /// From the start of the tensors' bytes.
    pub offset: u64,
}

/// The fewest bytes that a tensor's entry takes: its name's length, one dimension, type and offset.
const ENTRY: u64 = 8 + 4 + 8 + 4 + 8;

/// As many as ggml has.
const DIMENSIONS: u32 = 4;

impl Header {
    /// Reads the header of a file of `length` bytes. Whatever it claims to hold must fit into the file.
    pub fn read(file: &mut impl Read, length: u64, path: &Path) -> Result<Self, ModelError> {
        let mut reader = Reader {
            file,
            path,
            taken: 0,
            length,
        };
        if reader.bytes::<4>()? != *b"GGUF" {
            return Err(damaged(path, "it does not begin with the magic \"GGUF\""));
        }
        let version = u32::from_le_bytes(reader.bytes()?);
        refuse_other_versions(version, path)?;
        let tensors = u64::from_le_bytes(reader.bytes()?);
        let entries = u64::from_le_bytes(reader.bytes()?);
        if tensors > length / ENTRY {
            return Err(damaged(path, format!("it claims {tensors} tensors")));
        }
        let mut header = Self {
            metadata: BTreeMap::new(),
            tensors: BTreeMap::new(),
            end: 0,
        };
        for _ in 0..entries {
            let key = reader.text()?;
            let kind = u32::from_le_bytes(reader.bytes()?);
            let value = reader.value(kind, &key)?;
            header.metadata.insert(key, value);
        }
        for _ in 0..tensors {
            let name = reader.text()?;
            let info = reader.info(&name)?;
            header.tensors.insert(name, info);
        }
        header.end = reader.taken;
        Ok(header)
    }
}

fn refuse_other_versions(version: u32, path: &Path) -> Result<(), ModelError> {
    let supported = "2, 3, little-endian";
    match version {
        2 | 3 => Ok(()),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            let value = format!("{}, big-endian,", version.swap_bytes());
            Err(ModelError::unsupported(
                path,
                "GGUF version",
                value,
                supported,
            ))
        }
        _ => Err(ModelError::unsupported(
            path,
            "GGUF version",
            version,
            supported,
        )),
    }
}

struct Reader<'a, R> {
    file: &'a mut R,
    path: &'a Path,
    taken: u64,
    /// Of the whole file.
    length: u64,
}

impl<R: Read> Reader<'_, R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ModelError> {
        self.file.read_exact(bytes).map_err(|e| {
            if e.kind() == ErrorKind::UnexpectedEof {
                let reason = format!("it ends after {} bytes, within its header", self.length);
                damaged(self.path, reason)
            } else {
                ModelError::io(self.path, e)
            }
        })?;
        self.taken += bytes.len() as u64;
        Ok(())
    }

    /// A count of things of at least `size` bytes, as far as the file can hold them.
    fn count(&mut self, size: u64) -> Result<usize, ModelError> {
        let count = u64::from_le_bytes(self.bytes()?);
        let rest = self.length.saturating_sub(self.taken);
        if count > rest / size {
            let reason = format!("its header claims {count} things in the last {rest} bytes");
            return Err(damaged(self.path, reason));
        }
        Ok(count as usize)
    }

    fn text(&mut self) -> Result<String, ModelError> {
        let mut bytes = vec![0; self.count(1)?];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|e| damaged(self.path, format!("its header: {e}")))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.bytes()?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.bytes()?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.bytes::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => self.list(key)?,
            10 => Value::Integer(u64::from_le_bytes(self.bytes()?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            _ => {
                let reason = format!("its header: {key} has type {kind}, and types end at 12");
                return Err(damaged(self.path, reason));
            }
        })
    }

    fn list(&mut self, key: &str) -> Result<Value, ModelError> {
        let kind = u32::from_le_bytes(self.bytes()?);
        if kind == 9 {
            let supported = "lists of numbers, flags or strings";
            let field = format!("metadata {key}");
            return Err(ModelError::unsupported(
                self.path,
                field,
                "of lists in a list",
                supported,
            ));
        }
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            _ => 8,
        };
        let count = self.count(size)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.value(kind, key)?);
        }
        Ok(Value::List(items))
    }

    fn info(&mut self, name: &str) -> Result<Info, ModelError> {
        let dimensions = u32::from_le_bytes(self.bytes()?);
        if !(1..=DIMENSIONS).contains(&dimensions) {
            let reason = format!("its header: tensor \"{name}\" has {dimensions} dimensions");
            return Err(damaged(self.path, reason));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            let side = u64::from_le_bytes(self.bytes()?);
            // Then the product of two sides does not overflow.
            let side = u32::try_from(side).map_err(|_| {
                damaged(
                    self.path,
                    format!("its header: tensor \"{name}\" has a side of {side}"),
                )
            })?;
            shape.push(side as usize);
        }
        shape.reverse();
        Ok(Info {
            shape,
            kind: u32::from_le_bytes(self.bytes()?),
            offset: u64::from_le_bytes(self.bytes()?),
        })
    }
}
