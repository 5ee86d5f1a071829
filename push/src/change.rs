//! What is asked for, and what came of it.

use std::collections::BTreeMap;

use loci_digest::Digest;
use serde::{Deserialize, Serialize};

/// A document as it was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Digest of its bytes, which are a blob of the store.
    pub content: Digest,
    /// How many they are.
    pub bytes: u64,
    /// How they are read, such as `text/markdown`.
    pub media_type: String,
    /// Where a person finds it, when that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What was said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Document {
    /// Digest of all that was put: another whenever the content, or what was said of it, is.
    pub fn version(&self) -> Digest {
        // Strings, numbers and maps with string keys: JSON cannot fail on them.
        Digest::of_json(self).unwrap_or(self.content)
    }
}

/// A change of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub id: String,
    /// What it is to be; none deletes it.
    pub to: Option<Document>,
    /// When the change is to be made.
    pub condition: Condition,
}

/// What must be so for a change to be made (RFC 9110, section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// There is no such document: `If-None-Match: *`.
    Absent,
    /// There is one: `If-Match: *`.
    Present,
    /// It has one of these versions: `If-Match: "…"`.
    Version(Vec<String>),
}

impl Condition {
    /// Whether a document of this version, or none, fits.
    pub fn holds(&self, current: Option<&Digest>) -> bool {
        match (self, current) {
            (Self::Always, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Version(wanted), Some(current)) => {
                let current = current.to_string();
                wanted.contains(&current)
            }
            _ => false,
        }
    }
}

/// What became of a change: durable when it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version before; none when there was no such document.
    pub before: Option<Digest>,
    /// The version now; none when there is no such document.
    pub version: Option<Digest>,
}

impl Written {
    /// Whether anything is different.
    pub fn changed(&self) -> bool {
        self.before != self.version
    }
}
