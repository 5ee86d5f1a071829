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
