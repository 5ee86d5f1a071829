//! What people ask of a pipeline, by hand: kept until they take it back.

use std::path::Path;

use anyhow::Result;
use loci_plan::Intents;

use super::{PipelineState, read_json, write_json};

/// Reads what was asked; nothing when nobody asked.
pub fn read(path: &Path) -> Result<Intents> {
    Ok(read_json(path)?.unwrap_or_default())
}

/// Changes what is asked.
pub fn change(state: &PipelineState, change: impl FnOnce(&mut Intents)) -> Result<()> {
    let mut intents = read(&state.intents())?;
    change(&mut intents);
    write_json(&state.intents(), &intents)
}
