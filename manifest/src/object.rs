//! ConfigMaps and Secrets.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use serde_json::Value;

use crate::loaded::Origin;
use crate::node::{Node, join};
use crate::problem::Problem;

/// What an API server takes of values in one ConfigMap or Secret, in bytes.
const LARGEST: usize = 1024 * 1024;

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Text by key.
    pub data: BTreeMap<String, String>,
    /// Bytes by key; no key is in `data` as well.
    pub binary_data: BTreeMap<String, Vec<u8>>,
}

impl ConfigMap {
    /// The bytes of a key, text or not.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let text = self.data.get(key).map(String::as_bytes);
        text.or_else(|| self.binary_data.get(key).map(Vec::as_slice))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.data
            .keys()
            .chain(self.binary_data.keys())
            .map(String::as_str)
    }
}

/// A Secret. Its values appear in no message and not in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    data: BTreeMap<String, Vec<u8>>,
}

impl Secret {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(Vec::as_slice)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.data.keys().map(String::as_str)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("keys", &self.data.keys())
            .finish_non_exhaustive()
    }
}

/// The namespace and name of a document whose schema was checked.
pub(crate) fn identity(document: &Node) -> (String, String) {
    let metadata = document.get("metadata");
    let field = |key| Some(metadata?.get(key)?.text()?.to_owned());
    let namespace = field("namespace").unwrap_or_else(|| "default".to_owned());
    (namespace, field("name").unwrap_or_default())
}

pub(crate) fn config_map(document: &Node, origin: &Origin) -> Result<ConfigMap, Vec<Problem>> {
    let mut reading = Reading {
        origin,
        problems: Vec::new(),
    };
    let data = reading.texts(document, "data");
    let binary_data = reading.decoded(document, "binaryData");
    for key in binary_data.keys().filter(|key| data.contains_key(*key)) {
        let path = join("binaryData", key);
        reading.report(&path, "in data as well", "keep one of them");
    }
    reading.size(
        "data",
        data.values()
            .map(String::len)
            .chain(binary_data.values().map(Vec::len)),
    );
    let (namespace, name) = identity(document);
    reading.done(ConfigMap {
        namespace,
        name,
        data,
        binary_data,
    })
}

pub(crate) fn secret(document: &Node, origin: &Origin) -> Result<Secret, Vec<Problem>> {
    let mut reading = Reading {
        origin,
        problems: Vec::new(),
    };
    let mut data = reading.decoded(document, "data");
    let texts = reading.texts(document, "stringData");
    data.extend(
        texts
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes())),
    );
    reading.size("data", data.values().map(Vec::len));
    let (namespace, name) = identity(document);
    reading.done(Secret {
        namespace,
        name,
        data,
    })
}

struct Reading<'a> {
    origin: &'a Origin,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn texts(&mut self, document: &Node, field: &str) -> BTreeMap<String, String> {
        let entries = document.get(field).map_or(&[][..], Node::entries);
        let mut texts = BTreeMap::new();
        for entry in entries {
            if !is_key(&entry.key) {
                self.report(
                    &join(field, &entry.key),
                    "not a key",
                    "a key has letters, digits, '-', '_' and '.', at most 253 of them",
                );
            } else if let Some(text) = entry.node.text() {
                texts.insert(entry.key.clone(), text.to_owned());
            }
        }
        texts
    }

    fn decoded(&mut self, document: &Node, field: &str) -> BTreeMap<String, Vec<u8>> {
        let mut values = BTreeMap::new();
        for (key, text) in self.texts(document, field) {
            // As Go's decoder: line breaks are no part of it.
            let encoded = Value::String(text.replace(['\r', '\n'], ""));
            match serde_json::from_value(encoded) {
                Ok(ByteString(bytes)) => _ = values.insert(key, bytes),
                Err(_) => self.report(
                    &join(field, &key),
                    "not base64",
                    match field {
                        "data" => "encode it, or write the plain text under stringData",
                        _ => "encode it, or write plain text under data",
                    },
                ),
            }
        }
        values
    }

    fn size(&mut self, field: &str, values: impl Iterator<Item = usize>) {
        let total: usize = values.sum();
        if total > LARGEST {
            let reason = format!("{total} bytes of values");
            self.report(
                field,
                &reason,
                "a cluster takes 1 MiB in one object: use several, or another source",
            );
        }
    }

    fn report(&mut self, path: &str, reason: &str, way_out: &str) {
        self.problems
            .push(self.origin.problem(path, reason, Some(way_out.to_owned())));
    }

    fn done<T>(self, object: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(object)
        } else {
            Err(self.problems)
        }
    }
}

fn is_key(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=253).contains(&key.len())
        && key.chars().all(allowed)
        && key != "."
        && !key.starts_with("..")
}
