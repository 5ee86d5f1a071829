//! What becomes of the record of a pipeline that is gone.

use std::time::Duration;

use jiff::Timestamp;
use loci_crds::pipeline::DeletionPolicy;

use crate::clock::after;
use crate::record::PipelineRecord;

/// Whether there is a pipeline of a record's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// That cannot be told: its namespace is not watched, or could not be read.
    Unknown,
    /// There is none.
    Absent,
    /// There is one, of this uid.
    Present(String),
}

/// What is to be done about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Leave,
    /// Note that its pipeline is gone, and stop what is under way for it. The grace begins.
    Notice,
    /// Note that its pipeline is there after all.
    Return,
    /// Nothing before then.
    Wait(Timestamp),
    /// Remove what the bus has of it, and note that.
    Purge,
    /// Remove what the bus has of it, and the record: what it names is garbage from then on.
    Remove,
}

/// What is to be done at `now` about `record`, when a pipeline has to be gone for `grace`.
///
/// The time of the first sighting is in the record, so that it outlives who sees. A pipeline of the same name but
/// another uid takes the record over by itself.
pub fn sweep(
    now: Timestamp,
    record: &PipelineRecord,
    presence: &Presence,
    grace: Duration,
) -> Fate {
    match (presence, record.missing_since) {
        (Presence::Present(uid), Some(_)) if *uid == record.uid => Fate::Return,
        (Presence::Unknown | Presence::Present(_), _) => Fate::Leave,
        (Presence::Absent, None) => Fate::Notice,
        (Presence::Absent, Some(since)) => match after(since, grace) {
            due if due > now => Fate::Wait(due),
            _ if record.deletion_policy == DeletionPolicy::Delete => Fate::Remove,
            // Nothing to come back to.
            _ if record.releases.is_empty() => Fate::Remove,
            _ if record.purged => Fate::Leave,
            _ => Fate::Purge,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn record(policy: DeletionPolicy, missing: Option<&str>) -> PipelineRecord {
        let release = serde_json::json!({
            "name": "support-1",
            "spec": {
                "pipelineRef": {"name": "support"}, "number": 1, "run": "r",
                "index": {"revision": "r", "contentId": "c", "documents": 1, "passages": 1},
                "embedder": {"model": "file://m", "identity": "i"},
            },
            "status": {},
        });
        PipelineRecord {
            uid: "u".to_owned(),
            deletion_policy: policy,
            releases: vec![serde_json::from_value(release).unwrap()],
            missing_since: missing.map(|t| t.parse().unwrap()),
            ..PipelineRecord::default()
        }
    }

    #[test]
    fn the_grace_begins_with_the_first_sighting_and_the_policy_decides_after_it() {
        use DeletionPolicy::{Delete, Retain};
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let fate = |record: &PipelineRecord| sweep(now, record, &Presence::Absent, HOUR);
        for policy in [Retain, Delete] {
            assert_eq!(fate(&record(policy, None)), Fate::Notice);
            let due = "2026-01-01T12:30:00Z".parse().unwrap();
            let waits = fate(&record(policy, Some("2026-01-01T11:30:00Z")));
            assert_eq!(waits, Fate::Wait(due));
        }
        let since = Some("2026-01-01T11:00:00Z");
        assert_eq!(fate(&record(Delete, since)), Fate::Remove);
        assert_eq!(fate(&record(Retain, since)), Fate::Purge);
        let purged = PipelineRecord {
            purged: true,
            ..record(Retain, since)
        };
        assert_eq!(fate(&purged), Fate::Leave);
        let empty = PipelineRecord {
            releases: Vec::new(),
            ..purged
        };
        assert_eq!(fate(&empty), Fate::Remove);
    }

    #[test]
    fn nothing_is_done_where_a_pipeline_may_be() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let gone = record(DeletionPolicy::Delete, Some("2025-01-01T00:00:00Z"));
        let fate = |presence| sweep(now, &gone, &presence, HOUR);
        assert_eq!(fate(Presence::Unknown), Fate::Leave);
        assert_eq!(fate(Presence::Present("other".to_owned())), Fate::Leave);
        assert_eq!(fate(Presence::Present("u".to_owned())), Fate::Return);
        let there = record(DeletionPolicy::Delete, None);
        let present = Presence::Present("u".to_owned());
        assert_eq!(sweep(now, &there, &present, HOUR), Fate::Leave);
    }
}
