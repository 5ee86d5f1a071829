//! Whether what serves is as it was applied, told without reading it.
//!
//! The API server keeps for each writer which fields are theirs, and takes away a field that somebody else sets or
//! removes. So the operator's fields, as a hash, stay the same until somebody meddles. They are remembered in the
//! pointer, together with the hash of what was applied.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use loci_digest::Digest;
use serde_json::Value;

use super::objects::SERVING;
use crate::apply::MANAGER;

/// What was applied, and the fields that became the operator's by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Of all objects as they were applied.
    pub objects: u64,
    /// Of each object's fields, by the place of its kind.
    pub fields: [u64; SERVING.len()],
}

impl Applied {
    /// From its text in the pointer.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('-').map(|n| u64::from_str_radix(n, 16).ok());
        let objects = numbers.next()??;
        let mut fields = [0; SERVING.len()];
        for field in &mut fields {
            *field = numbers.next()??;
        }
        Some(Self { objects, fields })
    }
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.objects)?;
        self.fields.iter().try_for_each(|n| write!(f, "-{n:016x}"))
    }
}

/// The hash of objects as they are to be applied.
pub fn hash(objects: &[Value]) -> u64 {
    short(Digest::of_json(&objects).ok())
}

/// Who applied an object and what, as an annotation of it: the fields are the same whatever they hold.
pub const STAMP: &str = "loci.dev/stamp";

/// Which fields of an object are the operator's, by whom they were applied; 0 for none.
pub fn fields(metadata: &ObjectMeta) -> u64 {
    let mut entries = metadata.managed_fields.iter().flatten();
    let ours = entries.find(|e| {
        e.manager.as_deref() == Some(MANAGER)
            && e.operation.as_deref() == Some("Apply")
            && e.subresource.is_none()
    });
    let fields = ours.and_then(|e| e.fields_v1.as_ref());
    let stamp = metadata.annotations.as_ref().and_then(|a| a.get(STAMP));
    fields.map_or(0, |fields| short(Digest::of_json(&(&fields.0, stamp)).ok()))
}

fn short(digest: Option<Digest>) -> u64 {
    let bytes = digest.and_then(|d| d.as_bytes().first_chunk().copied());
    bytes.map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_applied_can_be_written_down() {
        let applied = Applied {
            objects: hash(&[json!({"kind": "Service"})]),
            fields: [1, 2, 3, u64::MAX, 5, 6, 0],
        };
        assert_eq!(Applied::parse(&applied.to_string()), Some(applied));
        assert_eq!(Applied::parse("12-34"), None);
    }

    #[test]
    fn a_field_that_somebody_else_takes_is_missed() {
        let object = |manager: &str, fields: Value| -> ObjectMeta {
            let entry = json!({"manager": manager, "operation": "Apply", "fieldsV1": fields});
            serde_json::from_value(json!({"managedFields": [entry]})).unwrap()
        };
        let whole = fields(&object(MANAGER, json!({"f:spec": {"f:selector": {}}})));
        let part = fields(&object(MANAGER, json!({"f:spec": {}})));
        assert!(whole != part && whole != 0);
        assert_eq!(fields(&object("somebody", json!({}))), 0);
        let mut stale = object(MANAGER, json!({"f:spec": {"f:selector": {}}}));
        stale.annotations = Some([(STAMP.to_owned(), "of an older leader".to_owned())].into());
        assert_ne!(fields(&stale), whole);
    }
}
