//! Schemas that cannot be derived.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An object of any shape: for fields that a CEL rule refuses by name.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}
