//! The schemas as a cluster gets them: described, bounded, strict; and every CEL rule can refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters;
mod remotes;
mod rules;
mod schema;

use loci_crds::definitions;
use serde_json::Value;

/// The schema of each kind, by file.
fn schemas() -> Vec<(&'static str, Value)> {
    definitions()
        .into_iter()
        .map(|(file, crd)| {
            let crd = serde_json::to_value(crd).unwrap();
            (
                file,
                crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
            )
        })
        .collect()
}

/// Calls `visit` with the path and schema of everything below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&format!("{path}[]"), &schema[inner], visit);
        }
    }
}

fn each_schema(mut visit: impl FnMut(&str, &Value)) {
    for (file, schema) in schemas() {
        walk(file, &schema, &mut visit);
    }
}
