//! Who does steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The classes of the workers that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Those that have a worker which takes steps.
    pub at_work: BTreeSet<String>,
    /// Why a worker takes none that is there, by its class: a sentence.
    pub idle: BTreeMap<String, String>,
}

/// Who is there to do steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Of all that are there.
    pub classes: Arc<Classes>,
    /// The class that reads this pipeline's sources; none when the planner's own process does.
    pub fetch: Option<String>,
}
