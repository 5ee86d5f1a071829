//! Messages as they travel: `{"version": 1, "kind": "WorkItem", "body": {…}}`.
//!
//! Within a version fields are only added, and unknown fields are ignored.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{BusError, Event, Outcome, Result, WorkItem};

/// The version that this build writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// The largest message in bytes: what a NATS server takes by default, less room for headers and for what a bus has
/// to say of it.
pub const LIMIT: usize = (1 << 20) - (16 << 10);

/// What can travel.
pub trait Message: Serialize + DeserializeOwned {
    /// The name of this kind of message.
    const KIND: &'static str;
}

impl Message for WorkItem {
    const KIND: &'static str = "WorkItem";
}

impl Message for Event {
    const KIND: &'static str = "Event";
}

impl Message for Outcome {
    const KIND: &'static str = "Outcome";
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    version: u32,
    kind: &'static str,
    body: &'a T,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
    kind: String,
}

#[derive(Deserialize)]
struct Body<T> {
    body: T,
}

/// Writes a message.
///
/// # Errors
/// [`BusError::TooLarge`]; [`BusError::Malformed`] when it cannot be written as JSON.
pub fn encode<T: Message>(message: &T) -> Result<Vec<u8>> {
    let kind = T::KIND;
    let json = serde_json::to_vec(&Outgoing {
        version: VERSION,
        kind,
        body: message,
    })
    .map_err(|e| malformed(kind, e))?;
    if json.len() > LIMIT {
        return Err(BusError::TooLarge {
            kind,
            bytes: json.len(),
        });
    }
    Ok(json)
}

/// Reads a message.
///
/// # Errors
/// [`BusError::Version`] for another version, [`BusError::Malformed`] for anything else.
pub fn decode<T: Message>(json: &[u8]) -> Result<T> {
    let kind = T::KIND;
    let head: Head = serde_json::from_slice(json).map_err(|e| malformed(kind, e))?;
    if head.version != VERSION {
        return Err(BusError::Version {
            kind,
            found: head.version,
        });
    }
    if head.kind != kind {
        return Err(malformed(kind, format!("it is a {}", head.kind)));
    }
    serde_json::from_slice::<Body<T>>(json)
        .map(|message| message.body)
        .map_err(|e| malformed(kind, e))
}

fn malformed(kind: &'static str, reason: impl ToString) -> BusError {
    BusError::Malformed {
        kind,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Priority, Progress, Unit};

    fn item() -> WorkItem {
        WorkItem {
            id: "sha256:ab".into(),
            pipeline: "agents/support".into(),
            run: "support-7".into(),
            step: "embed-0".into(),
            attempt: 1,
            fence: 9,
            priority: Priority::P0,
            class: "cpu".into(),
            payload: json!({"chunks": 12}),
            term: 3,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        }
    }

    #[test]
    fn messages_come_back_and_their_form_is_fixed() {
        let json = encode(&item()).unwrap();
        assert_eq!(decode::<WorkItem>(&json).unwrap(), item());
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&json).unwrap(),
            json!({"version": 1, "kind": "WorkItem", "body": {
                "id": "sha256:ab", "pipeline": "agents/support", "run": "support-7", "step": "embed-0",
                "attempt": 1, "fence": 9, "priority": "p0", "class": "cpu", "payload": {"chunks": 12}, "term": 3,
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}})
        );
        let progress = Progress {
            id: "a".into(),
            attempt: 2,
            done: 3,
            total: None,
            unit: Unit::Chunks,
            message: None,
            device_seconds: Some(7),
        };
        let finished = Event::Finished {
            id: "a".into(),
            attempt: 2,
            outcome: Outcome::Cancelled,
        };
        for (event, body) in [
            (
                Event::Progress(progress),
                json!({"progress": {"id": "a", "attempt": 2, "done": 3, "unit": "chunks", "deviceSeconds": 7}}),
            ),
            (
                finished,
                json!({"finished": {"id": "a", "attempt": 2, "outcome": "cancelled"}}),
            ),
        ] {
            let json = encode(&event).unwrap();
            assert_eq!(decode::<Event>(&json).unwrap(), event);
            assert_eq!(
                serde_json::from_slice::<serde_json::Value>(&json).unwrap()["body"],
                body
            );
        }
    }

    #[test]
    fn other_versions_kinds_and_sizes_are_refused_by_name() {
        let newer = br#"{"version": 2, "kind": "WorkItem", "body": "changed beyond recognition"}"#;
        let error = decode::<WorkItem>(newer).unwrap_err().to_string();
        assert!(
            error.contains("version 2") && error.contains("version 1"),
            "{error}"
        );
        let error = decode::<Outcome>(&encode(&item()).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Outcome") && error.contains("it is a WorkItem"),
            "{error}"
        );
        let error = decode::<WorkItem>(br#"{"version": 1, "kind": "WorkItem", "body": {"id": 7}}"#);
        assert!(error.unwrap_err().to_string().contains("integer `7`"));
        let big = WorkItem {
            payload: json!("x".repeat(LIMIT)),
            ..item()
        };
        let error = encode(&big).unwrap_err().to_string();
        assert!(
            error.contains("1032192") && error.contains("send the digest"),
            "{error}"
        );
    }

    #[test]
    fn fields_of_a_later_build_are_ignored() {
        let mut json: serde_json::Value =
            serde_json::from_slice(&encode(&item()).unwrap()).unwrap();
        json["body"]["shard"] = json!(3);
        json["sent"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            decode::<WorkItem>(json.to_string().as_bytes()).unwrap(),
            item()
        );
    }
}
