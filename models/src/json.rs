//! JSON files of a model.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::ModelError;

/// A JSON file that the model must have.
pub(crate) fn read_json<T: DeserializeOwned>(
    path: &Path,
    purpose: &'static str,
) -> Result<T, ModelError> {
    let text = fs::read(path).map_err(|e| ModelError::opening(path, purpose, e))?;
    serde_json::from_slice(&text).map_err(|e| ModelError::config(path, e.to_string()))
}

/// A JSON file that the model may have.
pub(crate) fn read_json_if_present<T: DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, ModelError> {
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        _ => read_json(path, "its configuration").map(Some),
    }
}

/// Numbers that must come back to the bit: written as strings, because JSON readers may round.
pub(crate) mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
