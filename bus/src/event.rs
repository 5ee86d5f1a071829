use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Documents of a source.
    Documents,
    /// Passages of documents.
    Chunks,
    /// Tokens of a model.
    Tokens,
    /// Questions of a suite.
    Queries,
    /// Steps of an optimiser.
    Steps,
    /// Bytes.
    Bytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Documents => "documents",
            Self::Chunks => "chunks",
            Self::Tokens => "tokens",
            Self::Queries => "queries",
            Self::Steps => "steps",
            Self::Bytes => "bytes",
        })
    }
}

/// How far an attempt has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The item.
    pub id: String,
    /// The attempt that reports.
    pub attempt: u32,
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is to do, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// What is being done, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Seconds on a device that the run has used, in all attempts together, where that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_seconds: Option<u64>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The step's output, stored under the item's id.
    Done {
        /// What the plan needs to know of it; content is named by digest.
        output: Value,
    },
    /// The step cannot be done, now or ever.
    Failed {
        /// A CamelCase word for programs, such as `SourceUnreachable`.
        reason: String,
        /// A sentence for people: what, why, the way out.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// It was cancelled before it was done.
    Cancelled,
}

/// What happens to an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// A worker holds the item.
    Claimed {
        /// The item.
        id: String,
        /// The attempt that began.
        attempt: u32,
    },
    /// A worker reports how far it is.
    Progress(Progress),
    /// The item is no longer live.
    Finished {
        /// The item.
        id: String,
        /// The attempt whose outcome counts; the one that was due when it ended in the queue.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
    },
}
