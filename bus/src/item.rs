use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BusError, Result};

pub(crate) const NAME_LIMIT: usize = 256;

/// How urgent an item is; in the order of delivery.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Someone waits for it.
    P0,
    /// Scheduled work.
    #[default]
    P1,
    /// Whenever there is room.
    P2,
}

/// One step of one run, to be done by a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItem {
    /// The key of the step's input: the same id means the same work with the same result.
    pub id: String,
    /// The pipeline it is for.
    pub pipeline: String,
    /// The run it belongs to.
    pub run: String,
    /// The step of that run.
    pub step: String,
    /// Which try this is. As published on the first delivery, and one more on each redelivery.
    pub attempt: u32,
    /// Rises with each delivery: who writes under a lower fence has lost the item.
    pub fence: u64,
    /// How urgent it is.
    pub priority: Priority,
    /// The class of workers that may do it.
    pub class: String,
    /// What the step needs to know; large content is named by digest.
    pub payload: Value,
    /// The term of the leader that published it; 0 without an election. A bus between processes refuses whoever
    /// publishes, cancels or redelivers an item under a lower term than has been seen of it.
    #[serde(default)]
    pub term: u64,
    /// The W3C `traceparent` of the span that it was planned in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// How long an item waits for its next delivery after so many that ended without an outcome.
pub fn redelivery_pause(redeliveries: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);
    let doublings = redeliveries.saturating_sub(1).min(16);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

impl Priority {
    /// In the order of delivery.
    pub const ALL: [Self; 3] = [Self::P0, Self::P1, Self::P2];
}

impl WorkItem {
    /// Whose work it is: the namespace of its pipeline.
    pub fn tenant(&self) -> &str {
        owner(&self.pipeline).0
    }

    /// Checks that the names fit into the subject of a message.
    ///
    /// # Errors
    /// [`BusError::Name`].
    pub fn check(&self) -> Result<()> {
        let names = [
            ("id", self.id.as_str()),
            ("class", &self.class),
            ("tenant", self.tenant()),
            ("pipeline", &owner(&self.pipeline).1),
        ];
        for (field, value) in names {
            check_name(field, value)?;
        }
        Ok(())
    }
}

/// A pipeline's tenant and name as parts of a subject. Names of Kubernetes have dots but no underscores.
pub fn owner(pipeline: &str) -> (&str, String) {
    let (tenant, name) = pipeline.split_once('/').unwrap_or(("default", pipeline));
    (tenant, name.replace('.', "_"))
}

fn check_name(field: &'static str, value: &str) -> Result<()> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || ".*>".contains(c);
    if value.is_empty() || value.len() > NAME_LIMIT || value.contains(odd) {
        let value = value.chars().take(80).collect();
        return Err(BusError::Name { field, value });
    }
    Ok(())
}
